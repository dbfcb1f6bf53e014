"""Whose fault an error is: one line and an exit code, or a traceback."""

import dataclasses
import sys

import jax
import pytest
import tyro

import funcnet as fn
from funcnet.runs import DivergenceError, run_program
from funcnet.runs._console import as_option, called_as


@dataclasses.dataclass(frozen=True)
class Options:
    """Raise an error."""

    files: tyro.conf.Positional[tuple[str, ...]] = ()
    """Files."""
    learning_rate: float = 0.1
    """The step size."""


@pytest.fixture
def ended(monkeypatch, capsys):
    """Run a program that raises this error: its exit code, and the text on stderr."""

    def call(error, *arguments):
        def main(options):
            raise error

        monkeypatch.setattr(sys, "argv", ["funcnet try", *arguments])
        with pytest.raises(SystemExit) as end:
            run_program(Options, main)
        return end.value.code, capsys.readouterr().err

    return call


@pytest.mark.parametrize(
    ("message", "printed"),
    [
        ("learning_rate: expected a number.", "--learning-rate: expected a number."),
        ("files: expected one.", "files: expected one."),
        ("a.csv, line 3: expected a number.", "a.csv, line 3: expected a number."),
        ("learning_rates: expected one.", "learning_rates: expected one."),
    ],
)
def test_a_users_mistake_names_the_option(ended, message, printed):
    assert ended(fn.UsageError(message)) == (2, f"error: {printed}\n")


@pytest.mark.parametrize(
    "error",
    [
        OSError("disk full"),
        FileNotFoundError("a.npz: expected a file; there is none."),
        DivergenceError("the loss became nan."),
        ModuleNotFoundError("No module named 'playwright'", name="playwright"),
    ],
)
def test_where_the_world_is_at_fault(ended, error):
    assert ended(error) == (1, f"error: {error}\n")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 8. TiB."),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore"),
    ],
)
def test_memory_that_does_not_suffice(ended, error):
    code, printed = ended(error)
    assert code == 1
    assert printed.startswith("error: the device gave up: ")
    assert printed.endswith(". Try smaller layers or a smaller batch.\n")
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    "defect",
    [
        ValueError("axis 3 is out of bounds"),
        TypeError("dot_general requires contracting dimensions to have the same shape"),
        ZeroDivisionError("division by zero"),
        FloatingPointError("invalid value"),
        ArithmeticError("wrong"),
        KeyError("learning_rate"),
        AttributeError("no attribute"),
        AssertionError(""),
        OSError(),
        ImportError("cannot import name 'x' from 'funcnet.base'", name="funcnet.base"),
        jax.errors.JaxRuntimeError("INTERNAL: a bug"),
    ],
)
def test_a_defect_keeps_its_traceback(defect, monkeypatch):
    def main(options):
        raise defect

    monkeypatch.setattr(sys, "argv", ["funcnet try"])
    with pytest.raises(type(defect)) as caught:
        run_program(Options, main)
    assert caught.value is defect


def test_ctrl_c(ended):
    assert ended(KeyboardInterrupt()) == (130, "error: interrupted\n")


def test_an_argument_that_is_no_number(ended):
    code, printed = ended(None, "--learning-rate", "x")
    assert code == 2
    assert "--learning-rate" in printed


def test_options_that_the_command_line_leaves_out(monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "argv", ["funcnet try", "a", "b"])
    run_program(Options, seen.append, default=lambda given: Options(learning_rate=9.0))
    assert seen == [Options(files=("a", "b"), learning_rate=9.0)]


@pytest.mark.parametrize(
    ("program", "called"),
    [("funcnet train", "funcnet train"), ("scripts/train.py", "python scripts/train.py")],
)
def test_how_the_program_was_called(program, called, monkeypatch):
    monkeypatch.setattr(sys, "argv", [program])
    assert called_as() == called


def test_a_word_that_is_no_option_stays():
    assert as_option("rows: expected a number.", Options) == "rows: expected a number."
