"""The training program's command line, fuzzed: exit code 0, 1 or 2, and never a traceback.

20 command lines by default, 200 with `-m slow`; `FUNCNET_FUZZ=3000 pytest -n0 ...` tries 3,000.
"""

import contextlib
import io
import os
import re
import shutil
import sys

import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, note, settings

from funcnet.runs import Stopped, TrainConfig, run
from funcnet.runs.commands import train

EXAMPLES = int(os.environ.get("FUNCNET_FUZZ", "20"))

OURS = re.compile(r"error: .*\S: expected \S.+\n", re.DOTALL)
"""A message of the program's: what it is about, and what was expected."""

PARSERS = re.compile(r".*\bFor full helptext, \w.*", re.DOTALL)
"""One of the parser's, in a box."""

NUMBERS = [
    "0",
    "1",
    "2",
    "3",
    "7",
    "-1",
    "1e3",
    "0.1",
    "nan",
    "inf",
    "1e999",
    "4294967296",
    "9" * 30,
]
WORDS = ["", " ", "none", "None", "auto", "x", "ü", "a b", "\x1b[2J", "[", "{", "--"]
ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
HOSTILE = st.sampled_from([*NUMBERS, *WORDS]) | ANY  # a system passes no NUL to a program


def likely(*values):
    """Mostly one of these, sometimes anything."""
    return st.one_of(*[st.sampled_from(values)] * 8, HOSTILE)


DATASETS = ["own.npz", "own.csv", "digits", "damaged.npz", "nothing.npz", "mnist", "mnits", "."]
EPOCHS = st.sampled_from([*["1", "2", "3"] * 8, "0", "-1", "x", "1.5", "nan", ""])
"""Few, or none: the most that a run may take is to be bounded."""

OPTIONS = {
    "dataset": likely(*DATASETS),
    "model": likely("logistic", "softmax", "mlp"),
    "model mlp --hidden": likely("4", "3 4"),
    "model mlp --activation": likely("relu", "elu", "sigmoid", "maxout --pieces 3"),
    "model logistic --target": likely("0", "1"),
    "hidden": likely("1", "5", "3 4", "0", "-2", "5 x", "1000000000000000000"),
    "activation": likely("relu", "elu", "maxout", "sigmoid", "rleu"),
    "pieces": likely("1", "3", "0"),
    "target": likely("0", "1", "5", "-1"),
    "loss": likely("cross_entropy", "squared_error"),
    "optimizer": likely("sgd", "momentum", "adam"),
    "gradients": likely("jax", "hand"),
    "learning-rate": likely("0.1", "1e-45", "1e30", "0", "-1"),
    "batch-size": likely("1", "16", "48", "1000", "0"),
    "seed": likely("0", "12", "-1", "4294967295"),
    "device": likely("auto", "cpu", "gpu", "gpo"),
    "data-dir": likely("data", "own.npz", "new/folder"),
    "manual-dir": likely("data", "nowhere"),
    "label-column": likely("label", "kind"),
    "out": likely("runs/a", "own.npz", "own.npz/a", "/proc/none", "."),
    "sweep": likely(
        "learning_rate=0.1,0.3", "seed=0:3", "seed=0:0", "seed=3:1", "seed=0:1000000000000",
        "l2=0,0.1 scale=1", "scale=-1", "learning_rate=nan", "l2=", "=", "rate=1", "seed=0.5",
    ),
    "resume": likely(*["stopped"] * 3, "own.npz", "nowhere"),
    "keep": likely("1", "2", "0"),
    "on-nonfinite": likely("stop", "skip", "rollback"),
    "quiet": st.just(""),
    "help": st.just(""),
    "unknown": HOSTILE,
}  # fmt: skip

fragments = st.sampled_from(list(OPTIONS)).flatmap(
    lambda name: OPTIONS[name].map(lambda value: [*f"--{name}".split(" "), *value.split(" ")])
)
stray = HOSTILE.map(lambda text: [text])


@st.composite
def command_lines(draw):
    """Options in any order, perhaps twice; epochs last, where the last counts."""
    chosen = draw(st.lists(fragments, max_size=5))
    strays = draw(st.lists(stray, max_size=1)) if draw(st.integers(0, 9)) == 0 else []
    dataset = ["--dataset", draw(st.sampled_from(["own.npz", "own.csv"]))]
    arguments = [dataset, *chosen, *strays, ["--epochs", draw(EPOCHS)]]
    return [argument for fragment in arguments for argument in fragment]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The working folder, with data of one's own; there is no network."""
    outside = tmp_path_factory.mktemp("fuzz")
    folder = outside / "given"
    folder.mkdir()
    x = np.random.default_rng(0).normal(size=(60, 2)) + 2 * (np.arange(60) % 2)[:, None]
    np.savez(folder / "own.npz", x_train=x, y_train=np.arange(60) % 2)
    rows = "".join(f"{a},{b},{'cat' if i % 2 else 'dog'}\n" for i, (a, b) in enumerate(x))
    (folder / "own.csv").write_text("a,b,label\n" + rows)
    (folder / "damaged.npz").write_bytes((folder / "own.npz").read_bytes()[:-9])
    (folder / "data").mkdir()
    config = TrainConfig(dataset=str(folder / "own.npz"), epochs=2, out=folder / "stopped")
    with pytest.raises(Stopped):
        run(config, say=lambda line: None, stop=iter([False, True]).__next__)

    def refuse(*args, **options):
        raise OSError("no network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("urllib.request.urlopen", refuse)
        yield outside


def ended(program, arguments):
    """Runs the program; its exit code, and what it wrote to both streams."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        jax.numpy_dtype_promotion("standard"),  # optax's Adam needs it
    ):
        patch.setattr(sys, "argv", ["train.py", *arguments])
        try:
            program()
        except SystemExit as end:
            return end.code or 0, out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


def check_end(folder, arguments):
    """Run a command line, and hold its end to the promise."""
    shutil.rmtree(folder / "tried", ignore_errors=True)
    shutil.copytree(folder / "given", folder / "tried")  # no example sees what another one left
    with contextlib.chdir(folder / "tried"):
        code, out, err = ended(train.command, arguments)
    event(f"exit code {code}")
    note(f"exit code {code}\n{out}\n{err}")
    assert code in (0, 1, 2)
    assert "Traceback" not in out + err
    if code == 0:
        assert err == ""
        assert "test accuracy: " in out or "--help" in arguments
    elif code == 1:
        assert err.startswith("error: ")
        assert all(line.startswith("  ") for line in err.rstrip("\n").split("\n")[1:])
    else:
        assert OURS.fullmatch(err) or PARSERS.fullmatch(err)


@settings(
    max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(arguments=command_lines())
def test_every_command_line_ends_well(folder, arguments):
    check_end(folder, arguments)


@pytest.mark.slow
@settings(
    max_examples=10 * EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(arguments=command_lines())
def test_many_command_lines_end_well(folder, arguments):
    check_end(folder, arguments)
