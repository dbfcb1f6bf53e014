"""The folder of a run: one process at a time, what the run leaves there, and what it goes on from.

    OUT/config.json                       the options of the run
    OUT/metrics.jsonl                     one line per whole epoch
    OUT/checkpoints/STEP.safetensors      the newest few; each is whole or absent

A run is saved every ten seconds, and when it ends. A process that dies while it saves leaves the
earlier checkpoints whole, and the next one goes on from the newest of them.
"""

import contextlib
import dataclasses
import functools
import json
import re
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from filelock import FileLock, Timeout

from funcnet._files import write_whole
from funcnet.base import UsageError
from funcnet.data import Dataset
from funcnet.runs._artifacts import as_json, as_lines
from funcnet.runs.config import FullConfig, TrainConfig, as_options, check_unchanged, from_options
from funcnet.training import Progress, checkpoint

EVERY = 10.0
"""Seconds between two saves, at least. The last save, when a run ends, does not wait."""

CHECKPOINTS = "checkpoints"

FILES = (
    "config.json",
    "metrics.jsonl",
    "params.safetensors",
    "curves.png",
    "summary.json",
    "sweep.json",
)
"""The files that a run may leave in its folder, beside its checkpoints."""

Say = Callable[[str], None]
"""Takes a line for the person who runs the program."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Saved:
    """A checkpoint that was found whole.

    Attributes:
      path: its file.
      record: what it remembers beside the arrays.
    """

    path: Path
    record: dict[str, Any]


def stored_config(folder: Path) -> TrainConfig:
    """Return the configuration of the run in a folder, ready to go on with it.

    It is the one in the newest whole checkpoint, or, before there is one, `config.json`. So
    `run(dataclasses.replace(stored_config(folder), epochs=40))` trains on to 40 epochs.

    Raises:
      FileNotFoundError: there is no run.
      UsageError: its files are damaged, or an earlier funcnet wrote them.
    """
    saved = newest(folder)
    file = folder / "config.json"
    try:
        options = json.loads(file.read_bytes()) if saved is None else saved.record["config"]
        return from_options({**options, "out": folder, "resume": folder, "quiet": False})
    except OSError as error:
        raise FileNotFoundError(
            f"resume: expected the folder of a run; {file}: {error.strerror}. Begin one with --out."
        ) from error
    except (ValueError, TypeError) as error:
        raise UsageError(f"{file if saved is None else saved.path}: {error}") from error


def newest(folder: Path, say: Say = lambda line: None) -> Saved | None:
    """Return the newest whole checkpoint in the folder of a run; `None` where there never was one.

    Args:
      folder: the run's `--out`.
      say: takes a line about each newer checkpoint that is damaged.

    Raises:
      UsageError: all checkpoints are damaged, or an earlier funcnet wrote them.
    """
    if old := next((folder / CHECKPOINTS).glob("*/manifest.json"), None):
        raise UsageError(
            f"out: expected a folder whose checkpoints are files; {old.parent} is a folder, as an "
            "earlier funcnet wrote it. Go on with that funcnet, or choose another --out."
        )
    reasons = []
    for path in checkpoints(folder):
        try:
            return Saved(path=path, record=checkpoint.read_record(path))
        except (UsageError, OSError) as error:
            reasons.append(str(error))
            say(f"passed over: {error}")
    if reasons:
        raise UsageError(f"{folder / CHECKPOINTS}: expected a whole checkpoint; got {reasons[0]}")
    return None


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in the folder of a run, whole or damaged, the newest first."""
    paths = (folder / CHECKPOINTS).glob("*.safetensors")
    return sorted((path for path in paths if path.stem.isdecimal()), key=_step, reverse=True)


def _step(path: Path) -> int:
    return int(path.stem)


