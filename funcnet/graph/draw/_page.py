"""A graph as JSON, and as one page that walks through it, forward and backward.

The page is a single file that opens from disk: no library, no network. Names and source lines are
escaped wherever they are written: a variable is never markup.
"""

import dataclasses
import json
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from funcnet.graph._chain import chain_rule
from funcnet.graph._nodes import Computation, Edge, Node, is_number, is_real
from funcnet.graph._notation import number, summary
from funcnet.graph.draw._equations import backward, forward
from funcnet.graph.draw._svg import MAX_BOXES, Box, boxes, data_file, drawing
from funcnet.graph.draw._text import adjoint, row

MAX_CELLS = 24  # rows, and columns, of a heat map


def html(graph: Computation, path: str | Path) -> None:
    """Write the page of a graph, one file that needs nothing else.

    Raises:
      OSError: the file cannot be written.
    """
    _ = Path(path).write_text(page(graph), encoding="utf-8")


def frame(graph: Computation) -> str:
    """Return the page, framed for a notebook."""
    content = escape(page(graph))
    return f'<iframe srcdoc="{content}" style="width:100%;height:640px;border:0"></iframe>'


def page(graph: Computation) -> str:
    """Return the page of a graph."""
    drawn = boxes(graph)
    data = {"boxes": [_box_data(graph, box) for box in drawn]}
    written = json.dumps(data, ensure_ascii=False, allow_nan=False)
    return Template(data_file("page.html")).substitute(
        title=escape(graph.name),
        style=data_file("drawing.css") + data_file("page.css"),
        drawing=drawing(drawn, graph.edges),
        data=written.replace("&", "\\u0026").replace("<", "\\u003c"),
        script=data_file("page.js"),
    )


def record(graph: Computation) -> dict[str, Any]:
    """Return nodes and edges as plain numbers and strings, for JSON."""
    return {
        "function": graph.name,
        "nodes": [
            _node_data(node) | {"inputs": [graph.nodes[i].name for i in node.inputs]}
            for node in graph.nodes
        ],
        "edges": [_edge_data(graph, edge) for edge in graph.edges],
    }


def _box_data(graph: Computation, box: Box) -> dict[str, Any]:
    node, uses = box.node, graph.uses.get(box.node.index, ())
    has_chain = node.is_leaf and node.adjoint is not None and len(graph.nodes) <= MAX_BOXES
    return {
        "node": _node_data(node),
        "members": [row(member) for member in box.members if len(box.members) > 1],
        "maps": {"value": _heat_map(node.value), "adjoint": _heat_map(node.adjoint)},
        "forward": "" if node.is_leaf else forward(node),
        "backward": "" if node.adjoint is None else backward(graph, node),
        "chain": str(chain_rule(graph, node)) if has_chain else "",
        "uses": [_edge_data(graph, edge) for edge in uses[::-1]],
    }


def _node_data(node: Node) -> dict[str, Any]:
    statistics = dataclasses.asdict(node.statistics) if node.statistics else {}
    return {
        "name": node.name,
        "operation": node.operation,
        "expression": node.expression,
        "value": summary(node.value),
        "adjoint": adjoint(node),
        "shape": list(node.value.shape),
        "dtype": str(node.value.dtype),
        "source": str(node.source or ""),
        "statistics": {key: number(x) for key, x in statistics.items() if key != "shape"},
        "exact": _exact(node.value),
        "exact_adjoint": _exact(node.adjoint),
    }


def _exact(array: ArrayLike | None) -> float | None:
    if array is None or not is_number(array):
        return None
    x = float(np.asarray(array))
    return x if np.isfinite(x) else None


def _edge_data(graph: Computation, edge: Edge) -> dict[str, Any]:
    return {
        "parent": graph.nodes[edge.parent].name,
        "child": graph.nodes[edge.child].name,
        "local": str(edge),
        "contribution": summary(edge.contribution),
        "by_hand": edge.by_hand,
    }


def _heat_map(array: ArrayLike | None) -> list[list[int]] | None:
    """Return the means of blocks, in percent of the largest."""
    if array is None or np.ndim(array) == 0 or np.size(array) == 0 or not is_real(array):
        return None
    values = np.nan_to_num(np.asarray(array).astype(np.float64), posinf=0, neginf=0)
    table = values.reshape(-1, values.shape[-1])
    for axis in (0, 1):
        edges = np.linspace(0, table.shape[axis], min(table.shape[axis], MAX_CELLS) + 1).astype(int)
        sizes = np.expand_dims(np.diff(edges), 1 - axis)
        table = np.add.reduceat(table, edges[:-1], axis=axis) / sizes
    scale = np.abs(table).max() or 1.0
    return np.rint(100 * table / scale).astype(int).tolist()
