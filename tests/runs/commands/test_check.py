"""The command `check`: what it checks, what it refuses, and that it notices a wrong gradient."""

import json
import sys

import jax
import jax.numpy as jnp
import pytest

from funcnet import chain_rule, models
from funcnet.runs.commands import check
from funcnet.runs.commands.check import TOLERANCES, Case, Options, all_cases, load_batches


@pytest.fixture
def command(monkeypatch, capsys):
    """Run the command on these cases alone: its exit code, and the text on both streams."""

    def call(*arguments, cases=()):
        monkeypatch.setattr(check, "all_cases", lambda batches, seed, dtype: cases)
        monkeypatch.setattr(sys, "argv", ["funcnet check", *map(str, arguments)])
        code = 0
        try:
            check.command()
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return call


def as_case(name, dtype, hand):
    return Case(
        name=name,
        batch="random",
        dtype=dtype,
        function=lambda x: jnp.sum(x**2),
        hand=hand,
        args=(jnp.arange(1.0, 4.0),),
    )


def test_every_model_with_every_loss_and_activation_is_a_case():
    names = [case.name for case in all_cases(load_batches(Options()), 0, "float32")]
    activations = chain_rule.DERIVATIVES
    of_models = sum(
        len(losses) * (len(activations) if model == "mlp" else 1)
        for model, losses in models.FITTING_LOSSES.items()
    )
    assert len(set(names)) == len(activations) + len(chain_rule.LOSS_GRADIENTS) + of_models
    assert len(names) == len(set(names)) + of_models  # the models on two batches


def test_a_right_and_a_wrong_gradient(command, tmp_path):
    right = as_case("right", "float32", lambda x: 2 * x)
    wrong = as_case("wrong", "float64", lambda x: -2 * x)
    assert [check.check(case, 0).verdict for case in (right, wrong)] == ["pass", "fail"]
    path = tmp_path / "report.json"
    code, _, _ = command("--out", path, cases=[])
    assert (code, json.loads(path.read_text())["rows"]) == (0, [])
    both = [wrong, wrong._replace(dtype="float32")]
    code, out, err = command("--out", path, cases=both)
    assert "0 of 4 pass" in out
    assert code.startswith("error: expected every gradient to pass")  # `sys.exit` prints it
    assert "sign flipped" in code
    assert err == ""
    assert {row["verdict"] for row in json.loads(path.read_text())["rows"]} == {"fail"}


def test_products_have_float32s_digits_on_every_device(command):
    """A GPU would multiply with fewer, if it were not asked."""
    asked = set()

    def square(x):
        asked.add(jax.config.jax_default_matmul_precision)
        return x @ x

    case = as_case("square", "float32", lambda x: 2 * x)
    case = case._replace(function=square, args=(jnp.ones(3),))
    assert command(cases=[case, case._replace(dtype="float64")])[0] == 0
    assert asked == {"float32"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-size", 0], "--batch-size: expected at least 1; got 0"),
        (["--out", "report.txt"], "--out: expected a name ending in .json; got 'report.txt'"),
        (["--out", "no/report.json"], "--out: expected a file in a folder that exists"),
        (["--dataset", "moon"], "--dataset: expected"),
    ],
)
def test_bad_arguments(command, arguments, message):
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def some_cases(dtype):
    """A case of each kind; a model's cases are made one by one, up to the one that is named."""
    batch = load_batches(Options(batch_size=3))["random"]
    for name, cases in {
        "elu": check.activation_cases(3, 0, dtype),
        "softmax_squared_error": check.loss_cases(3, 0, dtype),
        "softmax_regression, softmax_cross_entropy": check.model_cases("random", *batch, 0, dtype),
    }.items():
        yield next(case for case in cases if case.name == name)


@pytest.mark.parametrize("dtype", [pytest.param("float64", marks=pytest.mark.slow), "float32"])
def test_one_of_each_kind_passes(dtype):
    with jax.enable_x64(dtype == "float64"):
        for report in (check.check(case, 0) for case in some_cases(dtype)):
            assert (report.verdict, report.error <= TOLERANCES[dtype]) == ("pass", True)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_perceptron_passes(dtype):
    batch = load_batches(Options())["random"]
    with jax.enable_x64(dtype == "float64"):
        cases = {case.name: case for case in check.model_cases("random", *batch, 0, dtype)}
        report = check.check(cases["mlp maxout, softmax_cross_entropy"], 0)
    assert (report.verdict, report.error <= TOLERANCES[dtype]) == ("pass", True)
