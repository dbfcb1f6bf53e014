"""The drawing of a graph in SVG, left to right: boxes with name, value and adjoint, and the edges.

A graph of many nodes is folded by source line. Each box and each edge carries the marks by which
the page's script finds it: `data-box`, `data-child`, `data-parent`.
"""

import html
import itertools
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple, TypeAlias

from funcnet import notation
from funcnet.graph import Graph
from funcnet.layout import Layout, layered
from funcnet.nodes import Edge, Node

MAX_BOXES = 300
"""A graph of more nodes is folded by source line."""

HEIGHT, ROW = 74, 100
"""Pixels: how high a box is, and from row to row."""

BOLD, LETTER, MARGIN = 9.8, 8.6, 12
"""Pixels: how wide a letter of a title is, of other lines, and what is free beside them."""

LONGEST = 24
"""Longer lines are cut: the whole is in the panel."""

Pair: TypeAlias = tuple[int, int]
"""Two boxes with an edge between them, `(child, parent)`."""


class Box(NamedTuple):
    """What is drawn as one: a node, or the nodes of one source line of a large graph.

    Attributes:
      node: the node; of a line the last one.
      members: all nodes of it.
    """

    node: Node
    members: tuple[Node, ...]

    @property
    def title(self) -> str:
        """`b = w1 · a`."""
        if len(self.members) > 1:
            return f"{self.node.name}: {len(self.members)} operations"
        return self.node.name if self.node.is_leaf else f"{self.node.name} = {self.node.expression}"

    @property
    def lines(self) -> tuple[str, str, str]:
        """Title, value and adjoint, as they stand in the box."""
        adjoint = "" if self.node.adjoint is None else f"∂ {notation.summary(self.node.adjoint)}"
        return _cut(self.title), _cut(notation.summary(self.node.value)), _cut(adjoint)


class Scale(NamedTuple):
    """Pixels: how wide a box is, and from layer to layer."""

    width: float
    layer: float

    def pixel(self, point: tuple[float, float]) -> tuple[float, float]:
        """A point of the layout in the drawing."""
        return self.width / 2 + MARGIN + point[0] * self.layer, (point[1] + 0.5) * ROW


def boxes(graph: Graph) -> list[Box]:
    """One box a node; in a large graph one a source line, in a larger one several lines a box."""
    if len(graph.nodes) <= MAX_BOXES:
        return [Box(node=node, members=(node,)) for node in graph.nodes]
    lines = [tuple(run) for _, run in itertools.groupby(graph.nodes, key=_line)]
    many = -(-len(lines) // MAX_BOXES)
    groups = (itertools.chain(*lines[i : i + many]) for i in range(0, len(lines), many))
    return [Box(node=members[-1], members=members) for members in map(tuple, groups)]


def _line(node: Node) -> Any:
    return node.source[:2] if node.source else node.operation


def drawing(boxes: Sequence[Box], edges: Iterable[Edge]) -> str:
    """The SVG element, without its style."""
    owner = {node.index: i for i, box in enumerate(boxes) for node in box.members}
    labels = _labels(edges, owner)
    used = ((owner[i], b) for b, box in enumerate(boxes) for n in box.members for i in n.inputs)
    layout = layered(len(boxes), [pair for pair in {*labels, *used} if pair[0] != pair[1]])
    scale = _scale(boxes, labels.values())
    width, height = scale.pixel((layout.width - 1, layout.height - 0.5))
    width += scale.width / 2 + MARGIN
    body = [
        *(_curve(pair, route, scale) for pair, route in layout.routes.items()),
        *(_label(pair, labels[pair], layout, scale) for pair in layout.routes if pair in labels),
        *(_box(i, box, scale.pixel(layout.positions[i]), scale) for i, box in enumerate(boxes)),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="graph" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}">{"".join(body)}</svg>'
    )


def style() -> str:
    """The drawing's style sheet."""
    return resources.files("funcnet").joinpath("drawing.css").read_text(encoding="utf-8")


def _labels(edges: Iterable[Edge], owner: Mapping[int, int]) -> dict[Pair, str]:
    """The local derivatives between two boxes: numbers where they are, else formulas."""
    labels: dict[Pair, str] = {}
    for edge in edges:
        pair = owner[edge.child], owner[edge.parent]
        local = edge.local_derivative
        one = edge.formula if isinstance(local, str) or local.ndim else str(edge)
        labels[pair] = _cut(f"{labels[pair]}; {one}" if pair in labels else one)
    return labels


def _scale(boxes: Iterable[Box], labels: Iterable[str]) -> Scale:
    """Wide enough for the longest line of a box, and between boxes for the longest label."""
    width = max(
        max(BOLD * len(title), LETTER * len(value), LETTER * len(adjoint))
        for title, value, adjoint in (box.lines for box in boxes)
    )
    gap = LETTER * max(map(len, labels), default=0)
    return Scale(width=width + 2 * MARGIN, layer=width + gap + 5 * MARGIN)


def _curve(pair: Pair, route: Sequence[tuple[float, float]], scale: Scale) -> str:
    (x, y), *bends, (end, level) = map(scale.pixel, route)
    x, end = x + scale.width / 2, end - scale.width / 2
    path = f"M{x:g} {y:g}"
    for u, v in [*bends, (end, level)]:
        middle = (x + u) / 2
        path += f"C{middle:g} {y:g} {middle:g} {v:g} {u:g} {v:g}"
        x, y = u, v
    return f'<path class="edge" {_marks(pair)} d="{path}"/>'


def _label(pair: Pair, label: str, layout: Layout, scale: Scale) -> str:
    """The local derivative, in the middle of the edge's way to the next layer."""
    (x, y), (u, v), *_ = map(scale.pixel, layout.routes[pair])
    start = x + scale.width / 2
    end = u - scale.width / 2 if len(layout.routes[pair]) == 2 else u
    at, level = (start + min(end, start + scale.layer - scale.width)) / 2, (y + v) / 2
    text = html.escape(label)
    return f'<text class="slope" {_marks(pair)} x="{at:g}" y="{level + 5:g}">{text}</text>'


def _marks(pair: Pair) -> str:
    return f'data-child="{pair[0]}" data-parent="{pair[1]}"'


def _box(i: int, box: Box, center: tuple[float, float], scale: Scale) -> str:
    x, y = center
    rows = zip(("name", "value", "adjoint"), (-14, 7, 27), box.lines, strict=True)
    texts = "".join(
        f'<text class="{row}" x="{x:g}" y="{y + below:g}">{html.escape(line)}</text>'
        for row, below, line in rows
    )
    return (
        f'<g class="node {_kind(box.node)}" data-box="{i}" tabindex="0" role="button" '
        f'aria-label="{html.escape(box.title)}"><rect x="{x - scale.width / 2:g}" '
        f'y="{y - HEIGHT / 2:g}" width="{scale.width:g}" height="{HEIGHT}" rx="10"/>{texts}</g>'
    )


def _kind(node: Node) -> str:
    return "leaf" if node.is_leaf else "step" if node.part_of else "variable"


def _cut(line: str) -> str:
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
