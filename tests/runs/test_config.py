"""The options: what is refused, what is filled in, and what JSON brings back."""

import dataclasses
import inspect
from pathlib import Path

import pytest

import funcnet as fn
from funcnet.runs import TrainConfig, config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "sofmax"}, "^model: expected one of .*; got 'sofmax'. Did you mean 'softmax'"),
        ({"loss": "hinge"}, "^loss: expected one of cross_entropy, squared_error; got 'hinge'"),
        ({"activation": "rleu", "model": "mlp"}, "^activation: expected one of .*; got 'rleu'"),
        ({"on_nonfinite": "rollback"}, "^on_nonfinite: expected one of stop, skip; got 'rollback'"),
        ({"batch_size": 0}, "^batch_size: expected a positive whole number; got 0"),
        ({"keep": -1}, "^keep: expected a positive whole number; got -1"),
        ({"epochs": 2**40}, "^epochs: expected a positive whole number up to 1,073,741,824; got"),
        ({"model": "mlp", "hidden": (3, 0)}, "^hidden: expected a positive whole number; got 0"),
        ({"model": "mlp", "hidden": ()}, "^hidden: expected the units of each hidden layer; got"),
        ({"learning_rate": -1.0}, "^learning_rate: expected a positive number; got -1"),
        ({"learning_rate": float("nan")}, "^learning_rate: expected a positive number; got nan"),
        ({"seed": 2**32}, r"^seed: expected a whole number from 0 to 2\^32 - 1; got 4294967296"),
        ({"target": 3}, "^target: expected only with --model logistic; got --model softmax"),
        ({"pieces": 3, "model": "mlp"}, "^pieces: expected only with --activation maxout. Leave"),
        ({"resume": Path("a"), "out": Path("b")}, "^out: expected the folder of --resume"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(fn.UsageError, match=message):
        config.check(TrainConfig(**options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "logistic", "target": 10}, "^target: expected a class from 0 to 9 of digits"),
        ({"batch_size": 1438}, "^batch_size: expected at most the 1,437 training examples of dig"),
    ],
)
def test_what_is_refused_when_the_data_are_known(options, message):
    with pytest.raises(fn.UsageError, match=message):
        config.with_defaults(TrainConfig(**options), fn.data.load("digits"))


def test_json_brings_every_option_back():
    given = TrainConfig(model="mlp", hidden=(3, 4), out=Path("a"), sweep=("seed=0:2",))
    assert config.from_options(config.as_options(given)) == given


@pytest.mark.parametrize(
    "options", [{"modle": "mlp"}, {"epochs": "x"}, {"model": ["mlp"]}, {"seed": None}, {"out": 3}]
)
def test_what_is_not_the_options_of_a_run(options):
    with pytest.raises(fn.UsageError, match=r"^expected the options of a run; got "):
        config.from_options(options)


def test_options_that_may_change_on_resume_exist():
    fields = {field.name for field in dataclasses.fields(TrainConfig)}
    assert {*config.MAY_CHANGE, *config.CHOICES, *config.OWNERS} <= fields
    stored = TrainConfig()
    config.check_unchanged(stored, TrainConfig(epochs=99, out=Path("a"), quiet=True))
    with pytest.raises(fn.UsageError, match=r"^resume: .* got --hidden 3 4 \(was None\)"):
        config.check_unchanged(stored, TrainConfig(hidden=(3, 4)))


def test_every_option_has_a_help_text():
    source = inspect.getsource(TrainConfig)
    assert source.count('"""') == 2 * (len(dataclasses.fields(TrainConfig)) + 1)
