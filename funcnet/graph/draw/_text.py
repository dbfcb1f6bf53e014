"""A graph as text: a table, and the language of Graphviz."""

import functools
import json

from funcnet.graph._nodes import Computation, Node
from funcnet.graph._notation import summary

MAX_WIDTH = 40  # characters of an operation in the table


def text(graph: Computation) -> str:
    """Return a table: step, name, operation, value, adjoint."""
    rows = [("step", "name", "operation", "value", "adjoint"), *map(row, graph.nodes)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "\n".join(lines)


def row(node: Node) -> tuple[str, ...]:
    written = cut(node.expression, MAX_WIDTH)
    return str(node.index), node.name, written, summary(node.value), adjoint(node)


def adjoint(node: Node) -> str:
    """Return the adjoint of a node; if there is none, the dtype that is the reason."""
    return f"none: {node.value.dtype}" if node.adjoint is None else summary(node.adjoint)


def cut(line: str, width: int) -> str:
    return line if len(line) <= width else f"{line[: width - 1]}…"


def dot(graph: Computation) -> str:
    """Return the graph in the language of Graphviz; a use without a derivative has no label."""
    quoted = functools.partial(json.dumps, ensure_ascii=False)
    nodes = (f"  n{node.index} [label={quoted(_label(node))}];" for node in graph.nodes)
    edges = (
        f"  n{edge.child} -> n{edge.parent} [label={quoted(edge.formula)}];"
        for edge in reversed(graph.edges)
    )
    derived = {(edge.child, edge.parent) for edge in graph.edges}
    used = dict.fromkeys((i, node.index) for node in graph.nodes for i in node.inputs)
    others = (f"  n{i} -> n{j};" for i, j in used if (i, j) not in derived)
    start = ["digraph {", "  rankdir=LR;", "  node [shape=box];"]
    return "\n".join([*start, *nodes, *edges, *others, "}", ""])


def _label(node: Node) -> str:
    expression = () if node.is_leaf else (node.expression,)
    return "\n".join((node.name, *expression, summary(node.value), f"∂ {adjoint(node)}"))