@contextlib.contextmanager
def run_folder(config: FullConfig, dataset: Dataset, say: Say) -> Iterator["RunFolder"]:
    """Hold `config.out` for this run as long as the block lasts.

    Without `resume`, the files of a finished run make room. Without `out`, nothing is written.

    Raises:
      OSError: the folder cannot be written, or another process holds it.
      UsageError: it holds an unfinished run and this is a different one; or the run to go on with
        has different options or different data.
    """
    path = config.out
    if path is None:
        yield RunFolder(config, dataset, say)
        return
    with _locked(path):
        _remove_temporaries(path)
        saved = newest(path, say if config.resume else lambda line: None)
        if config.resume is None:
            _make_room(path, saved)
            saved = None
        elif saved is not None:
            check_unchanged(from_options(saved.record["config"]), config)
            _check_data(saved, dataset)
            _say_versions(saved, say)
        write_whole(path / "config.json", as_json(as_options(config), indent=2))
        yield RunFolder(config, dataset, say, saved)


class RunFolder:
    """The folder that a run holds, as `run_folder` makes it.

    Args:
      config: the run's options; if `config.out` is `None`, nothing is written.
      dataset: the run's data.
      say: takes the lines to print.
      saved: the checkpoint to go on from.
    """

    def __init__(
        self, config: FullConfig, dataset: Dataset, say: Say, saved: Saved | None = None
    ) -> None:
        """Nothing is read yet."""
        self._config, self._dataset, self._say, self._saved = config, dataset, say, saved
        self._last_step, self._last_time = 0, time.perf_counter()

    def latest(self, begun: Progress, row: Any) -> Progress:
        """Return the progress to go on from, bit for bit as it was saved; else `begun`.

        Args:
          begun: the progress before the first step; its state may be `jax.eval_shape`'s.
          row: an epoch's row, with arrays of NumPy and numbers of the same kinds and shapes.

        Raises:
          UsageError: the checkpoint is of a different model, or has more epochs than are asked for.
        """
        if self._saved is None:
            return begun
        progress = _restore(self._saved, begun, row)
        behind, epochs = progress.epoch, self._config.epochs
        if behind > epochs:
            raise UsageError(
                f"epochs: expected at least the {behind} that are behind; got {epochs}."
            )
        if behind == epochs:
            self._say(f"finished: all {behind} epochs are behind; --epochs asks for more")
        else:
            self._say(f"resumed: {behind} of {epochs} epochs are behind")
        self._last_step = progress.step
        return progress

    def save(self, progress: Progress, *, now: bool = False) -> None:
        """Add a checkpoint, if `EVERY` seconds have passed since the last; `now` does not wait.

        Raises:
          OSError: it cannot be written; the earlier ones are whole.
        """
        path, waited = self._config.out, time.perf_counter() - self._last_time
        if path is None or progress.step == self._last_step or not (now or waited >= EVERY):
            return
        (path / CHECKPOINTS).mkdir(exist_ok=True)
        add_checkpoint(path, progress, self._record(progress), keep=self._config.keep)
        if self._config.sweep is None:
            write_whole(path / "metrics.jsonl", as_lines(progress.rows))
        self._last_step, self._last_time = progress.step, time.perf_counter()

    def write(self, contents: Mapping[str, bytes]) -> None:
        """Write files, by name, each whole or absent."""
        if self._config.out is not None:
            for name, content in contents.items():
                write_whole(self._config.out / name, content)

    def _record(self, progress: Progress) -> dict[str, Any]:
        return {
            "config": as_options(self._config),
            "versions": versions(),
            "data": self._fingerprint,
            "finished": progress.epoch >= self._config.epochs,
            "epochs": progress.epoch,
            "losses": len(progress.losses),
            "seconds": progress.seconds,
            "step": progress.step,
        }

    @functools.cached_property
    def _fingerprint(self) -> int:
        return fingerprint(self._dataset)


