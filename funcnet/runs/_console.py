"""What a program says to the person who runs it: epochs as they pass, and errors in one line."""

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax

from funcnet.devices import keep_compiled_programs
from funcnet.runs._run import Show, Stopped
from funcnet.training import EpochInfo, Progress

Config = TypeVar("Config")
Step = TypeVar("Step")

HEADER = "epoch  train loss  test loss  test accuracy  examples/s"


def as_row(info: EpochInfo) -> str:
    """An epoch as a row under `HEADER`."""
    count = info.skipped_steps
    skipped = f"  {count} steps skipped, as they were not finite" if count else ""
    return (
        f"{info.epoch:5}  {info.train_loss:10.4f}  {info.test_loss:9.4f}  "
        f"{info.test_accuracy:13.4f}  {info.examples_per_second:10,.0f}{skipped}"
    )


@contextlib.contextmanager
def watch_epochs(epochs: int) -> Iterator[Show]:
    """Show each epoch as a row; on a terminal also a bar that moves."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    console = Console(highlight=False)
    print(HEADER)
    with Bar(
        TextColumn("epoch"),
        MofNCompleteColumn(),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[status]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("", total=epochs, status="compiled")

        def show(progress: Progress) -> None:
            info: EpochInfo = progress.rows[-1]
            print(as_row(info), flush=True)
            status = f"loss {info.train_loss:.4f}, {info.examples_per_second:,.0f} examples/s"
            bar.update(task, completed=info.epoch, status=status)

        yield show


@contextlib.contextmanager
def watch_sweep(epochs: int) -> Iterator[Show]:
    """Show on a terminal, by a bar that moves, how many epochs of a sweep are whole."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("epochs", total=epochs)
        yield lambda progress: bar.update(task, completed=progress.epoch)


def watch_count(steps: Iterable[Step], what: str = "epochs") -> Iterator[Step]:
    """Passes the steps on; on a terminal with a bar that moves."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(steps, what, console=console, transient=True, disable=not console.is_terminal)


def check_out(out: Path | None, suffixes: Collection[str]) -> None:
    """Refuses an `--out` that cannot be written, before anything is computed.

    Args:
      out: a file, or None where there is to be none.
      suffixes: what its name may end in.

    Raises:
      ValueError: it ends in something else, its folder is missing, or it is a folder itself.
    """
    if out is None:
        return
    if out.suffix not in suffixes:
        expected = ", ".join(suffixes)
        raise ValueError(f"--out: expected a name ending in {expected}; got {str(out)!r}.")
    if out.is_dir() or not out.parent.is_dir():
        raise ValueError(f"--out: expected a file in a folder that exists; got {str(out)!r}.")


def run_program(
    config: type[Config],
    main: Callable[[Config], Any],
    *,
    default: Callable[[Config], Config | None] = lambda options: None,
) -> None:
    """Reads the command line into a dataclass and runs a program on it.

    Args:
      config: the dataclass.
      main: the program.
      default: `options -> options` that hold where the command line says nothing, if it names
        others than those of the dataclass.

    What goes wrong is one message on stderr and an exit code: 2 after a ValueError or a TypeError,
    which are taken for a fault of the arguments or of the data they name; 1 where the world is at
    fault: files, the network, a missing package, memory, a loss that is not finite; 130 after
    Ctrl-C. Whatever else is raised is a defect of the program, and keeps its traceback.
    """
    import tyro

    for stream in (sys.stdout, sys.stderr):  # where it can't write −, it writes ?
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    options = tyro.cli(config)
    keep_compiled_programs()
    try:
        others = default(options)
        main(options if others is None else tyro.cli(config, default=others))
    except (ValueError, TypeError) as error:
        _fail(error, code=2)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        _ = os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (OSError, ImportError, ArithmeticError) as error:
        _fail(error, code=1)
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        reason = str(error).splitlines()[0]
        _fail(f"the device gave up: {reason}. Try smaller layers or a smaller batch.", code=1)
    except KeyboardInterrupt:
        _fail("interrupted", code=130)


class _Request:
    """Whether the program was asked to stop: `stop()`, and by which signal.

    The signals are read from a pipe, by a thread of its own: the main thread, in which Python runs
    its handlers, is inside of a compiled program most of the time.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._asked = False

    def __call__(self) -> bool:
        self._asked = True
        return self.signal is not None

    def handle(self, number: int, frame: Any) -> None:
        """In the main thread: until the training first asks, there is nothing to finish."""
        del frame
        if not self._asked:
            raise KeyboardInterrupt(number)

    def listen(self, pipe: int) -> None:
        """In a thread: the first signal is a request, a SIGINT after it an order."""
        while numbers := os.read(pipe, 1):
            if self.signal is None:
                self.signal = numbers[0]
                if self._asked:
                    print("stopping; Ctrl-C stops at once", file=sys.stderr, flush=True)
            elif numbers[0] == signal.SIGINT:
                os._exit(128 + signal.SIGINT)


@contextlib.contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Makes of SIGINT and SIGTERM a question, `stop()`, that a training asks now and then.

    It then stops, and the program ends with 128 + the signal's number: 130 or 143. Before it first
    asks, a signal ends the program; a second SIGINT does so at any time.
    """
    request, (reading, writing) = _Request(), os.pipe()
    os.set_blocking(writing, False)
    before = {s: signal.signal(s, request.handle) for s in (signal.SIGINT, signal.SIGTERM)}
    pipe_before = signal.set_wakeup_fd(writing)
    threading.Thread(target=request.listen, args=[reading], daemon=True).start()
    try:
        yield request
    except Stopped as stopped:
        _fail(_how_to_resume(stopped), code=128 + (request.signal or signal.SIGINT))
    except KeyboardInterrupt as interrupt:
        _fail("interrupted", code=128 + interrupt.args[0])
    finally:
        _ = signal.set_wakeup_fd(pipe_before)
        for number, handler in before.items():
            _ = signal.signal(number, handler)
        os.close(writing)


def _how_to_resume(stopped: Stopped) -> str:
    if stopped.folder is None:
        return f"interrupted: {stopped}; nothing is saved, as there is no --out"
    program = " ".join(["python", os.path.relpath(sys.argv[0]), "--resume", str(stopped.folder)])
    return f"interrupted: {stopped}, and saved. Go on with: {program}"


def _fail(message: object, *, code: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)
