"""The program: what it prints, what it leaves behind, what it refuses, and how it ends."""

import itertools
import json
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import time

import chex
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import funcnet as fn
from funcnet._files import write_whole
from funcnet.runs import TrainConfig, run

TRAIN = str(pathlib.Path(__file__).parents[2] / "scripts" / "train.py")
FILES = {
    "config.json", "metrics.jsonl", "params.safetensors", "curves.png", "summary.json",
    "checkpoints", ".lock",
}  # fmt: skip
FIELDS = {
    "test_accuracy", "test_correct", "test_examples", "test_loss", "train_loss", "epochs",
    "compile_seconds", "train_seconds", "examples_per_second", "device", "dataset", "model",
    "seed", "jax_version",
}  # fmt: skip


@pytest.fixture
def train(monkeypatch, capsys):
    """Runs the script with these arguments; its exit code, and what it wrote to both streams."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", [TRAIN, *map(str, arguments)])
        code = 0
        with jax.numpy_dtype_promotion("standard"):  # optax's Adam needs it
            try:
                runpy.run_path(TRAIN, run_name="__main__")
            except SystemExit as end:
                code = end.code
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def own(tmp_path):
    """A small data set of one's own: two classes of normal vectors."""
    x = np.random.default_rng(0).normal(size=(60, 2)) + 2 * (np.arange(60) % 2)[:, None]
    np.savez(tmp_path / "own.npz", x_train=x, y_train=np.arange(60) % 2)
    return tmp_path / "own.npz"


def test_without_arguments_it_learns_the_digits(train):
    code, out, err = train()
    assert (code, err) == (0, "")
    *_, last = out.splitlines()
    assert last.startswith("test accuracy: 0.9")
    correct, examples = map(int, last.split("(")[1].strip(")").split(" of "))
    assert examples == 360
    assert float(last.split()[2]) == round(correct / 360, 4) >= 0.955


def slow_but(cases, *quick):
    """Parameters of a test; all but the quick ones are slow."""
    marks = {case: () if case in quick else (pytest.mark.slow,) for case in cases}
    as_values = {case: case if isinstance(case, tuple) else (case,) for case in cases}
    return [pytest.param(*as_values[case], marks=marks[case]) for case in cases]


COMBINATIONS = list(
    itertools.product(
        ["logistic", "softmax", "mlp"],
        ["cross_entropy", "squared_error"],
        ["sgd", "momentum", "adam"],
    )
)


@pytest.mark.parametrize(
    ("model", "loss", "optimizer"),
    slow_but(
        COMBINATIONS,
        ("logistic", "cross_entropy", "sgd"),
        ("softmax", "squared_error", "adam"),
        ("mlp", "cross_entropy", "momentum"),
    ),
)
def test_every_combination_learns(train, model, loss, optimizer):
    code, out, _ = train(
        "--model", model, "--loss", loss, "--optimizer", optimizer, "--epochs", 15, "--quiet"
    )
    assert code == 0
    assert len(out.splitlines()) == 1
    assert float(out.split()[2]) > (0.98 if model == "logistic" else 0.9)


@pytest.mark.parametrize("activation", slow_but(fn.activations.ACTIVATIONS, "maxout"))
def test_every_activation_learns(train, activation):
    code, out, _ = train(
        "--model", "mlp", "--hidden", 20, 10, "--activation", activation, "--quiet"
    )
    assert code == 0
    assert float(out.split()[2]) > 0.93


@pytest.mark.parametrize("model", slow_but(["logistic", "softmax", "mlp"], "mlp"))
def test_gradients_by_hand_train_the_same(train, model, tmp_path):
    for gradients in ("jax", "hand"):
        train(
            "--model", model, "--gradients", gradients, "--epochs", 5, "--quiet",
            "--out", tmp_path / gradients,
        )  # fmt: skip
    by_jax, by_hand = (load_file(tmp_path / g / "params.safetensors") for g in ("jax", "hand"))
    chex.assert_trees_all_close(by_jax, by_hand, rtol=1e-3, atol=1e-4)


def test_what_a_run_leaves_behind(train, tmp_path):
    out = tmp_path / "runs" / "a"
    code, printed, _ = train("--epochs", 3, "--seed", 7, "--out", out)
    assert code == 0
    assert {path.name for path in out.iterdir()} == FILES
    summary = json.loads((out / "summary.json").read_text())
    assert summary.keys() >= FIELDS
    assert (summary["epochs"], summary["seed"], summary["model"]) == (3, 7, "softmax")
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in metrics] == [1, 2, 3]
    assert metrics[-1]["test_accuracy"] == summary["test_accuracy"]
    config = json.loads((out / "config.json").read_text())
    assert (config["learning_rate"], config["batch_size"], config["seed"]) == (0.3, 32, 7)
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    rows = [line.split() for line in printed.splitlines() if line.strip()[:1].isdigit()]
    assert [float(row[3]) for row in rows] == [round(m["test_accuracy"], 4) for m in metrics]


