"""A run that was stopped goes on to the very bits of one that was not."""

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import funcnet as fn
from funcnet._files import write_whole
from funcnet.runs import Stopped, TrainConfig, run, stored_config, tune
from funcnet.runs import _folder as folders
from funcnet.training import Progress, checkpoint

TRAIN = str(pathlib.Path(__file__).parents[2] / "scripts" / "train.py")
TIMES = ("seconds", "examples_per_second", "compile_seconds", "train_seconds")
"""What two equal runs may differ in."""

SWEEP = {"sweep": ("learning_rate=0.03,0.3", "seed=0:3"), "epochs": 4}
KINDS = {
    "sgd": {"optimizer": "sgd"},
    "momentum": {"optimizer": "momentum"},
    "adam": {"optimizer": "adam", "model": "mlp", "hidden": (8,)},
    "hand": {"gradients": "hand", "model": "mlp", "hidden": (8,)},
    "skip": {"on_nonfinite": "skip"},
    "sweep": SWEEP,
}


def quick(kinds, *names):
    """Parameters of a test; all but the named ones are slow."""
    return [kind if kind in names else pytest.param(kind, marks=pytest.mark.slow) for kind in kinds]


def quietly(config, **options):
    program = run if config.sweep is None else tune
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam needs it
        return program(config, **{"say": lambda line: None, **options})


def left_behind(folder):
    """All that is to be equal: the bytes of the parameters, the metrics but for timings."""
    record = {"params": (folder / "params.safetensors").read_bytes()}
    for name in ("metrics.jsonl", "summary.json", "sweep.json"):
        if (folder / name).exists():
            text = (folder / name).read_text()
            lines = text.splitlines() if name == "metrics.jsonl" else [text]
            records = map(json.loads, lines)
            record[name] = [{k: v for k, v in r.items() if k not in TIMES} for r in records]
    return record


@pytest.fixture(autouse=True, scope="module")
def compiled_once(tmp_path_factory):
    """The runs of these tests compile the same few programs, again and again."""
    options = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    before = {name: getattr(jax.config, name) for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture
def every_epoch(monkeypatch):
    """Saves after each call; an epoch takes several."""
    monkeypatch.setattr(folders, "EVERY", 0)
    monkeypatch.setattr("funcnet.training._epoch.LONGEST", 3_000_000)


class StopAt:
    """Says to stop after so many calls of the compiled epoch."""

    def __init__(self, count):
        self.left = count

    def __call__(self):
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("kind", quick(KINDS, "sweep"))
def test_stopped_and_resumed_it_ends_with_the_same_bits(kind, tmp_path, every_epoch):
    """Stopped after a few calls, again and again, within epochs and between them."""
    config = TrainConfig(**{"epochs": 4, **KINDS[kind]})
    quietly(dataclasses.replace(config, out=tmp_path / "whole"))
    expected = left_behind(tmp_path / "whole")
    config, stops = dataclasses.replace(config, out=tmp_path / "a"), 0
    for count in (1, 3, 2, 1, 1000):
        try:
            quietly(config, stop=StopAt(count))
        except Stopped:
            stops += 1
            config = stored_config(tmp_path / "a")
        else:
            break
    assert stops == 4
    assert left_behind(tmp_path / "a") == expected


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["momentum", "sweep"])
def test_more_epochs_go_on(kind, tmp_path, every_epoch):
    config = TrainConfig(**{**KINDS[kind], "epochs": 5})
    quietly(dataclasses.replace(config, out=tmp_path / "whole"))
    quietly(dataclasses.replace(config, epochs=2, out=tmp_path / "a"))
    said = []
    quietly(dataclasses.replace(stored_config(tmp_path / "a"), epochs=5), say=said.append)
    assert "resumed: 2 of 5 epochs are behind" in said
    assert left_behind(tmp_path / "a") == left_behind(tmp_path / "whole")
    with pytest.raises(ValueError, match="epochs: expected at least the 5 that are behind"):
        quietly(dataclasses.replace(stored_config(tmp_path / "a"), epochs=4))


