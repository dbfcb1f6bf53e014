"""The folder of a run: a lock, the files of the run, and the checkpoints that it goes on from.

A run is saved every ten seconds, and when it ends. A process that dies while it saves leaves the
earlier checkpoints whole, and the next one goes on from the newest of them.
"""

import contextlib
import json
import re
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jaxlib
import numpy as np
import optax
from filelock import FileLock, Timeout

from funcnet._files import write_whole
from funcnet.base import UsageError
from funcnet.data import Dataset
from funcnet.runs._artifacts import as_json
from funcnet.runs._build import Say
from funcnet.runs.config import FullConfig, TrainConfig, as_options, check_unchanged, from_options
from funcnet.training import Progress, checkpoint

EVERY = 10.0  # seconds between two saves, at least; the last, when a run ends, does not wait
CHECKPOINTS = "checkpoints"  # the folder of STEP.safetensors, the newest few
FILES = (
    "config.json",  # every option, defaults filled in
    "metrics.jsonl",  # one line per whole epoch
    "params.safetensors",  # the trained parameters, or the best model's of a sweep
    "curves.png",  # loss and accuracy over the epochs
    "summary.json",  # how the run ended, and on what
    "sweep.json",  # of a sweep, in place of the metrics
)
VERSIONS = {library.__name__: library.__version__ for library in (jax, jaxlib, np, optax)}
"""The versions of the libraries that decide the bits of a run."""


class Saved(NamedTuple):
    """A whole checkpoint: its file, and all that it holds beside the arrays."""

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
    file = saved.path if saved else folder / "config.json"
    try:
        options = saved.record["config"] if saved else json.loads(file.read_bytes())
        return from_options({**options, "out": folder, "resume": folder, "quiet": False})
    except OSError as error:
        raise FileNotFoundError(
            f"resume: expected the folder of a run; {file}: {error.strerror}. Begin one with --out."
        ) from error
    except (ValueError, TypeError) as error:
        raise UsageError(f"{file}: {error}") from error


def newest(folder: Path, say: Say = lambda line: None) -> Saved | None:
    """Return the newest whole checkpoint of a run, and say which newer ones are damaged."""
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
    files = (folder / CHECKPOINTS).glob("*.safetensors")
    ours = [path for path in files if path.stem.isdecimal()]
    return sorted(ours, key=lambda path: int(path.stem), reverse=True)


@contextlib.contextmanager
def run_folder(config: FullConfig, dataset: Dataset, say: Say) -> Iterator["RunFolder"]:
    """Hold `config.out` for this run as long as the block lasts.

    Without `resume`, the files of a finished run make room. Without `out`, nothing is written.
    """
    path = config.out
    if path is None:
        yield RunFolder(config)
        return
    with _locked(path):
        _remove_temporaries(path)
        saved = newest(path, say if config.resume else lambda line: None)
        checksum = fingerprint(dataset)
        if config.resume is None:
            _make_room(path, saved)
        elif saved:
            _check_same(saved.record, config, checksum, say)
        write_whole(path / "config.json", as_json(as_options(config), indent=2))
        yield RunFolder(config, checksum, saved if config.resume else None)


class RunFolder:
    """The folder that a run holds, as `run_folder` makes it."""

    def __init__(self, config: FullConfig, checksum: int = 0, saved: Saved | None = None) -> None:
        self._config, self._checksum, self._saved = config, checksum, saved
        self._last_step, self._last_time = 0, time.perf_counter()

    def latest(self, begun: Progress, row: Any) -> Progress:
        """Return the saved progress, bit for bit, or else `begun`; its rows have `row`'s form."""
        if self._saved is None:
            return begun
        path, record = self._saved
        count, shape = record["epochs"], (record["losses"], *begun.losses.shape[1:])
        like = begun._replace(
            losses=np.zeros_like(begun.losses, shape=shape),
            rows=jax.tree.map(lambda leaf: np.array([leaf] * count), row) if count else (),
        )
        progress: Progress = checkpoint.restore(path, like)
        columns = [list(c) if c.ndim > 1 else c.tolist() for c in jax.tree.leaves(progress.rows)]
        rows = (type(row)(*entries) for entries in zip(*columns, strict=True))
        return progress._replace(rows=tuple(rows))

    def save(self, progress: Progress, *, now: bool = False) -> None:
        """Add a checkpoint, if `EVERY` seconds have passed since the last; `now` does not wait."""
        path, waited = self._config.out, time.perf_counter() - self._last_time
        if path is None or progress.step == self._last_step or not (now or waited >= EVERY):
            return
        record = {
            "config": as_options(self._config),
            "versions": VERSIONS,
            "data": self._checksum,
            "epochs": progress.epoch,
            "losses": len(progress.losses),
        }
        (path / CHECKPOINTS).mkdir(exist_ok=True)
        add_checkpoint(path, progress, record, keep=self._config.keep)
        if self._config.sweep is None:
            lines = [as_json(row._asdict()) for row in progress.rows]
            write_whole(path / "metrics.jsonl", b"".join(lines))
        self._last_step, self._last_time = progress.step, time.perf_counter()


