"""scripts/check_gradients.py: what it checks, what it refuses, and that it notices a wrong one."""

import json
import pathlib
import runpy
import sys

import jax
import jax.numpy as jnp
import pytest

import funcnet as fn
from funcnet import chain_rule, models

SCRIPT = str(pathlib.Path(__file__).parents[2] / "scripts" / "check_gradients.py")


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(SCRIPT)


@pytest.fixture
def program(monkeypatch, capsys, script):
    """Runs the script on these cases alone; its exit code, and what it wrote to both streams."""

    def call(*arguments, cases=()):
        main = script["main"]
        monkeypatch.setitem(main.__globals__, "cases", lambda loaded, seed, dtype: cases)
        monkeypatch.setattr(sys, "argv", [SCRIPT, *map(str, arguments)])
        code = 0
        try:
            fn.console.run_program(script["Options"], main)
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return call


def test_every_model_with_every_loss_and_activation_is_a_case(script):
    loaded = script["batches"](script["Options"]())
    names = [case.name for case in script["cases"](loaded, 0, "float32")]
    assert len(names) == len(set(names)) + 17  # the models on two batches
    activations = chain_rule.DERIVATIVES
    fitting = models.FITTING_LOSSES
    of_models = sum(
        len(losses) * (len(activations) if model == "mlp" else 1)
        for model, losses in fitting.items()
    )
    assert len(names) == len(activations) + len(chain_rule.LOSS_GRADIENTS) + 2 * of_models


def test_a_right_and_a_wrong_gradient(program, script, tmp_path):
    x = jnp.arange(1.0, 4.0)
    right, wrong = (
        script["Case"](name, "random", dtype, lambda x: jnp.sum(x**2), hand, x)
        for name, dtype, hand in [
            ("right", "float32", lambda x: 2 * x),
            ("wrong", "float64", lambda x: -2 * x),
        ]
    )
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "report.json"
    rows = [script["check"](right, 0), script["check"](wrong, 0)]
    assert [row.verdict for row in rows] == ["pass", "fail"]
    code, out, err = program("--out", path, cases=[])
    assert (code, json.loads(path.read_text())["rows"]) == (0, [])
    code, out, err = program("--out", path, cases=[wrong, wrong._replace(dtype="float32")])
    assert code == 1
    assert "sign flipped" in err
    assert "Traceback" not in err
    assert {row["verdict"] for row in json.loads(path.read_text())["rows"]} == {"fail"}
    assert "0 of 4 pass" in out


def test_products_have_float32s_digits_on_every_device(program, script):
    """A GPU would multiply with fewer, if it were not asked."""
    asked = set()

    def square(x):
        asked.add(jax.config.jax_default_matmul_precision)
        return x @ x

    case = script["Case"]("square", "random", "float32", square, lambda x: 2 * x, jnp.ones(3))
    program(cases=[case, case._replace(dtype="float64")])
    assert asked == {"float32"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-size", 0], "--batch-size: expected at least 1; got 0"),
        (["--out", "report.txt"], "--out: expected a name ending in .json; got 'report.txt'"),
        (["--out", "no/report.json"], "--out: expected a file in a folder that exists"),
        (["--dataset", "moon"], "dataset: expected"),
    ],
)
def test_bad_arguments(program, arguments, message):
    code, out, err = program(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_one_of_each_kind_passes(script, dtype):
    loaded = script["batches"](script["Options"]())
    with jax.enable_x64(dtype == "float64"):
        cases = {case.name: case for case in script["cases"](loaded, 0, dtype)}
        for name in ("elu", "softmax_squared_error", "mlp maxout, softmax_cross_entropy"):
            row = script["check"](cases[name], 0)
            assert (row.verdict, row.error <= script["TOLERANCES"][dtype]) == ("pass", True)