def test_a_finished_run_says_so(tmp_path):
    quietly(TrainConfig(epochs=2, out=tmp_path / "a"))
    before, said = left_behind(tmp_path / "a"), []
    result = quietly(stored_config(tmp_path / "a"), say=said.append)
    assert "finished: all 2 epochs are behind; --epochs asks for more" in said
    assert left_behind(tmp_path / "a") == before
    assert len(result.history) == 2


def test_the_last_checkpoints_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "EVERY", 0)
    quietly(TrainConfig(epochs=6, keep=2, out=tmp_path / "a"))
    names = sorted(os.listdir(tmp_path / "a" / "checkpoints"))
    assert names == [f"{5 * 45}.safetensors", f"{6 * 45}.safetensors"]


def test_a_short_run_is_saved_once_at_its_end(tmp_path):
    quietly(TrainConfig(epochs=6, out=tmp_path / "a"))
    assert os.listdir(tmp_path / "a" / "checkpoints") == [f"{6 * 45}.safetensors"]


def stopped_run(folder, calls=2, **options):
    with pytest.raises(Stopped):
        quietly(TrainConfig(**{"epochs": 4, **options}, out=folder), stop=StopAt(calls))


def damage(path, *, cut, rng):
    """Flips a bit of a file, or cuts it off."""
    content = bytearray(path.read_bytes())
    at = rng.integers(len(content))
    content[at] ^= 1 << rng.integers(8)
    path.write_bytes(content[:at] if cut else content)


@pytest.mark.parametrize("cut", [False, True])
def test_a_damaged_checkpoint_is_passed_over_and_said(cut, tmp_path, every_epoch):
    quietly(TrainConfig(epochs=4, out=tmp_path / "whole"))
    stopped_run(tmp_path / "a", calls=6)
    paths, rng = folders.checkpoints(tmp_path / "a"), np.random.default_rng(0)
    damage(paths[0], cut=cut, rng=rng)
    said = []
    quietly(stored_config(tmp_path / "a"), say=said.append)
    (line,) = [line for line in said if line.startswith("passed over: ")]
    assert str(paths[0]) in line
    assert "It is damaged." in line
    assert left_behind(tmp_path / "a") == left_behind(tmp_path / "whole")
    for path in folders.checkpoints(tmp_path / "a"):
        damage(path, cut=cut, rng=rng)
    with pytest.raises(fn.UsageError, match=r"expected a whole checkpoint; got .*safetensors: "):
        stored_config(tmp_path / "a")


def test_a_folder_of_the_old_layout_is_refused_and_nothing_is_removed(tmp_path):
    quietly(TrainConfig(epochs=1, out=tmp_path / "a"))
    (tmp_path / "a" / "checkpoints" / "45.safetensors").unlink()
    (tmp_path / "a" / "checkpoints" / "45").mkdir()
    (tmp_path / "a" / "checkpoints" / "45" / "manifest.json").write_text("{}")
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    for attempt in (
        lambda: stored_config(tmp_path / "a"),
        lambda: quietly(TrainConfig(epochs=1, out=tmp_path / "a")),
    ):
        with pytest.raises(fn.UsageError, match="45 is a folder, as an earlier funcnet wrote it"):
            attempt()
    assert before == {p: p.is_file() and p.read_bytes() for p in tmp_path.rglob("*")}


def test_files_that_no_run_wrote_stay(tmp_path):
    quietly(TrainConfig(epochs=1, out=tmp_path / "a"))
    theirs = ["notes.txt", ".mine.1", "checkpoints/best.safetensors", "checkpoints/.45.safetensors"]
    ours = [".config.json.123", "checkpoints/.45.safetensors.123"]
    for name in theirs + ours:
        (tmp_path / "a" / name).write_text("theirs")
    quietly(TrainConfig(epochs=1, seed=1, out=tmp_path / "a"))
    assert {(tmp_path / "a" / name).read_text() for name in theirs} == {"theirs"}
    assert not any((tmp_path / "a" / name).exists() for name in ours)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.1}, r"resume: .*learning.rate 0\.1 \(was 0\.3\)\. Leave"),
        ({"seed": 3, "batch_size": 8}, r"batch.size 8 \(was 32\), .*seed 3 \(was 0\)"),
        ({"model": "mlp", "hidden": (4, 4)}, r"hidden 4 4 \(was None\)"),
        ({"out": pathlib.Path("b")}, r"out: expected the folder of --resume, or nothing; got b"),
        ({"keep": 0}, r"keep: expected a positive whole number; got 0"),
        ({"on_nonfinite": "skp"}, r"on.nonfinite: expected one of .*Did you mean 'skip'"),
    ],
)  # fmt: skip
def test_other_options_are_refused(options, message, tmp_path):
    stopped_run(tmp_path / "a")
    with pytest.raises(ValueError, match=message):
        quietly(dataclasses.replace(stored_config(tmp_path / "a"), **options))


