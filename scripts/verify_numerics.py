"""python scripts/verify_numerics.py --out numerics.json

Verifies each activation and its derivative on all 2^32 float32 inputs against float64, beside
`jax.nn` and, where it is installed, PyTorch: the largest error in ULP and where it is, NaNs,
results outside the function's range. `--sample 1000000` takes some inputs of every sign and
exponent. Exits 1 where funcnet is worse than `jax.nn`, is NaN or leaves the range. Interrupted,
the same command goes on. `accuracy.py` says how errors are measured.
"""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import accuracy
import jax
import numpy as np
import reporting
from accuracy import QUANTITIES, Tally

from funcnet._files import write_whole
from funcnet.runs._console import run_program, watch_count

BLOCK = 2**20
OURS = ("by hand", "funcnet")
CONTESTANTS = (*OURS, "jax.nn", "PyTorch")

Report: TypeAlias = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Options:
    """Verify the activations and their derivatives against float64."""

    sample: int | None = None
    """How many inputs, as many of each sign and exponent; by default all 2^32."""
    seed: int = 0
    """Of the sample."""
    out: Path | None = None
    """Where to keep the figures, a .json file; it says where an interrupted run goes on."""


def blocks(options: Options, verified: int) -> Iterator[np.ndarray]:
    """The bits of the inputs that are still to be verified, in pieces."""
    if options.sample is not None:
        yield accuracy.stratified(options.sample, seed=options.seed)
    else:
        for first in watch_count(range(verified, 2**32, BLOCK), "a million inputs each"):
            yield np.arange(first, first + BLOCK, dtype=np.uint32)


def begin(options: Options) -> Report:
    """An empty report, or that of an interrupted run on the same inputs and versions."""
    libraries = {name: reporting.version_of(name) for name in ("funcnet", "jax", "torch")}
    subject = {"sample": options.sample, "seed": options.seed, **libraries}
    if options.sample is None and options.out is not None and options.out.exists():
        return _resumed(options.out, subject)
    return {"subject": subject, "verified": 0, "worst": {name: {} for name in QUANTITIES}}


def _resumed(path: Path, subject: dict[str, Any]) -> Report:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        report = json.loads(path.read_bytes())
        if report["subject"] == subject:
            return report
    raise ValueError(
        f"--out: expected a new file, or a report on {subject}; {path} is something else. "
        "Delete it, or name another file."
    )


def add(report: Report, bits: np.ndarray) -> None:
    """Verifies the inputs of these bits, too."""
    for name, worst in report["worst"].items():
        for contestant, tally in accuracy.verify(name, bits):
            before = Tally(**worst.get(contestant, accuracy.NOTHING._asdict()))
            worst[contestant] = accuracy.merge(before, tally)._asdict()
    report["verified"] += len(bits)


def table(report: Report) -> str:
    """A row a quantity, a column a contestant, in Markdown."""
    head = ["largest error in ULP", *CONTESTANTS]
    rows = [
        [f"`{name}`", *(_cell(worst.get(contestant)) for contestant in CONTESTANTS)]
        for name, worst in report["worst"].items()
    ]
    return reporting.markdown(head, *rows, words=len(head))


def _cell(tally: dict[str, Any] | None) -> str:
    if tally is None:
        return ""
    counts = "".join(f", {tally[key]:,} {key}" for key in ("nans", "outside") if tally[key])
    where = f" at {tally['at']:.9g}" if tally["ulp"] else ""
    digits = 2 if tally["ulp"] < 1000 else 0
    return f"{tally['ulp']:,.{digits}f}{where}{counts}"


def faults(report: Report) -> Iterator[str]:
    """Where funcnet is worse than jax.nn, is NaN, or leaves the range."""
    for name, worst in report["worst"].items():
        for ours in (worst[contestant] for contestant in OURS if contestant in worst):
            if ours["nans"] or ours["outside"] or ours["ulp"] > worst["jax.nn"]["ulp"]:
                yield f"{name}: {_cell(ours)}, jax.nn: {_cell(worst['jax.nn'])}"


def main(options: Options) -> None:
    """Verifies, prints the table, and fails where it shows a fault."""
    report = begin(options)
    with jax.enable_x64(True):
        for bits in blocks(options, report["verified"]):
            add(report, bits)
            if options.out is not None:
                write_whole(options.out, json.dumps(report, indent=1).encode())
    missing = "" if report["subject"]["torch"] else "; PyTorch is not installed, and left out"
    print(f"{report['verified']:,} inputs{missing}", table(report), sep="\n")
    if found := list(faults(report)):
        raise ArithmeticError("expected no result worse than jax.nn's; got " + "; ".join(found))


if __name__ == "__main__":
    run_program(Options, main)
