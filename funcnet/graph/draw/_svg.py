"""The drawing of a graph in SVG, left to right: boxes with name, value and adjoint, and the edges.

A graph of many nodes is folded by source line. Each box and each edge carries the marks by which
the page's script finds it: `data-box`, `data-child`, `data-parent`.
"""

import html
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple, TypeAlias

from funcnet.graph import _notation as notation
from funcnet.graph._graph import Graph
from funcnet.graph._nodes import Edge, Node
from funcnet.graph.draw._layout import Layout, layered

MAX_BOXES = 300
"""A graph of more nodes is folded by source line."""

HEIGHT, ROW = 74, 100
"""Pixels: how high a box is, and from row to row."""

BOLD, LETTER, LINE = 9.8, 8.6, 22
"""Pixels: how wide a letter of a title is, of other lines, and how high a label is."""

MARGIN = 12
"""Pixels that are free beside what is written."""

LONGEST = 28
"""Longer lines are cut: the whole is in the panel."""

PLACES = (0.5, 0.35, 0.65, 0.22, 0.78)
"""Parts of an edge's way where its label may stand, the best first."""

Point: TypeAlias = tuple[float, float]
"""A place in the layout, `(layer, row)`."""

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


class Span(NamedTuple):
    """Pixels: where a layer, or the gap between two, begins and ends."""

    left: float
    right: float

    @property
    def middle(self) -> float:
        """What lies between."""
        return (self.left + self.right) / 2


class Label(NamedTuple):
    """A local derivative on its edge, around a point."""

    text: str
    x: float
    y: float

    @property
    def width(self) -> float:
        """Pixels that it takes."""
        return LETTER * len(self.text) + MARGIN

    def overlaps(self, other: "Label") -> bool:
        """Whether one would hide a part of the other."""
        near = abs(self.x - other.x) < (self.width + other.width) / 2
        return near and abs(self.y - other.y) < LINE


