"""A sweep from the command line: what is chosen, what is left behind, what is refused."""

import contextlib
import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.colors import to_hex
from safetensors.numpy import load_file

import funcnet as fn
from funcnet.runs import DivergenceError, TrainConfig, tune
from funcnet.runs import _artifacts as artifacts
from funcnet.runs._console import watch_sweep
from funcnet.runs._sweep import as_table, finite_models, parse_sweep
from funcnet.training import Progress, is_finite, sweep


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


def test_a_model_that_diverged_is_never_kept(tmp_path):
    """Its logits are NaN, which is class 0: right for nine examples of ten, here."""
    lines = []
    config = TrainConfig(
        model="logistic", sweep=("learning_rate=1e-5,0.3", "l2=10"), epochs=8, out=tmp_path
    )
    summary = tune(config, say=lines.append)
    text = (tmp_path / "sweep.json").read_text()
    record = json.loads(text, parse_constant=pytest.fail)  # NaN is no JSON: some readers stop
    assert record["validation_accuracy"][1][-1] > record["validation_accuracy"][0][-1]
    assert record["validation_loss"][1][-1] is record["train_loss"][1][-1] is None
    assert record["train_loss"][0][-1] > 0
    assert summary["learning_rate"] == 1e-5
    assert all(map(is_finite, load_file(tmp_path / "params.safetensors").values()))
    assert [line.endswith("  diverged") for line in lines if "  10  " in line] == [False, True]


@pytest.mark.slow
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
    groups = finite_models(result)
    _, some, none = as_table(result, groups)
    assert [models.tolist() for models in groups] == [[0], []]
    assert some.split("1  ")[-1] == "0.2500 ± 0.0000, 2 of 3 diverged"
    assert none.split("1  ")[-1] == "diverged"


def test_the_models_are_compared_on_examples_they_do_not_learn_from(monkeypatch):
    """And never on the test examples."""
    seen = {}

    def make_task(model, loss, data, *args, validation, **options):
        seen.update(train=data, validation=validation)
        return original(model, loss, data, *args, validation=validation, **options)

    original = sweep.make_task
    monkeypatch.setattr(sweep, "make_task", make_task)
    _ = tune(TrainConfig(sweep=("seed=0:2",), epochs=1), say=lambda line: None)
    digits = fn.data.load("digits")
    pixels = {
        name: {row.tobytes() for row in examples.inputs}
        for name, examples in (*seen.items(), ("test", digits.test))
    }
    assert len(seen["train"].targets) + len(seen["validation"].targets) == 1437
    assert not pixels["validation"] & pixels["train"]
    assert not pixels["test"] & (pixels["validation"] | pixels["train"])


@pytest.mark.slow
def test_the_target_of_logistic_is_swept_as_it_is_trained():
    config = TrainConfig(model="logistic", target=3, sweep=("seed=0:2",), epochs=2)
    assert tune(config, say=lambda line: None)["test_accuracy"] > 0.9


@pytest.mark.parametrize(
    ("specifications", "message"),
    [
        ((), "sweep: expected settings, as learning_rate=0.1,0.3 seed=0:8; got none"),
        (["learning_rte=1"], "sweep: .*Did you mean 'learning_rate'"),
        (["seed=1", "seed=2"], "sweep: expected seed once; got it again in 'seed=2'"),
        (["learning_rate=0.1,x"], "sweep: expected NAME=NUMBER.*got 'learning_rate=0.1,x'"),
        (["seed=0:1:2"], "sweep: expected NAME=NUMBER.*got 'seed=0:1:2'"),
        (["seed=0.5"], "sweep: expected NAME=NUMBER.*got 'seed=0.5'"),
        (["seed"], "sweep: expected NAME=NUMBER.*got 'seed'"),
        (["l2=0:3"], "sweep: expected NAME=NUMBER.*got 'l2=0:3'"),
        (["seed=8:0"], "sweep: expected .* of 1 to 100,000 seeds; got 'seed=8:0'"),
        (["l2=-1"], "sweep: l2: expected numbers that are not negative"),
        (["learning_rate=0.3,0.30000000000000004"], "sweep: learning_rate: .* each number once"),
    ],
)
def test_what_cannot_be_swept(specifications, message):
    with pytest.raises(fn.UsageError, match=message):
        parse_sweep(specifications)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gradients": "hand"}, "gradients: expected jax with --sweep; got hand"),
        ({"on_nonfinite": "skip"}, "on_nonfinite: expected stop with --sweep.*; got skip"),
        ({"learning_rate": 0.2}, "learning_rate: expected none beside --sweep .*; got 0.2. Leave"),
    ],
)
def test_options_that_a_sweep_has_no_use_for(options, message):
    with pytest.raises(fn.UsageError, match=message):
        tune(TrainConfig(sweep=("learning_rate=0.1,0.3",), **options))


def test_each_whole_epoch_is_shown_and_an_option_that_is_not_swept_holds():
    shown = []

    @contextlib.contextmanager
    def watch(epochs):
        yield lambda progress: shown.append((progress.epoch, epochs))

    config = TrainConfig(sweep=("seed=0:2",), learning_rate=0.02, epochs=2)
    summary = tune(config, say=lambda line: None, watch=watch)
    assert shown == [(1, 2), (2, 2)]
    assert summary["learning_rate"] == 0.02


def test_on_a_terminal_a_bar_counts_the_epochs(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    with watch_sweep(2) as show:
        show(Progress(state=(), rows=((), ())))
    assert re.search("epochs.*100%", capsys.readouterr().err)


@pytest.mark.parametrize(("count", "labels"), [(2, 2), (10, 10), (30, 10)])
def test_every_curve_has_a_colour_of_its_own_and_the_legend_fits(count, labels, monkeypatch):
    figures = []
    monkeypatch.setattr(artifacts, "_as_png", lambda figure: figures.append(figure) or b"")
    artifacts.as_sweep_curves(
        {f"setting {i}": np.full([2, 3], i / count) for i in range(count)}, title=""
    )
    lines = figures[0].axes[0].lines
    assert len({to_hex(line.get_color()) for line in lines}) == count
    assert len(figures[0].legends[0].texts) == labels


def test_a_dash_and_an_underscore_are_one():
    assert parse_sweep(["learning-rate=1e-2"]) == {"learning_rates": [0.01]}
