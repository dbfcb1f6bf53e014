"""python scripts/trace_graph.py --out lecture.html

Draws the computation graph of the lecture's example, of the cost of a model (`--example mlp`), or
of a function of your own: `--function package.module:name --args '(1.0, [2.0, 3.0])'`. Printed are
a table and the chain rule of every argument; `--out` writes .html, .svg, .dot or .json.
"""

import dataclasses
import json
from pathlib import Path

from graph_calls import load_function, parse_arguments, run_call
from graph_examples import EXAMPLES

import funcnet as fn
from funcnet._files import write_whole
from funcnet.base import one_of
from funcnet.runs._console import check_out, run_program

WRITERS = {
    ".html": fn.render.page,
    ".svg": fn.render.svg,
    ".dot": fn.render.dot,
    ".json": lambda graph: json.dumps(fn.render.record(graph), ensure_ascii=False, indent=1),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Print the graph of a function: every value, every adjoint, and the chain rule written out."""

    example: str = "lecture"
    """lecture, or the cost of a model on four digits: logistic, softmax, mlp."""
    function: str = ""
    """A function of your own instead: package.module:name."""
    args: str = ""
    """Its arguments, in Python or JSON: (1.0, [2.0, 3.0]); for one array ([1.0, 2.0],)."""
    out: Path | None = None
    """A file to write it to; its suffix says how: .html, .svg, .dot or .json."""


def trace(options: Options) -> fn.Graph:
    """The graph that the options ask for."""
    if options.function:
        function = load_function(options.function)
        return run_call(fn.trace(function), function, parse_arguments(options.args or "()"))
    if options.args:
        raise ValueError("--args: expected a --function that takes them.")
    function, args = EXAMPLES[one_of("--example", options.example, EXAMPLES)]()
    return fn.trace(function)(*args)


def main(options: Options) -> None:
    """Traces, writes, and prints: the file is whole even where a reader of the output stops."""
    check_out(options.out, WRITERS)
    graph = trace(options)
    if options.out:
        write_whole(options.out, WRITERS[options.out.suffix](graph).encode())
    print(graph)
    for node in graph.nodes:
        if node.operation == "argument" and node.adjoint is not None:
            print(graph.chain_rule(node.name))


if __name__ == "__main__":
    run_program(Options, main)
