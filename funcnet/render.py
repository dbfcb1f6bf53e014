"""Pictures of a graph: a table, DOT, SVG, and one page that walks through it, forward and backward.

The page is a single file that opens from disk: no library, no network. Names and source lines are
escaped wherever they are written: a variable is never markup.
"""

import base64
import html as markup
import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from funcnet import notation
from funcnet.graph import Graph
from funcnet.layout import Layout, layered
from funcnet.nodes import Edge, Node

MAX_BOXES = 300
"""A graph of more nodes is folded by source line."""

LAYER, ROW, WIDTH, HEIGHT = 220, 96, 160, 64
"""Pixels from layer to layer and from row to row, and the size of a box."""

MAX_CELLS = 24
"""A heat map has at most so many rows, and so many columns."""


class Box(NamedTuple):
    """What is drawn as one: a node, or the nodes of one source line of a large graph.

    Attributes:
      node: the node; of a line the last one.
      members: all nodes of it.
    """

    node: Node
    members: tuple[Node, ...]


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
    """The graph in the language of Graphviz."""
    nodes = (
        f"  n{node.index} [label={_quoted(chr(10).join(_lines(node)))}];" for node in graph.nodes
    )
    edges = (
        f"  n{edge.child} -> n{edge.parent} [label={_quoted(edge.formula)}];"
        for edge in reversed(graph.edges)
    )
    return "\n".join(["digraph {", "  rankdir=LR;", "  node [shape=box];", *nodes, *edges, "}", ""])


def _lines(node: Node) -> tuple[str, ...]:
    expression = () if node.is_leaf else (node.expression,)
    return node.name, *expression, notation.summary(node.value), f"∂ {_adjoint(node)}"


def _quoted(label: str) -> str:
    escaped = label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def svg(graph: Graph) -> str:
    """The drawing, left to right: of each node its name, operation, value and adjoint."""
    style = resources.files("funcnet").joinpath("drawing.css").read_text()
    picture = _drawing(_boxes(graph), graph.edges)
    return picture.replace(">", f"><style>{style}</style>", 1)


def html(graph: Graph, path: str | Path) -> None:
    """Writes the page of a graph, one file that needs nothing else.

    Raises:
      OSError: the file cannot be written.
    """
    _ = Path(path).write_text(page(graph), encoding="utf-8")


def page(graph: Graph) -> str:
    """The page of a graph."""
    files = resources.files("funcnet")
    boxes = _boxes(graph)
    data = json.dumps(_data(graph, boxes), ensure_ascii=False, allow_nan=False)
    parts = {
        "{{title}}": markup.escape(graph.name),
        "{{style}}": files.joinpath("drawing.css").read_text(),
        "{{drawing}}": _drawing(boxes, graph.edges),
        "{{data}}": data.replace("&", "\\u0026").replace("<", "\\u003c"),
    }
    template = files.joinpath("page.html").read_text()
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
        "nodes": [_node_data(node) for node in graph.nodes],
        "edges": [_edge_data(edge, graph.nodes) for edge in graph.edges],
    }


def _boxes(graph: Graph) -> list[Box]:
    """One box a node; in a large graph one a source line, in a larger one several lines a box."""
    if len(graph.nodes) <= MAX_BOXES:
        return [Box(node=node, members=(node,)) for node in graph.nodes]
    lines = [tuple(run) for _, run in itertools.groupby(graph.nodes, key=_line)]
    many = -(-len(lines) // MAX_BOXES)
    groups = (itertools.chain(*lines[i : i + many]) for i in range(0, len(lines), many))
    return [Box(node=members[-1], members=members) for members in map(tuple, groups)]


def _line(node: Node) -> Any:
    return node.source[:2] if node.source else node.operation


def _drawing(boxes: Sequence[Box], edges: Sequence[Edge]) -> str:
    """The SVG of boxes and edges, with the marks by which the page finds them."""
    owner = {node.index: i for i, box in enumerate(boxes) for node in box.members}
    pairs = [(owner[edge.child], owner[edge.parent]) for edge in edges]
    pairs = [pair for pair in pairs if pair[0] != pair[1]]
    pairs += [(owner[i], b) for b, box in enumerate(boxes) for n in box.members for i in n.inputs]
    layout = layered(len(boxes), [pair for pair in pairs if pair[0] != pair[1]])
    width, height = layout.width * LAYER, layout.height * ROW
    labels = _labels(edges, owner)
    body = [*_curves(layout, labels), *(_box(i, box, layout) for i, box in enumerate(boxes))]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="graph" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" role="img">{"".join(body)}</svg>'
    )


def _labels(edges: Sequence[Edge], owner: dict[int, int]) -> dict[tuple[int, int], str]:
    """The local derivatives between two boxes."""
    labels: dict[tuple[int, int], str] = {}
    for edge in edges:
        pair = owner[edge.child], owner[edge.parent]
        more = _shortened(str(edge), 22)
        labels[pair] = f"{labels[pair]}; {more}" if pair in labels else more
    return labels


def _curves(layout: Layout, labels: dict[tuple[int, int], str]) -> Iterator[str]:
    for (child, parent), route in layout.routes.items():
        points = [_pixel(point) for point in route]
        (x, y), (end, _) = points[0], points[-1]
        path = f"M{x + WIDTH / 2:g} {y:g}"
        here = (x + WIDTH / 2, y)
        for u, v in [*points[1:-1], (end - WIDTH / 2, points[-1][1])]:
            middle = (here[0] + u) / 2
            path += f"C{middle:g} {here[1]:g} {middle:g} {v:g} {u:g} {v:g}"
            here = (u, v)
        second = points[1] if len(points) > 2 else (end - WIDTH / 2, points[1][1])
        at, level = (x + WIDTH / 2 + second[0]) / 2, (y + second[1]) / 2
        label = markup.escape(labels.get((child, parent), ""))
        yield (
            f'<g class="edge" data-child="{child}" data-parent="{parent}"><path d="{path}"/>'
            f'<text x="{at:g}" y="{level - 6:g}">{label}</text></g>'
        )


