"""python scripts/trace_graph.py --out lecture.html

Draws the lecture's computation graph: printed as a table, or written as .html, .svg, .dot or .json.
"""

import dataclasses
import json
from pathlib import Path

import funcnet as fn
from funcnet.console import run_program
from funcnet.files import write_whole

WRITERS = {
    ".html": fn.render.page,
    ".svg": fn.render.svg,
    ".dot": fn.render.dot,
    ".json": lambda graph: json.dumps(fn.render.record(graph), ensure_ascii=False, indent=1),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Print the lecture's graph, b = w1·a, c = w2·a, d = w3·b + w4·c, L = 10 − d."""

    out: Path | None = None
    """A file to write it to; its suffix says how: .html, .svg, .dot or .json."""


def lecture(w1: float, w2: float, w3: float, w4: float, a: float) -> float:
    """The lecture's example."""
    b = w1 * a
    c = w2 * a
    d = w3 * b + w4 * c
    L = 10 - d
    return L  # noqa: RET504


def main(options: Options) -> None:
    """Traces, prints, and writes."""
    suffix = options.out.suffix if options.out else ".html"
    if suffix not in WRITERS:
        raise ValueError(f"--out: expected a name ending in {', '.join(WRITERS)}; got {suffix!r}.")
    graph = fn.trace(lecture)(1.0, 2.0, 3.0, 4.0, 5.0)
    print(graph, *(graph.chain_rule(f"w{i}") for i in (1, 2, 3, 4)), sep="\n")
    if options.out:
        write_whole(options.out, WRITERS[suffix](graph).encode())


if __name__ == "__main__":
    run_program(Options, main)
