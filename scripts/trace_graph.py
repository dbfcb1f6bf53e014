"""python scripts/trace_graph.py --out lecture.html

Draws the lecture's computation graph: printed as a table, or written as .html, .svg, .dot or .json.
"""

import dataclasses
import json
import sys
from pathlib import Path

import tyro

import funcnet as fn


@dataclasses.dataclass(frozen=True)
class Options:
    """What is drawn, and where it goes.

    Attributes:
      out: the file to write; its suffix says what.
    """

    out: Path | None = None


def lecture(w1: float, w2: float, w3: float, w4: float, a: float) -> float:
    """The lecture's example."""
    b = w1 * a
    c = w2 * a
    d = w3 * b + w4 * c
    L = 10 - d
    return L  # noqa: RET504


WRITERS = {
    ".html": fn.render.page,
    ".svg": fn.render.svg,
    ".dot": fn.render.dot,
    ".json": lambda graph: json.dumps(fn.render.record(graph), ensure_ascii=False, indent=1),
}


def main() -> None:
    """Parse, trace, print."""
    options = tyro.cli(Options)
    if options.out and options.out.suffix not in WRITERS:
        print(f"--out: expected one of {', '.join(WRITERS)}; got {options.out}.", file=sys.stderr)
        sys.exit(2)
    graph = fn.trace(lecture)(1.0, 2.0, 3.0, 4.0, 5.0)
    print(graph, *(graph.chain_rule(f"w{i}") for i in (1, 2, 3, 4)), sep="\n")
    if options.out:
        try:
            _ = options.out.write_text(WRITERS[options.out.suffix](graph), encoding="utf-8")
        except OSError as error:
            print(f"{options.out}: {error.strerror}", file=sys.stderr)
            sys.exit(1)


if __name__ == "__main__":
    main()