def _pixel(point: tuple[float, float]) -> tuple[float, float]:
    return (point[0] + 0.5) * LAYER, (point[1] + 0.5) * ROW


def _box(i: int, box: Box, layout: Layout) -> str:
    x, y = _pixel(layout.positions[i])
    node = box.node
    kind = "leaf" if node.is_leaf else "step" if node.part_of else "variable"
    folded = f"{len(box.members)} operations" if len(box.members) > 1 else node.expression
    title = node.name if node.is_leaf and len(box.members) == 1 else f"{node.name} = {folded}"
    lines = (
        ("name", _shortened(title, 22), -14),
        ("value", _shortened(notation.summary(node.value), 24), 6),
        ("adjoint", _shortened(_partial(node), 24), 24),
    )
    texts = "".join(
        f'<text class="{name}" x="{x:g}" y="{y + dy:g}">{markup.escape(line)}</text>'
        for name, line, dy in lines
    )
    return (
        f'<g class="node {kind}" data-box="{i}" tabindex="0" role="button" '
        f'aria-label="{markup.escape(title)}"><rect x="{x - WIDTH / 2:g}" y="{y - HEIGHT / 2:g}" '
        f'width="{WIDTH}" height="{HEIGHT}" rx="10"/>{texts}</g>'
    )


def _partial(node: Node) -> str:
    return "" if node.adjoint is None else f"∂ {notation.summary(node.adjoint)}"


def _shortened(line: str, length: int) -> str:
    return line if len(line) <= length else f"{line[: length - 1]}…"


def _data(graph: Graph, boxes: Sequence[Box]) -> dict[str, Any]:
    """What the page's script reads."""
    return {
        "boxes": [
            {
                "node": _node_data(box.node) | {"map": _heat_maps(box.node)},
                "members": [list(_row(node)) for node in box.members]
                if len(box.members) > 1
                else [],
                "uses": [_edge_data(e, graph.nodes) for e in graph.uses.get(box.node.index, ())],
            }
            for box in boxes
        ],
        "steps": list(_steps(graph, boxes)),
    }


def _steps(graph: Graph, boxes: Sequence[Box]) -> Iterator[dict[str, Any]]:
    """Forward every computed value, then backward every adjoint."""
    for i, box in enumerate(boxes):
        if not box.node.is_leaf:
            yield {"phase": "forward", "box": i, "math": _forward(graph, box.node)}
    for i, box in reversed(list(enumerate(boxes))):
        if box.node.adjoint is not None:
            yield {"phase": "backward", "box": i, "math": _backward(graph, box.node)}


def _forward(graph: Graph, node: Node) -> str:
    operands = [_value(graph.nodes[i].value) for i in node.inputs]
    substituted = node.expression
    if all(graph.nodes[i].value.ndim == 0 for i in node.inputs) and not node.literals:
        numbers = notation.expression(node.operation, operands, {"y": 0, "at": 0})
        substituted = numbers if node.operation in notation.EXPRESSIONS else node.expression
    middle = [_identifier(node.expression)] + [_identifier(substituted)] * (
        substituted != node.expression
    )
    return _equation([_identifier(node.name), *middle, _identifier(_value(node.value))])


def _backward(graph: Graph, node: Node) -> str:
    """`∂L/∂a = ∂L/∂b · ∂b/∂a + … = (−3)(1) + … = −11`."""
    output, uses = graph.output.name, graph.uses.get(node.index, ())[:6]
    left = _fraction(output, node.name)
    if not uses:
        return _equation([left, _identifier(_value(node.adjoint))])
    symbols = _sum(
        _fraction(output, graph.nodes[e.parent].name)
        + "<mo>·</mo>"
        + _fraction(graph.nodes[e.parent].name, node.name)
        for e in uses
    )
    numbers = _sum(
        _identifier(notation.factor(graph.nodes[e.parent].adjoint) + _number_factor(e))
        if graph.nodes[e.parent].value.ndim == 0
        else _identifier(f"({e.formula})")
        for e in uses
    )
    return _equation([left, symbols, numbers, _identifier(_value(node.adjoint))])


def _number_factor(edge: Edge) -> str:
    local = edge.local_derivative
    return f"({local})" if isinstance(local, str) else f"({_value(local)})"


def _value(array: Any) -> str:
    return notation.summary(array)


def _identifier(name: str) -> str:
    return f"<mtext>{markup.escape(name)}</mtext>"


def _fraction(of: str, by: str) -> str:
    return f"<mfrac>{_identifier('∂' + of)}{_identifier('∂' + by)}</mfrac>"


def _sum(terms: Iterator[str]) -> str:
    return "<mo>+</mo>".join(terms)


def _equation(sides: Sequence[str]) -> str:
    return f'<math display="block"><mrow>{"<mo>=</mo>".join(sides)}</mrow></math>'


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
    if array is None or np.ndim(array) or not np.isrealobj(np.asarray(array)):
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


def _heat_maps(node: Node) -> dict[str, Any]:
    maps: dict[str, Callable[[], Array | None]] = {
        "value": lambda: node.value,
        "adjoint": lambda: node.adjoint,
    }
    return {name: _heat_map(array()) for name, array in maps.items()}


def _heat_map(array: ArrayLike | None) -> dict[str, Any] | None:
    """The means of blocks, from −1 to 1 of the largest, as bytes."""
    if array is None or np.ndim(array) == 0 or np.size(array) == 0:
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
