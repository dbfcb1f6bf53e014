"""The folder of a run: one process at a time, and what it holds to go on from."""

import contextlib
import functools
import json
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from filelock import FileLock, Timeout

from funcnet._files import write_whole
from funcnet.data import Dataset
from funcnet.runs import _artifacts as artifacts
from funcnet.runs import _saving as saving
from funcnet.runs._saving import Saved
from funcnet.runs.config import FullConfig, TrainConfig, as_options, check_unchanged, from_options

FILES = (
    "config.json",
    "metrics.jsonl",
    "params.safetensors",
    "curves.png",
    "summary.json",
    "sweep.json",
)
"""What a run may leave in its folder, beside its checkpoints."""

LOCK = ".lock"


def stored_config(folder: Path) -> TrainConfig:
    """The configuration of the run that a folder holds, ready to go on with it.

    It is that of the newest whole checkpoint, or, before there is one, `config.json`. So
    `run(dataclasses.replace(stored_config(folder), epochs=40))` trains on to 40 epochs.

    Raises:
      FileNotFoundError: there is no run.
      ValueError: what it left is damaged.
    """
    saved = saving.newest(folder)
    file = folder / "config.json"
    try:
        options = json.loads(file.read_bytes()) if saved is None else saved.record["config"]
        return from_options({**options, "out": folder, "resume": folder, "quiet": False})
    except OSError as error:
        raise FileNotFoundError(
            f"--resume: expected the folder of a run; {file}: {error.strerror}. "
            "Begin one with --out."
        ) from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file if saved is None else saved.path}: {error}") from error


@contextlib.contextmanager
def occupied(
    config: FullConfig, dataset: Dataset, say: Callable[[str], None]
) -> Iterator[Saved | None]:
    """Makes `config.out` the place of this run, as long as it lasts; what there is to go on from.

    What another run left there goes, if that had come to its end.

    Raises:
      OSError: it can't be written, or another process runs there.
      ValueError: it holds an unfinished run and this is another one; or the one to go on with has
        other options or other data.
    """
    folder = config.out
    if folder is None:
        yield None
        return
    with _locked(folder):
        _remove_half_made(folder)
        saved = saving.newest(folder, say if config.resume else lambda line: None)
        if config.resume is None:
            _check_finished(folder, saved)
            _clear(folder)
            saved = None
        elif saved is not None:
            check_unchanged(from_options(saved.record["config"]), config)
            _check_data(saved, dataset)
            _say_versions(saved, say)
        write_whole(folder / "config.json", artifacts.as_json(as_options(config), indent=2))
        yield saved


def make_write_checkpoint(config: FullConfig, dataset: Dataset) -> Callable[..., None]:
    """`write(tree, step=, form=, is_finished=)`: adds a checkpoint to `config.out`, a folder."""
    folder = cast(Path, config.out)
    data = functools.cache(lambda: fingerprint(dataset))

    def write(tree: Any, *, step: int, form: Any, is_finished: bool) -> None:
        record = {
            "config": as_options(config),
            "versions": versions(),
            "data": data(),
            "form": form,
            "finished": is_finished,
        }
        saving.write(folder, step, tree, record, keep=config.keep)

    return write


def check_epochs(config: FullConfig, behind: int, say: Callable[[str], None]) -> None:
    """Says how far the run has come that is gone on with.

    Raises:
      ValueError: further than `config.epochs`.
    """
    if behind > config.epochs:
        raise ValueError(f"--epochs: expected at least the {behind} that are behind; got fewer.")
    if behind == config.epochs:
        say(f"finished: all {behind} epochs are behind; --epochs asks for more")
    else:
        say(f"resumed: {behind} of {config.epochs} epochs are behind")


def versions() -> dict[str, str]:
    """Of what decides the bits of a run."""
    return {"jax": jax.__version__, "numpy": np.__version__}


def fingerprint(dataset: Dataset) -> int:
    """A number that other data have another of.

    >>> from funcnet.data import load
    >>> digits = load("digits")
    >>> fingerprint(digits) == fingerprint(digits._replace(train=digits.test))
    False
    """
    value = 0
    for array in map(np.ascontiguousarray, jax.tree.leaves((dataset.train, dataset.test))):
        value = zlib.crc32(f"{array.dtype}{array.shape}".encode(), value)
        value = zlib.crc32(array.tobytes(), value)
    return value


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the folder; the system lets go of it when the process ends, however it does."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        lock = FileLock(folder / LOCK, blocking=False)
        _ = lock.acquire()
    except Timeout as error:
        raise BlockingIOError(
            f"out: expected a folder in which no other run is going on; got {folder}. "
            "Choose another one, or wait until that has ended."
        ) from error
    except OSError as error:
        raise OSError(
            f"out: expected a folder that can be written; got {folder}: {error.strerror}."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _remove_half_made(folder: Path) -> None:
    """Removes what a process left that died while it wrote."""
    for path in (folder / saving.FOLDER).glob(".*"):
        shutil.rmtree(path, ignore_errors=True)
    for name in FILES:
        for path in folder.glob(f".{name}.*"):
            path.unlink(missing_ok=True)


def _check_finished(folder: Path, saved: Saved | None) -> None:
    if saved is not None and not saved.record["finished"]:
        raise ValueError(
            f"--out: expected a folder without an unfinished run; got {folder}, which has one. "
            f"Go on with it by --resume {folder}, or choose another folder."
        )


def _clear(folder: Path) -> None:
    shutil.rmtree(folder / saving.FOLDER, ignore_errors=True)
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


def _check_data(saved: Saved, dataset: Dataset) -> None:
    if saved.record["data"] != fingerprint(dataset):
        raise ValueError(
            "--resume: expected the data that the run began with; these are others. "
            "Bring those back, or begin a run of its own in another --out."
        )


def _say_versions(saved: Saved, say: Callable[[str], None]) -> None:
    then: dict[str, Any] = saved.record["versions"]
    for name, version in versions().items():
        if then[name] != version:
            say(f"began with {name} {then[name]}, goes on with {version}: its bits may be others")
