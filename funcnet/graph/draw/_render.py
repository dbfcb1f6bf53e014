"""Pictures of a graph: a table, DOT, SVG, and one page that walks through it, forward and backward.

The page is a single file that opens from disk: no library, no network. Names and source lines are
escaped wherever they are written: a variable is never markup.
"""

import base64
import html as markup
import json
import re
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from funcnet.graph import _notation as notation
from funcnet.graph._graph import Graph
from funcnet.graph._nodes import Edge, Node, is_number, is_real
from funcnet.graph.draw import _equations as equations
from funcnet.graph.draw import _svg as drawing
from funcnet.graph.draw._svg import Box

MAX_CELLS = 24
"""A heat map has at most so many rows, and so many columns."""


def text(graph: Graph) -> str:
    """A table: step, name, operation, value, adjoint."""
    header = ("step", "name", "operation", "value", "adjoint")
    rows = [header, *map(_row, graph.nodes)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "\n".join(lines)


def _row(node: Node) -> tuple[str, ...]:
    expression = node.expression if len(node.expression) <= 40 else node.expression[:39] + "…"
    return str(node.index), node.name, expression, notation.summary(node.value), _adjoint(node)


def _adjoint(node: Node) -> str:
    if node.adjoint is None:
        return f"none: {node.value.dtype}"
    return notation.summary(node.adjoint)


def dot(graph: Graph) -> str:
    """The graph in the language of Graphviz; a use without a derivative has no label."""
    nodes = (
        f"  n{node.index} [label={_quoted(chr(10).join(_lines(node)))}];" for node in graph.nodes
    )
    edges = (
        f"  n{edge.child} -> n{edge.parent} [label={_quoted(edge.formula)}];"
        for edge in reversed(graph.edges)
    )
    derived = {(edge.child, edge.parent) for edge in graph.edges}
    used = dict.fromkeys((i, node.index) for node in graph.nodes for i in node.inputs)
    others = (f"  n{i} -> n{j};" for i, j in used if (i, j) not in derived)
    start = ["digraph {", "  rankdir=LR;", "  node [shape=box];"]
    return "\n".join([*start, *nodes, *edges, *others, "}", ""])


def _lines(node: Node) -> tuple[str, ...]:
    expression = () if node.is_leaf else (node.expression,)
    return node.name, *expression, notation.summary(node.value), f"∂ {_adjoint(node)}"


def _quoted(label: str) -> str:
    escaped = label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def svg(graph: Graph) -> str:
    """The drawing, left to right: of each node its name, operation, value and adjoint."""
    picture = drawing.drawing(drawing.boxes(graph), graph.edges)
    return picture.replace(">", f"><style>{drawing.style()}</style>", 1)


def html(graph: Graph, path: str | Path) -> None:
    """Writes the page of a graph, one file that needs nothing else.

    Raises:
      OSError: the file cannot be written.
    """
    _ = Path(path).write_text(page(graph), encoding="utf-8")


def page(graph: Graph) -> str:
    """The page of a graph."""
    boxes = drawing.boxes(graph)
    data = json.dumps(_data(graph, boxes), ensure_ascii=False, allow_nan=False)
    parts = {
        "{{title}}": markup.escape(graph.name),
        "{{style}}": drawing.style(),
        "{{drawing}}": drawing.drawing(boxes, graph.edges),
        "{{data}}": data.replace("&", "\\u0026").replace("<", "\\u003c"),
    }
    here = resources.files("funcnet.graph.draw")
    template = here.joinpath("page.html").read_text(encoding="utf-8")
    marks = re.compile("|".join(map(re.escape, parts)))
    return marks.sub(lambda mark: parts[mark[0]], template)  # one pass: parts are not searched


def frame(graph: Graph) -> str:
    """The page, framed for a notebook."""
    content = markup.escape(page(graph))
    return f'<iframe srcdoc="{content}" style="width:100%;height:640px;border:0"></iframe>'


def record(graph: Graph) -> dict[str, Any]:
    """Nodes and edges as plain numbers and strings, for JSON."""
    return {
        "function": graph.name,
        "nodes": [
            _node_data(node) | {"inputs": [graph.nodes[i].name for i in node.inputs]}
            for node in graph.nodes
        ],
        "edges": [_edge_data(edge, graph.nodes) for edge in graph.edges],
    }


def _data(graph: Graph, boxes: Sequence[Box]) -> dict[str, Any]:
    """What the page's script reads."""
    return {
        "boxes": [
            {
                "node": _node_data(box.node),
                "members": [_row(node) for node in box.members if len(box.members) > 1],
                "maps": {
                    "value": _heat_map(box.node.value),
                    "adjoint": _heat_map(box.node.adjoint),
                },
                "chain": _chain(graph, box.node),
                "uses": _uses(graph, box.node),
            }
            for box in boxes
        ],
        "steps": list(_steps(graph, boxes)),
    }


def _uses(graph: Graph, node: Node) -> list[dict[str, Any]]:
    """What a node receives, in the order of the program."""
    return [_edge_data(edge, graph.nodes) for edge in graph.uses.get(node.index, ())[::-1]]


def _chain(graph: Graph, node: Node) -> str:
    """The whole chain rule of an argument; of a large graph it is not to be read."""
    if not node.is_leaf or node.adjoint is None or len(graph.nodes) > drawing.MAX_BOXES:
        return ""
    return str(graph.chain_rule(node.name))


def _steps(graph: Graph, boxes: Sequence[Box]) -> Iterator[dict[str, Any]]:
    """Forward every computed value, then backward every adjoint."""
    for i, box in enumerate(boxes):
        if not box.node.is_leaf:
            yield {"phase": "forward", "box": i, "math": equations.forward(graph, box.node)}
    for i, box in reversed(list(enumerate(boxes))):
        if box.node.adjoint is not None:
            yield {"phase": "backward", "box": i, "math": equations.backward(graph, box.node)}


def _node_data(node: Node) -> dict[str, Any]:
    return {
        "name": node.name,
        "operation": node.operation,
        "expression": node.expression,
        "value": notation.summary(node.value),
        "adjoint": _adjoint(node),
        "shape": list(node.value.shape),
        "dtype": str(node.value.dtype),
        "source": str(node.source or ""),
        "statistics": _numbers(node.statistics),
        "exact": _exact(node.value),
        "exact_adjoint": _exact(node.adjoint),
    }


def _exact(array: ArrayLike | None) -> float | None:
    """The number of a finite scalar, unrounded."""
    if array is None or not is_number(array):
        return None
    number = float(np.asarray(array))
    return number if np.isfinite(number) else None


def _numbers(statistics: Any) -> dict[str, str]:
    if statistics is None:
        return {}
    return {k: notation.number(v) for k, v in statistics._asdict().items() if k != "shape"}


def _edge_data(edge: Edge, nodes: Sequence[Node]) -> dict[str, Any]:
    return {
        "parent": nodes[edge.parent].name,
        "child": nodes[edge.child].name,
        "local": str(edge),
        "contribution": notation.summary(edge.contribution),
        "by_hand": edge.by_hand,
    }


def _heat_map(array: ArrayLike | None) -> dict[str, Any] | None:
    """The means of blocks, from −1 to 1 of the largest, as bytes."""
    if array is None or np.ndim(array) == 0 or np.size(array) == 0 or not is_real(array):
        return None
    values = np.nan_to_num(np.asarray(array).astype(np.float64), posinf=0, neginf=0)
    table = values.reshape(-1, values.shape[-1])
    for axis in (0, 1):
        edges = np.linspace(0, table.shape[axis], min(table.shape[axis], MAX_CELLS) + 1).astype(int)
        sizes = np.expand_dims(np.diff(edges), 1 - axis)
        table = np.add.reduceat(table, edges[:-1], axis=axis) / sizes
    scale = np.abs(table).max() or 1.0
    cells = np.rint(127.5 + 127.5 * table / scale).astype(np.uint8)
    rows, columns = cells.shape
    return {"rows": rows, "columns": columns, "cells": base64.b64encode(cells.tobytes()).decode()}