def test_the_saved_parameters_are_the_trained_ones(tmp_path):
    result = run(TrainConfig(epochs=3, out=tmp_path), say=lambda line: None)
    saved = load_file(tmp_path / "params.safetensors")
    chex.assert_trees_all_equal(saved, result.params._asdict())
    test = fn.data.load("digits").test
    logits = result.model.apply(result.params, test.inputs)
    correct = int((logits.argmax(axis=-1) == test.targets).sum())
    assert correct == result.summary["test_correct"]


def test_the_same_seed_gives_the_same_bits(train, tmp_path):
    for name, seed in {"a": 1, "b": 1, "c": 2}.items():
        train("--model", "mlp", "--epochs", 2, "--seed", seed, "--quiet", "--out", tmp_path / name)
    a, b, c = ((tmp_path / name / "params.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_own_data(train, own, tmp_path):
    code, out, _ = train("--dataset", own, "--quiet")
    assert code == 0
    assert float(out.split()[2]) >= 0.75
    (tmp_path / "own.csv").write_text(
        "kind,a\n" + "".join(f"{'up' if i > 20 else 'down'},{i}\n" for i in range(40))
    )
    code, out, _ = train("--dataset", tmp_path / "own.csv", "--label-column", "kind", "--quiet")
    assert code == 0
    assert float(out.split()[2]) >= 0.75


@pytest.mark.slow
def test_mnist_in_one_epoch(train, prepared_dir, mnist_dir):
    code, out, _ = train(
        "--dataset", "mnist", "--epochs", 1, "--data-dir", prepared_dir, "--manual-dir", mnist_dir
    )
    assert code == 0
    assert "60,000 training and 10,000 test examples of 28 x 28" in out
    assert float(out.splitlines()[-1].split()[2]) > 0.9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--dataset mnits", "got 'mnits'. Did you mean 'mnist'?"),
        ("--model sofmax", "one of logistic, softmax, mlp; got 'sofmax'. Did you mean 'softmax'?"),
        ("--model mlp --activation rleu", "got 'rleu'. Did you mean 'relu'?"),
        ("--loss hinge", "--loss: expected one of cross_entropy, squared_error; got 'hinge'"),
        ("--optimizer adm", "Did you mean 'adam'?"),
        ("--gradients torch", "--gradients: expected one of jax, hand; got 'torch'"),
        ("--device tpu", "--device: expected one of auto, cpu, gpu; got 'tpu'"),
        ("--batch-size 0", "--batch-size: expected a positive whole number; got 0"),
        ("--batch-size -5", "--batch-size: expected a positive whole number; got -5"),
        ("--batch-size 1438", "expected at most the 1,437 training examples of digits; got 1,438"),
        ("--epochs 0", "--epochs: expected a positive whole number; got 0"),
        ("--model mlp --hidden 32 0", "--hidden: expected a positive whole number; got 0"),
        ("--model mlp --hidden", "--hidden: expected the units of each hidden layer; got none"),
        ("--learning-rate 0", "--learning-rate: expected a positive number; got 0"),
        ("--learning-rate -1", "--learning-rate: expected a positive number; got -1"),
        ("--learning-rate nan", "--learning-rate: expected a positive number; got nan"),
        ("--learning-rate inf", "--learning-rate: expected a positive number; got inf"),
        ("--seed -1", "--seed: expected a whole number from 0"),
        ("--model logistic --target 10", "--target: expected a class from 0 to 9 of digits; got"),
        ("--model logistic --target -1", "--target: expected a class from 0 to 9 of digits; got"),
        ("--target 3", "--target: expected only with --model logistic; got --model softmax"),
        ("--hidden 32", "--hidden: expected only with --model mlp; got --model softmax"),
        ("--model logistic --activation relu", "--activation: expected only with --model mlp"),
        ("--model mlp --pieces 3", "--pieces: expected only with --activation maxout"),
        ("--model mlp --activation maxout --pieces 0", "--pieces: expected a positive whole"),
    ],
)  # fmt: skip
def test_bad_arguments(train, arguments, message, tmp_path):
    code, out, err = train(*arguments.split(), "--out", tmp_path / "out")
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert "test accuracy" not in out
    assert not list(tmp_path.glob("out/*"))


def test_arguments_that_do_not_parse(train):
    for arguments in (["--epochs", "many"], ["--mdel", "mlp"]):
        code, _, err = train(*arguments)
        assert code == 2
        assert arguments[0] in err
        assert "Traceback" not in err