def boxes(graph: Graph) -> list[Box]:
    """One box a node; in a large graph one a source line, in a larger one several lines a box."""
    if len(graph.nodes) <= MAX_BOXES:
        return [Box(node=node, members=(node,)) for node in graph.nodes]
    lines = list(_lines(graph.nodes))
    many = -(-len(lines) // MAX_BOXES)
    groups = (itertools.chain(*lines[i : i + many]) for i in range(0, len(lines), many))
    return [Box(node=members[-1], members=members) for members in map(tuple, groups)]


def _lines(nodes: Iterable[Node]) -> Iterator[list[Node]]:
    """Neighbours of one source line; the next turn of a loop is another line."""
    line: list[Node] = []
    for node in nodes:
        if line and not _same_line(line[-1], node):
            yield line
            line = []
        line.append(node)
    yield line


def _same_line(before: Node, node: Node) -> bool:
    """Whether both are of one line, and not of `x#2` and `x#3`: a variable assigned again."""
    if _line(before) != _line(node):
        return False
    one, other = (n.part_of or n.name for n in (before, node))
    return one == other or one.partition("#")[0] != other.partition("#")[0]


def _line(node: Node) -> Any:
    return node.source[:2] if node.source else node.operation


def drawing(boxes: Sequence[Box], edges: Iterable[Edge]) -> str:
    """The SVG element, without its style."""
    owner = {node.index: i for i, box in enumerate(boxes) for node in box.members}
    labels = _labels(edges, owner)
    used = ((owner[i], b) for b, box in enumerate(boxes) for n in box.members for i in n.inputs)
    layout = layered(len(boxes), [pair for pair in {*labels, *used} if pair[0] != pair[1]])
    layers = _layers(boxes, labels, layout)
    width, height = layers[-1].right + MARGIN, layout.height * ROW
    body = [
        *(_curve(pair, route, layers) for pair, route in layout.routes.items()),
        *(_label(pair, label) for pair, label in _placed(labels, layout, layers).items()),
        *(_box(i, box, layout.positions[i], layers) for i, box in enumerate(boxes)),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="graph" role="group" '
        f'aria-label="computation graph" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}">{"".join(body)}</svg>'
    )


def style() -> str:
    """The drawing's style sheet."""
    return resources.files("funcnet.graph.draw").joinpath("drawing.css").read_text(encoding="utf-8")


def _labels(edges: Iterable[Edge], owner: Mapping[int, int]) -> dict[Pair, str]:
    """The local derivatives between two boxes: numbers where they are, else formulas."""
    labels: dict[Pair, str] = {}
    for edge in edges:
        pair = owner[edge.child], owner[edge.parent]
        local = edge.local_derivative
        one = edge.formula if isinstance(local, str) or local.ndim else str(edge)
        labels[pair] = _cut(f"{labels[pair]}; {one}" if pair in labels else one)
    return labels


def _layers(boxes: Sequence[Box], labels: Mapping[Pair, str], layout: Layout) -> list[Span]:
    """Each layer as wide as its longest line, and the gap after it as its longest label."""
    widths, gaps = [0.0] * int(layout.width), [4.0 * MARGIN] * int(layout.width)
    for box, (layer, _) in zip(boxes, layout.positions.values(), strict=True):
        title, value, adjoint = map(len, box.lines)
        width = max(BOLD * title, LETTER * value, LETTER * adjoint) + 2 * MARGIN
        widths[int(layer)] = max(widths[int(layer)], width)
    for (child, _), label in labels.items():
        layer = int(layout.positions[child][0])
        gaps[layer] = max(gaps[layer], LETTER * len(label) + 5 * MARGIN)
    ends = itertools.accumulate(w + g for w, g in zip(widths, gaps, strict=True))
    lefts = [MARGIN + end - w - g for end, w, g in zip(ends, widths, gaps, strict=True)]
    return [Span(left, left + w) for left, w in zip(lefts, widths, strict=True)]


def _level(row: float) -> float:
    return (row + 0.5) * ROW


def _curve(pair: Pair, route: Sequence[Point], layers: Sequence[Span]) -> str:
    """From box to box through the gaps; straight across the layers between."""
    (layer, row), *later = route
    path = f"M{layers[int(layer)].right:g} {_level(row):g}"
    for (before, y), (after, v) in itertools.pairwise(route):
        middle, end = _gap(before, layers).middle, layers[int(after)]
        path += f"C{middle:g} {_level(y):g} {middle:g} {_level(v):g} {end.left:g} {_level(v):g}"
        path += f"H{end.right:g}" * ((after, v) != later[-1])
    return f'<path class="edge" {_marks(pair)} d="{path}"/>'


def _gap(layer: float, layers: Sequence[Span]) -> Span:
    """What is free after a layer."""
    return Span(layers[int(layer)].right, layers[int(layer) + 1].left)


def _placed(
    labels: Mapping[Pair, str], layout: Layout, layers: Sequence[Span]
) -> dict[Pair, Label]:
    """Each label on its edge, in the gap after the child; where another stands, aside of it."""
    placed: dict[Pair, Label] = {}
    for pair, route in layout.routes.items():
        if pair in labels:
            places = [_on_curve(labels[pair], route[0], route[1], t, layers) for t in PLACES]
            free = (p for p in places if not any(map(p.overlaps, placed.values())))
            placed[pair] = next(free, places[0])
    return placed


def _on_curve(text: str, start: Point, end: Point, t: float, layers: Sequence[Span]) -> Label:
    """A label at the part `t` of the way through a gap, as far as it keeps off the boxes."""
    gap, rise = _gap(start[0], layers), t * t * (3 - 2 * t)
    label = Label(text, gap.middle, _level(start[1] + (end[1] - start[1]) * rise))
    room = (gap.right - gap.left - label.width) / 2
    along = (gap.right - gap.left) * (1.5 * t * (1 - t) + t**3 - 0.5)
    return label._replace(x=gap.middle + max(-room, min(room, along)))


def _label(pair: Pair, label: Label) -> str:
    left, top = label.x - label.width / 2, label.y - LINE / 2
    return (
        f'<g class="slope" {_marks(pair)}><rect x="{left:g}" y="{top:g}" width="{label.width:g}" '
        f'height="{LINE}"/><text x="{label.x:g}" y="{label.y + 5:g}">'
        f"{html.escape(label.text)}</text></g>"
    )


def _marks(pair: Pair) -> str:
    return f'data-child="{pair[0]}" data-parent="{pair[1]}"'


def _box(i: int, box: Box, position: Point, layers: Sequence[Span]) -> str:
    layer, y = layers[int(position[0])], _level(position[1])
    rows = zip(("name", "value", "adjoint"), (-14, 7, 27), box.lines, strict=True)
    texts = "".join(
        f'<text class="{row}" x="{layer.middle:g}" y="{y + below:g}">{html.escape(line)}</text>'
        for row, below, line in rows
    )
    return (
        f'<g class="node {_kind(box.node)}" data-box="{i}" tabindex="0" role="button" '
        f'aria-label="{html.escape(box.title)}"><rect x="{layer.left:g}" y="{y - HEIGHT / 2:g}" '
        f'width="{layer.right - layer.left:g}" height="{HEIGHT}" rx="10"/>{texts}</g>'
    )


def _kind(node: Node) -> str:
    return "leaf" if node.is_leaf else "step" if node.part_of else "variable"


def _cut(line: str) -> str:
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