def add_checkpoint(folder: Path, progress: Progress, record: dict[str, Any], *, keep: int) -> None:
    """Save a progress; then remove all checkpoints but the newest `keep` up to its step."""
    rows = jax.tree.map(lambda *leaves: np.array(leaves), *progress.rows) if progress.rows else ()
    path = folder / CHECKPOINTS / f"{progress.step}.safetensors"
    checkpoint.save(path, progress._replace(rows=rows), record=record)
    earlier = [other for other in checkpoints(folder) if int(other.stem) < progress.step]
    for other in {*checkpoints(folder)} - {path, *earlier[: keep - 1]}:
        other.unlink(missing_ok=True)


def fingerprint(dataset: Dataset) -> int:
    """Return a checksum of a data set."""
    value = 0
    for array in map(np.ascontiguousarray, jax.tree.leaves((dataset.train, dataset.test))):
        value = zlib.crc32(f"{array.dtype}{array.shape}".encode(), value)
        value = zlib.crc32(array.data, value)
    return value


def _locked(folder: Path) -> contextlib.AbstractContextManager[Any]:
    """Hold the folder; the system lets go of it when the process ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        return FileLock(folder / ".lock", blocking=False).acquire()
    except Timeout as error:
        raise BlockingIOError(
            f"out: expected a folder in which no other run is going on; got {folder}. "
            "Choose another one, or wait until that run has ended."
        ) from error
    except OSError as error:
        raise OSError(
            f"out: expected a folder that can be written; got {folder}: {error.strerror}."
        ) from error


def _remove_temporaries(folder: Path) -> None:
    """Remove the half-written files of a process that died."""
    names = "|".join(map(re.escape, FILES))
    ours = re.compile(rf"\.({names}|[0-9]+\.safetensors)\.[0-9]+")
    for path in [*folder.glob(".*"), *(folder / CHECKPOINTS).glob(".*")]:
        if ours.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def _make_room(folder: Path, saved: Saved | None) -> None:
    """Remove the files of a finished run; files that no run wrote stay."""
    if saved and saved.record["epochs"] < saved.record["config"]["epochs"]:
        raise UsageError(
            f"out: expected a folder without an unfinished run; got {folder}, which has one. "
            f"Go on with it by --resume {folder}, or choose another folder."
        )
    for path in [*checkpoints(folder), *(folder / name for name in FILES)]:
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # absent, or not empty
        (folder / CHECKPOINTS).rmdir()


def _check_same(record: dict[str, Any], config: FullConfig, checksum: int, say: Say) -> None:
    """Refuse to go on with different options or data; say which versions differ."""
    check_unchanged(from_options(record["config"]), config)
    if record["data"] != checksum:
        raise UsageError(
            "resume: expected the data that the run began with; got different ones. "
            "Bring the old ones back, or begin a new run in another --out."
        )
    behind, epochs = record["epochs"], config.epochs
    if behind > epochs:
        raise UsageError(f"epochs: expected at least the {behind} that are behind; got {epochs}.")
    for name, version in VERSIONS.items():
        if (then := record["versions"][name]) != version:
            say(f"began with {name} {then}, goes on with {version}: its bits may differ")
    if behind < epochs:
        say(f"resumed: {behind} of {epochs} epochs are behind")
    else:
        say(f"finished: all {behind} epochs are behind; --epochs asks for more")