def test_a_gpu_that_is_not_there(train):
    if jax.default_backend() == "cpu":
        code, _, err = train("--device", "gpu")
        assert code == 2
        assert "expected a gpu that JAX can see" in err


def test_a_file_that_is_not_there(train, tmp_path):
    code, _, err = train("--dataset", tmp_path / "none.npz")
    assert code == 1
    assert "none.npz: expected a file; there is none" in err


def test_no_network(train, tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    code, _, err = train("--dataset", "mnist", "--data-dir", tmp_path)
    assert code == 1
    assert "--manual-dir" in err
    assert "--dataset digits" in err


def test_a_folder_that_cannot_be_written_is_found_before_training(train, tmp_path):
    (tmp_path / "file").write_text("")
    code, out, err = train("--out", tmp_path / "file" / "runs")
    assert code == 1
    assert "out: expected a folder that can be written" in err
    assert "epoch" not in out


@pytest.mark.slow
def test_divergence_names_the_step_and_keeps_what_was_reached(train, own, tmp_path):
    """Inputs of 1e18: the first epoch's loss is finite, the second's is not."""
    huge = np.load(own)
    np.savez(own, x_train=huge["x_train"] * 1e18, y_train=huge["y_train"])
    code, out, err = train(
        "--dataset", own, "--model", "mlp", "--loss", "cross_entropy", "--learning-rate", 1e4,
        "--optimizer", "sgd", "--out", tmp_path / "out",
    )  # fmt: skip
    assert code == 1
    assert "the loss became" in err
    assert "Try a smaller learning rate" in err
    epochs = sum(line.strip()[:1].isdigit() for line in out.splitlines())
    assert (tmp_path / "out" / "summary.json").exists() == (epochs > 0)
    assert train("--epochs", 1, "--quiet")[0] == 0


def test_a_failed_run_leaves_no_other_runs_files(train, own, tmp_path):
    assert train("--epochs", 1, "--quiet", "--out", tmp_path / "out")[0] == 0
    bad = ("--dataset", own, "--model", "mlp", "--learning-rate", 1e38, "--out", tmp_path / "out")
    code, _, err = train(*bad)
    assert code == 1
    assert "at step 2 of epoch 1" in err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"config.json", ".lock"}


def test_more_memory_than_there_is(train):
    code, _, err = train("--model", "mlp", "--hidden", 10**9)
    assert code == 1
    assert "Try smaller layers or a smaller batch" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("culprit", ["os.replace", "pathlib.Path.write_bytes"])
def test_a_failed_write_leaves_what_was_there(culprit, tmp_path, monkeypatch):
    def fail(*args):
        raise OSError("disk full")

    write_whole(tmp_path / "a.json", b"old")
    monkeypatch.setattr(culprit, fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(tmp_path / "a.json", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_bytes() == b"old"


class TestProcess:
    """The script as a process of its own: pipes, help, Ctrl-C."""

    def start(self, *arguments, **options):
        return subprocess.Popen(
            [sys.executable, TRAIN, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
        )  # fmt: skip

    def test_help_in_a_narrow_terminal(self):
        process = self.start("--help", env={**os.environ, "COLUMNS": "40"})
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "--learning-rate" in out
        box = out[out.index("╭") :]
        assert max(map(len, box.splitlines())) <= 40

    @pytest.mark.slow
    def test_in_a_pipe_lines_are_plain(self):
        process = self.start("--epochs", "2")
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "\x1b" not in out + err
        assert "\r" not in out + err

    @pytest.mark.slow
    def test_a_reader_who_leaves(self):
        with self.start("--epochs", "300") as process:
            process.stdout.readline()
            process.stdout.close()
            assert "Traceback" not in process.stderr.read()
        assert process.returncode == 1

    @pytest.mark.slow
    def test_ctrl_c(self):
        with self.start("--epochs", "1000000") as process:
            while not process.stdout.readline().strip().startswith("1 "):
                pass
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
        assert process.returncode == 130
        request, message = err.splitlines()
        assert request == "stopping; Ctrl-C stops at once"
        assert message.startswith("error: interrupted: stopped in epoch ")
        assert message.endswith("; nothing is saved, as there is no --out")


def test_a_sweep_is_refused():
    with pytest.raises(fn.UsageError, match=r"sweep: expected None; funcnet\.runs\.tune"):
        _ = run(TrainConfig(sweep=("seed=0:2",)))


def test_a_last_save_that_fails_keeps_no_result_back(tmp_path, monkeypatch):
    def fail(self, progress, *, now=False):
        if now:
            raise OSError("the disk is full")

    monkeypatch.setattr("funcnet.runs._folder.RunFolder.save", fail)
    with pytest.raises(OSError, match="the disk is full"):
        _ = run(TrainConfig(epochs=1, out=tmp_path), say=lambda line: None)
    assert (tmp_path / "params.safetensors").is_file()
