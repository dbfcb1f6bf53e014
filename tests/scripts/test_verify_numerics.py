"""The verification of the numerics: its ruler, its references, what it notices, how it goes on."""

import importlib
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

SCRIPTS = pathlib.Path(__file__).parents[2] / "scripts"
TINY = 2.0**-126


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("verify_numerics")


@pytest.fixture(params=["alone", pytest.param("beside_pytorch", marks=pytest.mark.slow)])
def accuracy(script, monkeypatch, request):
    """The module; by default PyTorch, whose import takes seconds, counts as not installed."""
    module = script.accuracy
    if request.param == "alone":
        monkeypatch.setattr(module, "_pytorch", lambda name, use: {})
    return module


@pytest.mark.parametrize(
    ("result", "truth", "error"),
    [
        (1.0, 1.0, 0.0),
        (1.0, 1 + 2.0**-24, 0.5),
        (1.0, 1 + 2.0**-23, 1.0),
        (1.0, 1 - 2.0**-24, 1.0),  # below a power of two ULP are half as large
        (-3.0, 3.0, 6 * 2.0**22),
        (0.0, TINY / 3, 0.0),  # flushed to zero, as it may be
        (0.0, TINY + 3 * 2.0**-149, 3.0),
        (TINY, TINY / 2, 2.0**22),
        (0.0, 1.0, 2.0**23),
        (np.inf, np.inf, 0.0),
        (np.inf, 1.0, np.inf),
    ],
)
def test_the_ruler(script, float64, result, truth, error):
    assert script.accuracy.ulps(jnp.float32([result]), jnp.array([truth])).tolist() == [error]


EXACT = {  # in NumPy's long double, by other formulas
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "sigmoid'": lambda x: 1 / (2 + 2 * np.cosh(x)),
    "tanh": np.tanh,
    "tanh'": lambda x: 1 / np.cosh(x) ** 2,
    "relu": lambda x: (x + np.abs(x)) / 2,
    "relu'": lambda x: np.heaviside(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, x / 10),
    "leaky_relu'": lambda x: np.heaviside(x, 0) * 9 / 10 + np.longdouble(1) / 10,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "elu'": lambda x: np.minimum(np.exp(x), 1),
}


def test_the_references_are_those_of_numpy(script, float64):
    accuracy = script.accuracy
    x = accuracy.stratified(2**14, seed=1).view(np.float32)
    x = x[np.isfinite(x) & (abs(x) >= TINY) & (abs(x) < 100)]
    assert EXACT.keys() == accuracy.QUANTITIES.keys()
    for name, exact in EXACT.items():
        truth = accuracy.QUANTITIES[name].truth(jnp.asarray(x, jnp.float64))
        np.testing.assert_allclose(
            truth, np.float64(exact(np.longdouble(x))), rtol=1e-14, err_msg=name
        )


def test_a_sample_holds_the_ends_of_every_exponent(script):
    x = script.accuracy.stratified(2**12, seed=0).view(np.float32)
    for number in (0.0, TINY, 1.0, np.nextafter(np.float32(1), 0), np.inf, np.finfo("f4").max):
        assert {number, -number} <= set(x.tolist())
    assert len(x) == 2**12


FEW = ("tanh'", "elu")
ALL = pytest.param(tuple(EXACT), marks=pytest.mark.slow, id="all")


@pytest.mark.parametrize("names", [FEW, ALL])
def test_funcnet_is_never_worse_than_jax(script, accuracy, tmp_path, capsys, monkeypatch, names):
    monkeypatch.setattr(script, "QUANTITIES", names)
    script.main(script.Options(sample=100_000, out=tmp_path / "report.json"))
    report = json.loads((tmp_path / "report.json").read_text())
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].startswith("99,840 inputs")
    assert tuple(report["worst"]) == names
    rivals = {contestant for worst in report["worst"].values() for contestant in worst}
    assert ("PyTorch" in rivals) == bool(accuracy._pytorch("tanh", None))
    for name, worst in report["worst"].items():
        assert f"| `{name}` |" in printed
        assert worst["funcnet"]["ulp"] < 6
    assert report["worst"]["tanh'"]["jax.nn"]["ulp"] > 1e7  # its tail is lost


@pytest.mark.parametrize(
    ("name", "function", "message"),
    [
        ("sigmoid", lambda x: jax.nn.sigmoid(x).astype(jnp.bfloat16), "sigmoid: .* at "),
        ("tanh'", lambda x: jnp.where(x == 0, jnp.nan, 1), "1 nans|2 nans"),
        ("elu", lambda x: jnp.where(x == -jnp.inf, -1.5, jax.nn.elu(x)), "1 outside"),
    ],
)
def test_what_is_wrong_is_noticed(script, accuracy, monkeypatch, name, function, message):
    genuine = accuracy.contestants
    monkeypatch.setattr(script, "QUANTITIES", [name])
    monkeypatch.setattr(
        accuracy,
        "contestants",
        lambda name: {**genuine(name), "funcnet": lambda x: function(x).astype(jnp.float32)},
    )
    with jax.numpy_dtype_promotion("standard"), pytest.raises(SystemExit, match=message):
        script.main(script.Options(sample=2**14))


def test_an_interrupted_run_goes_on(script, accuracy, monkeypatch, tmp_path):
    monkeypatch.setattr(script, "QUANTITIES", ["relu"])
    monkeypatch.setattr(script, "BLOCK", 2**16)
    options = script.Options(out=tmp_path / "report.json")

    def interrupted(numbers, unit):
        yield from list(numbers)[:2]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(script, "watch_count", interrupted)
        with pytest.raises(KeyboardInterrupt):
            script.main(options)
    report = script.begin(options)
    assert report.verified == 2 * script.BLOCK
    assert report.worst["relu"]["funcnet"].ulp == 0
    assert next(script.blocks(options, report.verified))[0] == 2 * script.BLOCK
    assert next(script.blocks(options, 2**32 - script.BLOCK))[-1] == 2**32 - 1
    script.main(script.Options(sample=1024))  # which has a report of its own


@pytest.mark.parametrize("content", ['{"subject": {"jax": "0.1"}}', '{"subj', "[]"])
def test_another_report_is_refused(script, tmp_path, content):
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(ValueError, match=r"expected a new file, or a report on .*'jax'"):
        script.begin(script.Options(out=tmp_path / "report.json"))
