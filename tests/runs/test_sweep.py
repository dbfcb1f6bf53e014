"""A sweep from the command line: what is chosen, what is left behind, what is refused."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import funcnet as fn
from funcnet.runs._divergence import DivergenceError
from funcnet.runs._sweep import as_table, group_by_setting, is_finite_model, parse_sweep, tune
from funcnet.runs.config import TrainConfig
from funcnet.training import _sweep as sweep
from funcnet.training._step import is_finite


def test_the_best_setting_is_kept_and_tested_once(tmp_path):
    lines = []
    config = TrainConfig(
        sweep=("learning_rate=0.001,0.3", "seed=0:3", "l2=0,0.5"), epochs=3, out=tmp_path
    )
    summary = tune(config, say=lines.append)
    assert (summary["learning_rate"], summary["l2"], summary["models"]) == (0.3, 0.0, 12)
    assert summary["test_accuracy"] > 0.85
    assert json.loads((tmp_path / "summary.json").read_text()) == summary

    record = json.loads((tmp_path / "sweep.json").read_text())
    assert np.shape(record["validation_accuracy"]) == (12, 3)
    last = np.array(record["validation_accuracy"])[:, -1]
    rows = [line for line in lines if "±" in line][1:]
    assert len(rows) == 4
    for index, row in enumerate(rows):  # the seeds of a setting lie side by side
        models = last[3 * index : 3 * index + 3]
        assert f"{models.mean():.4f} ± {models.std():.4f}" in row
    assert record["learning_rate"] == [0.001] * 6 + [0.3] * 6  # as they were written
    best = [i for i in range(12) if record["learning_rate"][i] == 0.3 and record["l2"][i] == 0]
    assert summary["validation_accuracy"] == max(last[best])

    params = load_file(tmp_path / "params.safetensors")
    logits = fn.data.load("digits").test.inputs @ params["weight"].T + params["bias"][None]
    right = logits.argmax(axis=1) == fn.data.load("digits").test.targets
    assert right.sum() == summary["test_correct"]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_model_that_diverges_leaves_records_that_every_reader_takes(tmp_path):
    tune(TrainConfig(sweep=("learning_rate=0.3,1e38",), epochs=2, out=tmp_path), say=lambda _: None)
    losses = json.loads((tmp_path / "sweep.json").read_text(), parse_constant=pytest.fail)
    assert losses["train_loss"][0][-1] > 0
    assert losses["train_loss"][1][-1] is None


def test_a_model_that_diverged_is_never_kept(tmp_path):
    """Its logits are NaN, which is class 0: right for nine examples of ten, here."""
    lines = []
    config = TrainConfig(
        model="logistic", sweep=("learning_rate=1e-5,0.3", "l2=10"), epochs=8, out=tmp_path
    )
    summary = tune(config, say=lines.append)
    record = json.loads((tmp_path / "sweep.json").read_text())
    assert record["validation_accuracy"][1][-1] > record["validation_accuracy"][0][-1]
    assert record["validation_loss"][1][-1] is None
    assert summary["learning_rate"] == 1e-5
    assert all(map(is_finite, load_file(tmp_path / "params.safetensors").values()))
    assert [line.endswith("  diverged") for line in lines if "  10  " in line] == [False, True]


def test_where_every_model_diverges_none_is_kept(tmp_path):
    config = TrainConfig(sweep=("learning_rate=1e38,2e38", "seed=0:2"), epochs=1, out=tmp_path)
    with pytest.raises(DivergenceError, match="all 4 models diverged: no validation loss is fin"):
        tune(config, say=lambda line: None)
    assert {path.name for path in tmp_path.iterdir()} <= {"config.json", "checkpoints", ".lock"}


def test_the_table_counts_models_that_diverged_and_leaves_them_out_of_the_mean():
    nan = float("nan")
    result = sweep.SweepResult(
        settings=sweep.combinations([0.1, 0.5], seeds=range(3)),
        params=jnp.array([1.0, nan, 1.0, 1.0, 1.0, jnp.inf]),
        train_loss=jnp.ones([6, 1]),
        validation_loss=jnp.array([[1.0], [1.0], [nan], [nan], [nan], [1.0]]),
        validation_accuracy=jnp.array([[0.25], [0.5], [0.75], [0.5], [0.5], [0.5]]),
    )
    finite = is_finite_model(result)
    _, some, none = as_table(group_by_setting(result), result, finite)
    assert finite.tolist() == [True] + 5 * [False]
    assert some.split("1  ")[-1] == "0.2500 ± 0.0000, 2 of 3 diverged"
    assert none.split("1  ")[-1] == "diverged"


def test_the_models_are_compared_on_examples_they_do_not_learn_from(monkeypatch):
    """And never on the test examples."""
    seen = {}

    def fit(model, loss, data, *, validation, **options):
        seen.update(train=data, validation=validation)
        return original(model, loss, data, validation=validation, **options)

    original = sweep.fit
    monkeypatch.setattr(sweep, "fit", fit)
    _ = tune(TrainConfig(sweep=("seed=0:2",), epochs=1), say=lambda line: None)
    digits = fn.data.load("digits")
    pixels = {
        name: {row.tobytes() for row in examples.inputs}
        for name, examples in (*seen.items(), ("test", digits.test))
    }
    assert len(seen["train"].targets) + len(seen["validation"].targets) == 1437
    assert not pixels["validation"] & pixels["train"]
    assert not pixels["test"] & (pixels["validation"] | pixels["train"])


def test_the_target_of_logistic_is_swept_as_it_is_trained():
    config = TrainConfig(model="logistic", target=3, sweep=("seed=0:2",), epochs=2)
    assert tune(config, say=lambda line: None)["test_accuracy"] > 0.9


@pytest.mark.parametrize(
    ("specifications", "message"),
    [
        ((), "--sweep: expected one of learning_rate, seed, l2, scale; got ''"),
        (["learning_rte=1"], "--sweep: .*Did you mean 'learning_rate'"),
        (["seed=1", "seed=2"], "--sweep: expected seed once; got it again in 'seed=2'"),
        (["learning_rate=0.1,x"], "--sweep: expected NAME=NUMBER.*got 'learning_rate=0.1,x'"),
        (["seed=0:1:2"], "--sweep: expected NAME=NUMBER.*got 'seed=0:1:2'"),
        (["seed=0.5"], "--sweep: expected NAME=NUMBER.*got 'seed=0.5'"),
        (["seed"], "--sweep: expected NAME=NUMBER.*got 'seed'"),
        (["l2=0:3"], "--sweep: expected NAME=NUMBER.*got 'l2=0:3'"),
        (["seed=8:0"], "--sweep: expected .* of 1 to 100,000 seeds; got 'seed=8:0'"),
        (["l2=-1"], "--sweep l2: expected numbers that are not negative"),
        (["learning_rate=0.3,0.30000000000000004"], "--sweep learning_rate: .* each number once"),
    ],
)
def test_what_cannot_be_swept(specifications, message):
    with pytest.raises(ValueError, match=message):
        parse_sweep(specifications)


def test_gradients_by_hand_are_not_swept():
    with pytest.raises(ValueError, match="--gradients: expected jax with --sweep; got hand"):
        tune(TrainConfig(sweep=("seed=0:2",), gradients="hand"))


def test_a_dash_and_an_underscore_are_one():
    assert parse_sweep(["learning-rate=1e-2"]) == {"learning_rates": [0.01]}