def add_checkpoint(
    folder: Path, progress: Progress, record: Mapping[str, Any], *, keep: int
) -> None:
    """Save a progress; then remove all checkpoints but the newest `keep` up to its step.

    Raises:
      OSError: it cannot be written; the earlier ones are whole.
    """
    rows = jax.tree.map(lambda *leaves: np.array(leaves), *progress.rows) if progress.rows else ()
    path = folder / CHECKPOINTS / f"{progress.step}.safetensors"
    checkpoint.save(path, (progress.state, progress.losses, rows), record=record)
    earlier = [other for other in checkpoints(folder) if _step(other) < progress.step]
    for other in {*checkpoints(folder)} - {path, *earlier[: keep - 1]}:
        other.unlink(missing_ok=True)


def _restore(saved: Saved, begun: Progress, row: Any) -> Progress:
    record = saved.record
    count = record["epochs"]
    losses = np.zeros((record["losses"], *begun.losses.shape[1:]), begun.losses.dtype)
    like = jax.tree.map(lambda leaf: np.array([leaf] * count), row) if count else ()
    state, losses, rows = checkpoint.restore(saved.path, (begun.state, losses, like))
    return Progress(
        state=state,
        losses=losses,
        rows=tuple(
            jax.tree.map(lambda kind, column, i=i: _as_kind(kind, column[i]), row, rows)
            for i in range(count)
        ),
        seconds=record["seconds"],
        step=record["step"],
    )


def _as_kind(kind: Any, value: Any) -> Any:
    """Return an array as it is, and a number of NumPy as the Python number that it was."""
    return value if isinstance(kind, np.ndarray) else value.item()


def versions() -> dict[str, str]:
    """Return the versions that decide the bits of a run."""
    return {"jax": jax.__version__, "numpy": np.__version__}


def fingerprint(dataset: Dataset) -> int:
    """Return a checksum of a data set.

    >>> from funcnet.data import load
    >>> digits = load("digits")
    >>> fingerprint(digits) == fingerprint(digits._replace(train=digits.test))
    False
    """
    value = 0
    for array in map(np.ascontiguousarray, jax.tree.leaves((dataset.train, dataset.test))):
        value = zlib.crc32(f"{array.dtype}{array.shape}".encode(), value)
        value = zlib.crc32(cast(Any, array), value)
    return value


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder; the system lets go of it when the process ends, in whatever way."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        lock = FileLock(folder / ".lock", blocking=False)
        _ = lock.acquire()
    except Timeout as error:
        raise BlockingIOError(
            f"out: expected a folder in which no other run is going on; got {folder}. "
            "Choose another one, or wait until that run has ended."
        ) from error
    except OSError as error:
        raise OSError(
            f"out: expected a folder that can be written; got {folder}: {error.strerror}."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _remove_temporaries(folder: Path) -> None:
    """Remove the half-written files of a process that died."""
    names = "|".join(map(re.escape, FILES))
    ours = re.compile(rf"\.({names}|[0-9]+\.safetensors)\.[0-9]+")
    for path in [*folder.glob(".*"), *(folder / CHECKPOINTS).glob(".*")]:
        if ours.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def _make_room(folder: Path, saved: Saved | None) -> None:
    """Remove the files of a finished run; files that no run wrote stay."""
    if saved is not None and not saved.record["finished"]:
        raise UsageError(
            f"out: expected a folder without an unfinished run; got {folder}, which has one. "
            f"Go on with it by --resume {folder}, or choose another folder."
        )
    for path in [*checkpoints(folder), *(folder / name for name in FILES)]:
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # absent, or not empty
        (folder / CHECKPOINTS).rmdir()


def _check_data(saved: Saved, dataset: Dataset) -> None:
    if saved.record["data"] != fingerprint(dataset):
        raise UsageError(
            "resume: expected the data that the run began with; got different ones. "
            "Bring the old ones back, or begin a new run in another --out."
        )


def _say_versions(saved: Saved, say: Say) -> None:
    for name, version in versions().items():
        if (then := saved.record["versions"][name]) != version:
            say(f"began with {name} {then}, goes on with {version}: its bits may differ")
