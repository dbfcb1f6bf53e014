"""When a training is saved, and what of: its checkpoints in a folder, the last few of them.

    OUT/checkpoints/STEP/      a folder each, whole or absent
    OUT/checkpoints/STEP.N/    the N-th one more of that step: after a rollback, or a damaged one

Saving happens on a thread of its own while the training goes on, and is paid for in advance: a
save begins when twenty times as long as the last one took was spent on training.
"""

import re
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from funcnet.training import _checkpoint as checkpoint
from funcnet.training._fit import Progress

FOLDER = "checkpoints"

SHARE = 20
"""How many times as long as a save takes is spent on training before it: it costs at most 5 %."""

FIRST_COST = 0.25
"""How long the first save is expected to take, in seconds: Orbax is imported by it."""


class Saved(NamedTuple):
    """A checkpoint that was found whole.

    Attributes:
      path: its folder.
      record: what it remembers beside the arrays.
    """

    path: Path
    record: dict[str, Any]


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run's folder, whole or damaged, the newest first."""
    paths = (folder / FOLDER).glob("*")
    named = [path for path in paths if re.fullmatch(r"[0-9]+(\.[0-9]+)?", path.name)]
    return sorted(named, key=_place, reverse=True)


def _place(path: Path) -> tuple[int, int]:
    """The step of a checkpoint, and how many of that step were written before it."""
    step, _, count = path.name.partition(".")
    return int(step), int(count or 0)


def newest(folder: Path, say: Callable[[str], None] = lambda line: None) -> Saved | None:
    """The newest whole checkpoint of a run's folder; `None` where there never was one.

    Args:
      folder: the run's `--out`.
      say: takes a line about each newer one that is damaged.

    Raises:
      ValueError: there are checkpoints, and all are damaged.
    """
    reasons = []
    for path in checkpoints(folder):
        try:
            return Saved(path=path, record=checkpoint.read_record(path))
        except (ValueError, OSError) as error:
            reasons.append(str(error))
            say(f"passed over: {error}")
    if reasons:
        raise ValueError(f"{folder / FOLDER}: expected a whole checkpoint; got {reasons[0]}")
    return None


def write(folder: Path, step: int, tree: Any, record: Mapping[str, Any], *, keep: int) -> None:
    """Adds a checkpoint, and, once it is whole, removes what it replaces.

    That is all but the last `keep` steps up to its own, and all others of its own step.

    Raises:
      OSError: it can't be written; the earlier ones are whole.
    """
    (folder / FOLDER).mkdir(exist_ok=True)
    counts = [count for other, count in map(_place, checkpoints(folder)) if other == step]
    path = folder / FOLDER / (f"{step}.{counts[0] + 1}" if counts else f"{step}")
    checkpoint.save(path, tree, record=record)
    earlier = [other for other in checkpoints(folder) if _place(other)[0] < step]
    for other in set(checkpoints(folder)) - {path, *earlier[: keep - 1]}:
        shutil.rmtree(other, ignore_errors=True)


def pack(progress: Progress) -> Any:
    """A progress as a pytree of arrays; `form` says which."""
    rows = jax.tree.map(lambda *leaves: np.stack(leaves), *progress.rows) if progress.rows else ()
    return progress.state, progress.losses, rows


def form(progress: Progress) -> dict[str, Any]:
    """What `unpack` needs to know beside the arrays."""
    return {
        "steps": len(progress.losses),
        "epochs": len(progress.rows),
        "seconds": progress.seconds,
        "halvings": progress.halvings,
    }


def like_packed(begun: Progress, form: Mapping[str, Any], row: Any) -> Any:
    """The shapes of what `pack` made.

    Args:
      begun: a progress of the same training; its state may be `jax.eval_shape`'s.
      form: what `form` said.
      row: an epoch's row, of NumPy's arrays or of numbers.
    """
    losses = np.zeros((form["steps"], *begun.losses.shape[1:]), begun.losses.dtype)
    count = form["epochs"]
    rows = jax.tree.map(lambda leaf: np.stack([leaf] * count), row) if count else ()
    return begun.state, losses, rows


def unpack(tree: Any, form: Mapping[str, Any], row: Any) -> Progress:
    """The progress that was packed, bit for bit."""
    state, losses, stacked = tree
    rows = (jax.tree.map(lambda a, e=epoch: a[e], stacked) for epoch in range(form["epochs"]))
    return Progress(
        state=state,
        losses=losses,
        rows=tuple(jax.tree.map(_as_kind, row, one) for one in rows),
        seconds=form["seconds"],
        halvings=form["halvings"],
    )


def restore(saved: Saved, begun: Progress, row: Any) -> Progress:
    """The progress in a checkpoint; its arguments are those of `like_packed`.

    Raises:
      ValueError: it is of another model.
    """
    form = saved.record["form"]
    return unpack(checkpoint.restore(saved.path, like_packed(begun, form, row)), form, row)


def _as_kind(like: Any, value: Any) -> Any:
    """A number of Python's where `like` is one."""
    return value if isinstance(like, np.ndarray) else value.item()


class Saver:
    """Saves on a thread of its own, one save at a time.

    Args:
      pack: `progress -> tree` of arrays, called while the training waits.
      write: writes `(tree, progress)`; what it raises is raised by the next call here. Without it
        nothing is saved.
    """

    def __init__(
        self, pack: Callable[[Any], Any], write: Callable[[Any, Any], None] | None
    ) -> None:
        """Nothing is saved yet."""
        self._pack, self._write = pack, write
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="saver")
        self._pending: Future[float] | None = None
        self._cost = FIRST_COST
        self._last = time.perf_counter()
        self._latest: Any = None
        self._saved: Any = None
        self.failed = False

    def offer(self, progress: Any) -> None:
        """Begins to save, if the last save has ended and is paid for."""
        self._latest = progress
        if self._pending is not None and not self._pending.done():
            return
        self._wait()
        if time.perf_counter() - self._last >= SHARE * self._cost:
            self._begin()

    def finish(self) -> None:
        """Saves what was offered last, unless it is saved; returns when it is."""
        self._wait()
        if self._latest is not self._saved and not self.failed:
            self._begin()
            self._wait()

    def _wait(self) -> None:
        """Returns when nothing is being saved.

        Raises:
          OSError: it could not be saved.
        """
        if self._pending is None:
            return
        pending, self._pending = self._pending, None
        try:
            self._cost = pending.result()
        except BaseException:
            self.failed = True
            raise

    def _begin(self) -> None:
        if self._write is None:
            return
        self._last, self._saved = time.perf_counter(), self._latest
        tree = jax.tree.map(np.array, self._pack(self._saved))  # the device goes on meanwhile
        self._pending = self._thread.submit(_timed, self._write, tree, self._saved, self._last)


def _timed(write: Callable[[Any, Any], None], tree: Any, progress: Any, start: float) -> float:
    """Writes; how many seconds after `start` it ended."""
    write(tree, progress)
    return time.perf_counter() - start