def test_options_that_may_change(tmp_path):
    stopped_run(tmp_path / "a")
    changed = {"device": "cpu", "keep": 1, "on_nonfinite": "skip", "epochs": 7}
    result = quietly(dataclasses.replace(stored_config(tmp_path / "a"), **changed))
    assert len(result.history) == 7


def test_other_data_are_refused(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 2))
    data = {"x_train": x, "y_train": np.arange(60) % 2}
    np.savez(tmp_path / "own.npz", **data)
    stopped_run(tmp_path / "a", dataset=str(tmp_path / "own.npz"))
    x[7, 1] += 1e-3
    np.savez(tmp_path / "own.npz", **data)
    with pytest.raises(ValueError, match="resume: expected the data that the run began with"):
        quietly(stored_config(tmp_path / "a"))


def test_an_unfinished_run_is_not_overwritten(tmp_path):
    stopped_run(tmp_path / "a")
    with pytest.raises(ValueError, match=f"Go on with it by --resume {tmp_path / 'a'}, or choose"):
        quietly(TrainConfig(out=tmp_path / "a"))
    quietly(stored_config(tmp_path / "a"))
    quietly(TrainConfig(epochs=1, out=tmp_path / "a"))  # a finished one is
    assert len((tmp_path / "a" / "metrics.jsonl").read_text().splitlines()) == 1


def test_nothing_to_resume(tmp_path):
    with pytest.raises(FileNotFoundError, match="resume: expected the folder of a run"):
        stored_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json: "):
        stored_config(tmp_path)


def test_two_runs_in_one_folder(tmp_path):
    """The second is refused, whoever asks; when the first has ended, it may."""
    seen = []

    @contextlib.contextmanager
    def watch(epochs):
        def show(progress):
            with pytest.raises(BlockingIOError, match="in which no other run is going on"):
                quietly(TrainConfig(out=tmp_path / "a"))
            seen.append((progress.epoch, epochs))

        yield show

    quietly(TrainConfig(epochs=1, out=tmp_path / "a"), watch=watch)
    assert seen == [(1, 1)]
    quietly(TrainConfig(epochs=1, out=tmp_path / "a"))


