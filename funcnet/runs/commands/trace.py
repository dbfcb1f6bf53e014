"""The command `trace`: the graph of the lecture's example, of a model, or of your own function.

    funcnet trace --function package.module:name --args '(1.0, [2.0, 3.0])' --out graph.html

It prints a table and the chain rule of every argument. `--out` writes a page, a picture, or data.
"""

import dataclasses
import json
from pathlib import Path

from funcnet import graph
from funcnet._files import write_whole
from funcnet.base import UsageError, one_of
from funcnet.graph import draw
from funcnet.runs._console import check_out, run_program
from funcnet.runs.commands._calls import call, load_function, parse_arguments
from funcnet.runs.commands._examples import EXAMPLES

WRITERS = {
    ".html": draw.page,
    ".svg": draw.svg,
    ".dot": draw.dot,
    ".json": lambda graph: json.dumps(draw.record(graph), ensure_ascii=False, indent=1),
}
"""The writer of a graph for each suffix of `--out`."""


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
    """A file to write, whose suffix says how: .html, .svg, .dot or .json."""


def command() -> None:
    """Read the command line and trace."""
    run_program(Options, main)


def main(options: Options) -> None:
    """Trace, write, and print. The file is whole even if the reader of the output leaves."""
    check_out(options.out, WRITERS)
    found = trace(options)
    if options.out:
        write_whole(options.out, WRITERS[options.out.suffix](found).encode())
    print(found)
    for node in found.nodes:
        if node.operation == "argument" and node.adjoint is not None:
            print(found.chain_rule(node.name))


def trace(options: Options) -> graph.Graph:
    """Return the graph that the options ask for."""
    if options.function:
        function = load_function(options.function)
        return call(graph.trace, function, parse_arguments(options.args or "()"))
    if options.args:
        raise UsageError("args: expected a --function that takes them.")
    function, args = EXAMPLES[one_of("example", options.example, EXAMPLES)]()
    return graph.trace(function)(*args)
