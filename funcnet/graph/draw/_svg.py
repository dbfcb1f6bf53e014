"""The drawing of a graph in SVG, left to right: boxes with name, value and adjoint, and the edges.

A graph of many nodes is folded by source line. Each box and each edge carries the marks by which
the page's script finds it: `data-box`, `data-child`, `data-parent`.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from importlib import resources
from typing import TypeAlias

from funcnet.graph._nodes import Computation, Edge, Node
from funcnet.graph._notation import summary
from funcnet.graph.draw._layout import Layout, layered
from funcnet.graph.draw._text import adjoint, cut

MAX_BOXES = 300  # a graph of more nodes is folded by source line
HEIGHT, ROW = 74, 100  # pixels: the height of a box, and the distance from row to row
BOLD, LETTER = 9.8, 8.6  # pixels: the width of a letter of a title, and of other lines
LINE = 22  # pixels: the height of a label
MARGIN = 12  # pixels beside a text
LONGEST = 28  # characters of a line; the whole is in the panel
STOPS = (0.5, 0.35, 0.65, 0.22, 0.78)  # parts of an edge's way for its label, the best first

Point: TypeAlias = tuple[int, float]  # a position in the layout, `(layer, row)`
Pair: TypeAlias = tuple[int, int]  # two boxes with an edge between them, `(child, parent)`
Span: TypeAlias = tuple[float, float]  # the ends of a layer or of the gap after it, in pixels


@dataclasses.dataclass(frozen=True, kw_only=True)
class Box:
    """A node, or the nodes of one source line of a large graph; `node` is the last of them."""

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
        below = "" if self.node.adjoint is None else f"∂ {adjoint(self.node)}"
        return cut(self.title, LONGEST), cut(summary(self.node.value), LONGEST), cut(below, LONGEST)


def svg(graph: Computation) -> str:
    """Return the drawing, left to right: each node with its name, operation, value and adjoint."""
    style = f"<style>{data_file('drawing.css')}</style>"
    return drawing(boxes(graph), graph.edges, style=style)


def data_file(name: str) -> str:
    return resources.files("funcnet.graph.draw").joinpath(name).read_text(encoding="utf-8")


def boxes(graph: Computation) -> list[Box]:
    """Return a box per node; in a large graph one per source line, or per several lines."""
    if len(graph.nodes) <= MAX_BOXES:
        return [Box(node=node, members=(node,)) for node in graph.nodes]
    nodes, n = graph.nodes, len(graph.nodes)
    starts = [i for i in range(n) if i == 0 or not _same_line(nodes[i - 1], nodes[i])]
    ends = [*starts[:: -(-len(starts) // MAX_BOXES)], n]
    pairs = itertools.pairwise(ends)
    return [Box(node=nodes[end - 1], members=nodes[start:end]) for start, end in pairs]


def _same_line(before: Node, node: Node) -> bool:
    """Whether both are of one line, and not of `x#2` and `x#3`: a variable assigned again."""
    one, other = (
        (x.source.file, x.source.line) if x.source else x.operation for x in (before, node)
    )
    assigned_again = (before.part_of or before.name) != (node.part_of or node.name)
    return one == other and not (assigned_again and before.variable == node.variable)


def drawing(boxes: Sequence[Box], edges: Iterable[Edge], *, style: str = "") -> str:
    owner = {node.index: i for i, box in enumerate(boxes) for node in box.members}
    labels = _labels(edges, owner)
    used = ((owner[i], b) for b, box in enumerate(boxes) for n in box.members for i in n.inputs)
    layout = layered(len(boxes), [pair for pair in {*labels, *used} if pair[0] != pair[1]])
    layers = _layers(boxes, labels, layout)
    width, height = layers[-1][1] + MARGIN, layout.height * ROW
    body = [
        *(_curve(pair, route, layers) for pair, route in layout.routes.items()),
        *_labels_drawn(labels, layout, layers),
        *(_box(i, box, layout.positions[i], layers) for i, box in enumerate(boxes)),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="graph" role="group" '
        f'aria-label="computation graph" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}">{style}{"".join(body)}</svg>'
    )


def _labels(edges: Iterable[Edge], owner: Mapping[int, int]) -> dict[Pair, str]:
    """Return the local derivatives between two boxes: numbers where they are, else formulas."""
    labels: dict[Pair, str] = {}
    for edge in edges:
        pair = owner[edge.child], owner[edge.parent]
        one = str(edge) if edge.is_number else edge.formula
        labels[pair] = cut(f"{labels[pair]}; {one}" if pair in labels else one, LONGEST)
    return labels


def _layers(boxes: Sequence[Box], labels: Mapping[Pair, str], layout: Layout) -> list[Span]:
    """Return layers as wide as their longest line, with gaps as wide as their longest label."""
    widths, gaps = [0.0] * layout.width, [4.0 * MARGIN] * layout.width
    for box, (layer, _) in zip(boxes, layout.positions.values(), strict=True):
        title, value, below = map(len, box.lines)
        width = max(BOLD * title, LETTER * value, LETTER * below) + 2 * MARGIN
        widths[layer] = max(widths[layer], width)
    for (child, _), label in labels.items():
        layer, _ = layout.positions[child]
        gaps[layer] = max(gaps[layer], LETTER * len(label) + 5 * MARGIN)
    ends = itertools.accumulate(w + g for w, g in zip(widths, gaps, strict=True))
    lefts = [MARGIN + end - w - g for end, w, g in zip(ends, widths, gaps, strict=True)]
    return [(left, left + w) for left, w in zip(lefts, widths, strict=True)]


def _y(row: float) -> float:
    return (row + 0.5) * ROW


def _gap(layer: int, layers: Sequence[Span]) -> Span:
    return layers[layer][1], layers[layer + 1][0]


def _curve(pair: Pair, route: Sequence[Point], layers: Sequence[Span]) -> str:
    """Draw an edge from box to box through the gaps; straight across the layers between."""
    (layer, row), *later = route
    path = f"M{layers[layer][1]:g} {_y(row):g}"
    for (before, y), (after, v) in itertools.pairwise(route):
        middle, (left, right) = sum(_gap(before, layers)) / 2, layers[after]
        path += f"C{middle:g} {_y(y):g} {middle:g} {_y(v):g} {left:g} {_y(v):g}"
        path += f"H{right:g}" * ((after, v) != later[-1])
    return f'<path class="edge" {_marks(pair)} d="{path}"/>'


def _labels_drawn(
    labels: Mapping[Pair, str], layout: Layout, layers: Sequence[Span]
) -> Iterator[str]:
    """Draw each label on its edge, in the gap after the child, aside of those before."""
    placed: list[tuple[float, float, float]] = []  # the middle of each label, and its width

    def is_free(x: float, y: float, width: float) -> bool:
        return all(abs(x - u) >= (width + w) / 2 or abs(y - v) >= LINE for u, v, w in placed)

    for pair, route in layout.routes.items():
        if pair in labels:
            width = LETTER * len(labels[pair]) + MARGIN
            tries = [_on_curve(width, route[0], route[1], t, layers) for t in STOPS]
            x, y = next((at for at in tries if is_free(*at, width)), tries[0])
            placed.append((x, y, width))
            yield (
                f'<g class="slope" {_marks(pair)}><rect x="{x - width / 2:g}" '
                f'y="{y - LINE / 2:g}" width="{width:g}" height="{LINE}"/>'
                f'<text x="{x:g}" y="{y + 5:g}">{escape(labels[pair])}</text></g>'
            )


def _on_curve(
    width: float, start: Point, end: Point, t: float, layers: Sequence[Span]
) -> tuple[float, float]:
    """Return the part `t` of the way through a gap, as far as a label keeps off the boxes."""
    left, right = _gap(start[0], layers)
    room = (right - left - width) / 2
    along = (right - left) * (1.5 * t * (1 - t) + t**3 - 0.5)
    x = (left + right) / 2 + max(-room, min(room, along))
    return x, _y(start[1] + (end[1] - start[1]) * (t * t * (3 - 2 * t)))


def _marks(pair: Pair) -> str:
    return f'data-child="{pair[0]}" data-parent="{pair[1]}"'


def _box(i: int, box: Box, position: Point, layers: Sequence[Span]) -> str:
    (left, right), y = layers[position[0]], _y(position[1])
    rows = zip(("name", "value", "adjoint"), (-14, 7, 27), box.lines, strict=True)
    texts = "".join(
        f'<text class="{row}" x="{(left + right) / 2:g}" y="{y + below:g}">{escape(line)}</text>'
        for row, below, line in rows
    )
    kind = "leaf" if box.node.is_leaf else "step" if box.node.part_of else "variable"
    return (
        f'<g class="node {kind}" data-box="{i}" tabindex="0" role="button" '
        f'aria-label="{escape(box.title)}"><rect x="{left:g}" y="{y - HEIGHT / 2:g}" '
        f'width="{right - left:g}" height="{HEIGHT}" rx="10"/>{texts}</g>'
    )
