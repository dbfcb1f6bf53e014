"""Talk to the person who runs a program: epochs as they pass, and each error in one line."""

import contextlib
import io
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_type_hints

import jax
import tyro

from funcnet.base import UsageError
from funcnet.runs._divergence import DivergenceError
from funcnet.runs._process import prepare_process
from funcnet.runs._run import Show, Stopped
from funcnet.training import EpochInfo, Progress

Config = TypeVar("Config")
Step = TypeVar("Step")


def run_program(
    config: type[Config],
    main: Callable[[Config], Any],
    *,
    default: Callable[[Config], Config | None] = lambda given: None,
) -> None:
    """Read the command line into a dataclass, and run `main` on it.

    An error that a person can mend is printed in one line. The exit code is 2 after a
    `UsageError`; 1 where the world is at fault: a file, the network, a missing package, memory, a
    loss that is not finite; 130 after Ctrl-C. Any other exception is a defect, and keeps its
    traceback.

    The docstrings of the dataclass are the help text. `default(given)` returns the values of the
    options that the command line leaves out, or None for those of the dataclass.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a character that it cannot encode becomes ?
            stream.reconfigure(errors="replace")
    try:
        given = tyro.cli(config, prog=called_as())
        prepare_process()
        stored = default(given)
        _ = main(given if stored is None else tyro.cli(config, prog=called_as(), default=stored))
        _ = sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe has left
        _ = os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        _fail("interrupted", code=130)
    except (UsageError, OSError, ImportError, DivergenceError) as error:
        is_ours = isinstance(error, ImportError) and (error.name or "").startswith("funcnet")
        if is_ours or not str(error):
            raise
        _fail(as_option(str(error), config), code=2 if isinstance(error, UsageError) else 1)
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in reason:
            raise
        _fail(f"the device gave up: {reason}. Try smaller layers or a smaller batch.", code=1)


def as_option(message: str, config: type) -> str:
    """Write the parameter that a message begins with as an option of the command line."""
    name = message.partition(":")[0]
    hint = get_type_hints(config, include_extras=True).get(name)
    if hint is None or tyro.conf.Positional in getattr(hint, "__metadata__", ()):
        return message
    return f"--{name.replace('_', '-')}{message.removeprefix(name)}"


def called_as() -> str:
    """How this program was called: `funcnet train`, or `python scripts/train.py`."""
    program = sys.argv[0]
    return f"python {os.path.relpath(program)}" if program.endswith(".py") else program


def check_out(out: Path | None, suffixes: Collection[str]) -> None:
    """Refuse an `--out` that cannot be written, before anything is computed.

    Raises:
      UsageError: `out` has none of the suffixes, its folder is missing, or it is a folder itself.
    """
    if out is None:
        return
    if out.suffix not in suffixes:
        raise UsageError(f"out: expected a name ending in {', '.join(suffixes)}; got {str(out)!r}.")
    if out.is_dir() or not out.parent.is_dir():
        raise UsageError(f"out: expected a file in a folder that exists; got {str(out)!r}.")


@contextlib.contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Turn SIGINT and SIGTERM into a question, `stop()`, that a training asks now and then.

    The training then stops, and the program ends with 128 + the number of the signal: 130 or 143.
    Before the training first asks, a signal ends the program at once. A second SIGINT always does.
    """
    asked, signals = threading.Event(), bytearray()  # one byte per signal

    def stop() -> bool:
        asked.set()
        return bool(signals)

    def handle(number: int, frame: Any) -> None:
        del frame
        if not asked.is_set():  # the training has not begun
            raise KeyboardInterrupt(number)

    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    pipe_before = signal.set_wakeup_fd(writing)
    threading.Thread(target=_listen, args=[reading, asked, signals], daemon=True).start()
    try:
        yield stop
    except Stopped as stopped:
        resume = f". Go on with: {called_as()} --resume {shlex.quote(str(stopped.folder))}"
        message = f"interrupted: {stopped}{resume if stopped.folder else ''}"
        _fail(message, code=128 + (signals or [signal.SIGINT])[0])
    except KeyboardInterrupt as interrupt:
        _fail("interrupted", code=128 + interrupt.args[0])
    finally:
        _ = signal.set_wakeup_fd(pipe_before)
        for number, handler in before.items():
            _ = signal.signal(number, handler)
        os.close(writing)


def _listen(pipe: int, asked: threading.Event, signals: bytearray) -> None:
    """Collect the signals in a thread: a handler waits until the main one leaves compiled code."""
    while numbers := os.read(pipe, 1):
        signals += numbers
        if len(signals) == 1 and asked.is_set():
            print("stopping; Ctrl-C stops at once", file=sys.stderr, flush=True)
        elif len(signals) > 1 and numbers[0] == signal.SIGINT:
            os._exit(128 + signal.SIGINT)


def _fail(message: str, *, code: int) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)


def _bar(*, stderr: bool) -> Any:
    """Return a bar of rich that moves on a terminal, and shows nothing elsewhere."""
    from rich import console, progress

    terminal = console.Console(stderr=stderr, highlight=False)
    return progress.Progress(console=terminal, transient=True, disable=not terminal.is_terminal)


@contextlib.contextmanager
def watch_epochs(epochs: int) -> Iterator[Show]:
    """Show each epoch as a row. A terminal also shows a bar that moves."""
    print("epoch  train loss  test loss  test accuracy  examples/s")
    with watch_sweep(epochs, stderr=False) as move:

        def show(progress: Progress) -> None:
            info: EpochInfo = progress.rows[-1]
            skipped = f"  {info.skipped_steps} steps skipped, as they were not finite"
            print(
                f"{info.epoch:5}  {info.train_loss:10.4f}  {info.test_loss:9.4f}  "
                f"{info.test_accuracy:13.4f}  {info.examples_per_second:10,.0f}"
                f"{skipped if info.skipped_steps else ''}",
                flush=True,
            )
            move(progress)

        yield show


@contextlib.contextmanager
def watch_sweep(epochs: int, *, stderr: bool = True) -> Iterator[Show]:
    """Show how many epochs are whole, by a bar that moves, on a terminal."""
    with _bar(stderr=stderr) as bar:
        task = bar.add_task("epochs", total=epochs)
        yield lambda progress: bar.update(task, completed=progress.epoch)


def watch_count(steps: Iterable[Step], what: str = "epochs") -> Iterator[Step]:
    """Pass the steps on. A terminal shows a bar that moves."""
    with _bar(stderr=True) as bar:
        yield from bar.track(steps, description=what)
