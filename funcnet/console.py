"""What a program says to the person who runs it: epochs as they pass, and errors in one line."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax

from funcnet.devices import keep_compiled_programs
from funcnet.fit import EpochInfo
from funcnet.training import TrainState

Config = TypeVar("Config")

HEADER = "epoch  train loss  test loss  test accuracy  examples/s"


def as_row(info: EpochInfo) -> str:
    """An epoch as a row under `HEADER`."""
    return (
        f"{info.epoch:5}  {info.train_loss:10.4f}  {info.test_loss:9.4f}  "
        f"{info.test_accuracy:13.4f}  {info.examples_per_second:10,.0f}"
    )


def watch_epochs(
    epochs: Iterator[tuple[TrainState, EpochInfo]], total: int
) -> Iterator[tuple[TrainState, EpochInfo]]:
    """Passes the epochs on, a row each; on a terminal also a bar that moves."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(highlight=False)
    print(HEADER)
    with Progress(
        TextColumn("epoch"),
        MofNCompleteColumn(),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[status]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("", total=total, status="compiled")
        for state, info in epochs:
            print(as_row(info), flush=True)
            status = f"loss {info.train_loss:.4f}, {info.examples_per_second:,.0f} examples/s"
            progress.update(task, advance=1, status=status)
            yield state, info


def watch_count(numbers: Iterable[int], what: str = "epochs") -> Iterator[int]:
    """Passes the numbers on; on a terminal with a bar that moves."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(
        numbers, what, console=console, transient=True, disable=not console.is_terminal
    )


def run_program(config: type[Config], main: Callable[[Config], Any]) -> None:
    """Reads the command line into a dataclass and runs a program on it.

    What goes wrong is one message on stderr and an exit code: 2 where the arguments are at fault,
    1 where the world is, 130 after Ctrl-C. Whatever else is raised is a defect of the program, and
    keeps its traceback.
    """
    import tyro

    options = tyro.cli(config)
    keep_compiled_programs()
    try:
        main(options)
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
        _fail("interrupted; what --out holds is of the epochs before", code=130)


def _fail(message: object, *, code: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)
