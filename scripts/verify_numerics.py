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
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import accuracy
import jax
import numpy as np
from accuracy import NOTHING, QUANTITIES, Contestant, Tally
from benchmark.private import run_program, watch_count, write_whole
from benchmark.tables import markdown, version_of

import funcnet as fn

BLOCK = 2**20  # inputs that are verified at once
OURS = ("by hand", "funcnet")
CONTESTANTS = (*OURS, "jax.nn", "PyTorch")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Verify the activations and their derivatives against float64."""

    sample: int | None = None
    """How many inputs, as many of each sign and exponent; by default all 2^32."""
    seed: int = 0
    """Of the sample."""
    out: Path | None = None
    """Where to keep the figures, a .json file; it says where an interrupted run goes on."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """The errors on the inputs that are verified so far.

    Attributes:
      subject: the inputs, and the versions of the libraries.
      verified: how many inputs are verified.
      worst: by the name of the quantity, then by the contestant's.
    """

    subject: Mapping[str, Any]
    verified: int
    worst: Mapping[str, Mapping[str, Tally]]


def main(options: Options) -> None:
    """Verify, print the table, and fail where it shows a fault."""
    report = begin(options)
    contestants = {name: accuracy.contestants(name) for name in report.worst}
    with jax.enable_x64(True):
        for bits in blocks(options, report.verified):
            report = add(report, contestants, bits)
            if options.out is not None:
                write_whole(options.out, json.dumps(dataclasses.asdict(report), indent=1).encode())
    missing = "" if report.subject["torch"] else "; PyTorch is not installed, and left out"
    print(f"{report.verified:,} inputs{missing}", table(report), sep="\n")
    if found := list(faults(report)):
        sys.exit("error: expected no result worse than jax.nn's; got " + "; ".join(found))


def begin(options: Options) -> Report:
    """Return an empty report, or that of an interrupted run on the same inputs and versions."""
    libraries = {name: version_of(name) for name in ("funcnet", "jax", "torch")}
    subject = {"sample": options.sample, "seed": options.seed, **libraries}
    if options.sample is None and options.out is not None and options.out.exists():
        return _resumed(options.out, subject)
    return Report(subject=subject, verified=0, worst={name: {} for name in QUANTITIES})


def _resumed(path: Path, subject: Mapping[str, Any]) -> Report:
    with contextlib.suppress(ValueError, KeyError, TypeError):  # it is not such a report
        content = json.loads(path.read_bytes())
        if content["subject"] == subject:
            worst = {
                name: {contestant: Tally(**tally) for contestant, tally in tallies.items()}
                for name, tallies in content["worst"].items()
            }
            return Report(subject=subject, verified=content["verified"], worst=worst)
    raise fn.UsageError(
        f"--out: expected a new file, or a report on {subject}; {path} is something else. "
        "Delete it, or name another file."
    )


def blocks(options: Options, verified: int) -> Iterator[np.ndarray]:
    """Yield the bits of the inputs that are still to be verified, in blocks."""
    if options.sample is not None:
        yield accuracy.stratified(options.sample, seed=options.seed)
    else:
        for first in watch_count(range(verified, 2**32, BLOCK), "a million inputs each"):
            yield np.arange(first, first + BLOCK, dtype=np.uint32)


def add(
    report: Report, contestants: Mapping[str, Mapping[str, Contestant]], bits: np.ndarray
) -> Report:
    """Verify the inputs of these bits, and add their errors to a report."""
    worst = {
        name: {
            contestant: accuracy.merge(tallies.get(contestant, NOTHING), tally)
            for contestant, tally in accuracy.verify(name, contestants[name], bits)
        }
        for name, tallies in report.worst.items()
    }
    return Report(subject=report.subject, verified=report.verified + len(bits), worst=worst)


def table(report: Report) -> str:
    """Return a row per quantity and a column per contestant, in Markdown."""
    head = ["largest error in ULP", *CONTESTANTS]
    rows = [
        [f"`{name}`", *(_cell(worst.get(contestant)) for contestant in CONTESTANTS)]
        for name, worst in report.worst.items()
    ]
    return markdown(head, *rows, words=len(head))


def _cell(tally: Tally | None) -> str:
    if tally is None:
        return ""
    counts = {"nans": tally.nans, "outside": tally.outside}
    said = "".join(f", {count:,} {what}" for what, count in counts.items() if count)
    where = f" at {tally.at:.9g}" if tally.ulp else ""
    return f"{tally.ulp:,.{2 if tally.ulp < 1000 else 0}f}{where}{said}"


def faults(report: Report) -> Iterator[str]:
    """Yield each quantity where funcnet is worse than jax.nn, is NaN, or leaves the range."""
    for name, worst in report.worst.items():
        theirs = worst["jax.nn"]
        for ours in (worst[contestant] for contestant in OURS if contestant in worst):
            if ours.nans or ours.outside or ours.ulp > theirs.ulp:
                yield f"{name}: {_cell(ours)}, jax.nn: {_cell(theirs)}"


if __name__ == "__main__":
    run_program(Options, main)