@pytest.mark.parametrize("at", [1, 3])
def test_a_save_that_fails_stops_the_run_and_leaves_the_earlier_ones(at, tmp_path, monkeypatch):
    """The disk is full from the second save on, or the fourth; later there is room again."""
    monkeypatch.setattr(folders, "EVERY", 0)
    writes = iter(range(1000))

    def write(path, content):
        if next(writes) >= at:
            raise OSError(28, "No space left on device")
        write_whole(path, content)

    monkeypatch.setattr("funcnet.training._checkpoint.write_whole", write)
    with pytest.raises(OSError, match=r"\d+.safetensors: expected to save a checkpoint there; got"):
        quietly(TrainConfig(epochs=100_000, out=tmp_path / "a"))
    saved = folders.newest(tmp_path / "a")
    assert len(folders.checkpoints(tmp_path / "a")) == min(at, 3)
    lines = (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == saved.record["epochs"] == at
    monkeypatch.undo()
    result = quietly(dataclasses.replace(stored_config(tmp_path / "a"), epochs=len(lines) + 2))
    assert len(result.history) == len(lines) + 2


def add(folder, step, number, keep=1):
    """A checkpoint that a number tells apart."""
    (folder / "checkpoints").mkdir(exist_ok=True)
    progress = Progress(state=np.array(number), losses=np.zeros(0), step=step)
    folders.add_checkpoint(folder, progress, {"number": number}, keep=keep)


def numbers(folder):
    return [checkpoint.read_record(path)["number"] for path in folders.checkpoints(folder)]


def test_a_checkpoint_of_the_same_step_replaces_the_one_before(tmp_path):
    for number in range(3):
        add(tmp_path, 7, number, keep=3)
    assert numbers(tmp_path) == [2]
    add(tmp_path, 10, 3, keep=2)
    add(tmp_path, 9, 4, keep=2)  # a resumed run passed 10 over
    assert numbers(tmp_path) == [4, 2]


def test_a_save_that_fails_leaves_the_one_of_its_own_step(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(28, "No space left on device")

    add(tmp_path, 7, 2)
    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match=r"No space left on device\. Earlier checkpoints are whole"):
        add(tmp_path, 7, 3)
    assert numbers(tmp_path) == [2]


@pytest.mark.parametrize(("name", "path"), [("os.replace", "8"), ("pathlib.Path.unlink", "7")])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_save_that_is_killed_loses_nothing(name, path, when, tmp_path, monkeypatch):
    """As the new checkpoint gets its name, and as the old one is removed."""
    add(tmp_path, 7, 2)
    original = {"os.replace": os.replace, "pathlib.Path.unlink": pathlib.Path.unlink}[name]

    def killed(*args, **options):
        is_ours = args[-1].name == f"{path}.safetensors"
        if not is_ours or when == "after":
            original(*args, **options)
        if is_ours:
            raise SystemExit

    monkeypatch.setattr(name, killed)
    with pytest.raises(SystemExit):
        add(tmp_path, 8, 3)
    monkeypatch.undo()
    assert numbers(tmp_path)[0] == (2 if (name, when) == ("os.replace", "before") else 3)
    add(tmp_path, 8, 4)
    assert numbers(tmp_path) == [4]


class TestProcess:
    """The script as a process of its own, and the signals that it gets."""

    @staticmethod
    def start(*arguments):
        return subprocess.Popen(
            [sys.executable, TRAIN, *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    @staticmethod
    def until_it_trains(process):
        while not process.stdout.readline().strip().startswith("1 "):
            assert process.poll() is None

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("number", "code"),
        [(signal.SIGINT, 130), (signal.SIGTERM, 143)],
    )
    def test_a_signal_saves_and_says_how_to_go_on(self, number, code, tmp_path):
        out = tmp_path / "a"
        with self.start("--epochs", 100_000, "--out", out) as process:
            self.until_it_trains(process)
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        assert process.returncode == code
        request, message = err.splitlines()
        assert request == "stopping; Ctrl-C stops at once"
        program = os.path.relpath(TRAIN)
        assert message.startswith("error: interrupted: stopped in epoch ")
        assert message.endswith(f", and saved. Go on with: python {program} --resume {out}")
        epochs = folders.newest(out).record["epochs"]
        assert epochs == len((out / "metrics.jsonl").read_text().splitlines())
        with self.start("--resume", out, "--epochs", epochs + 1) as process:
            printed, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        assert f"resumed: {epochs} of {epochs + 1} epochs are behind" in printed

    @pytest.mark.slow
    def test_a_second_interrupt_stops_at_once(self, tmp_path):
        """Within a call of several seconds, which the first waits for."""
        slow = ["--model", "mlp", "--hidden", 3000, 3000, "--batch-size", 1, "--epochs", 1]
        with self.start(*slow, "--out", tmp_path / "a") as process:
            process.stdout.readline()
            while "epoch  train" not in process.stdout.readline():
                assert process.poll() is None
            time.sleep(3)
            process.send_signal(signal.SIGINT)
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            start = time.monotonic()
            process.communicate(timeout=60)
        assert process.returncode == 130
        assert time.monotonic() - start < 20

    @pytest.mark.slow
    def test_the_command_line_of_a_stored_run_is_its_own(self, tmp_path):
        out = tmp_path / "a"
        for arguments, code in (
            (["--epochs", 2, "--seed", 5, "--out", out], 0),
            (["--resume", out, "--seed", 0], 2),  # the program's default is another one here
            (["--resume", out, "--epochs", 3], 0),
            (["--resume", tmp_path / "none"], 1),
        ):
            with self.start(*arguments) as process:
                _, err = process.communicate(timeout=60)
            assert process.returncode == code, err
            assert err.count("\n") == bool(code)
            if code == 2:
                assert "seed 0 (was 5)" in err
