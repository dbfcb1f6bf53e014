"""Where the nodes of a graph are drawn: in layers from left to right, with few crossings.

The method of Sugiyama, Tagawa and Toda, *Methods for Visual Understanding of Hierarchical System
Structures* (1981): layers by the longest path, the order within a layer by the barycentre of the
neighbours, then positions as close to the neighbours as the order and the distance allow. An edge
that passes a layer gets a bend there, which is placed like a node. The result depends on the graph
alone.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

Spot: TypeAlias = tuple[int, ...]
"""A node, `(node,)`, or the bend of an edge in a layer, `(parent, child, layer)`."""

SWEEPS = 12
BEND = 0.35
"""How much room a bend takes, next to a node's 1."""


class Layout(NamedTuple):
    """Positions in units of a layer and of a row.

    Attributes:
      positions: of each node, `(layer, row)`.
      routes: of each edge, `(child, parent)`, the points from left to right.
      width: how many layers there are.
      height: how many rows.
    """

    positions: dict[int, tuple[float, float]]
    routes: dict[tuple[int, int], list[tuple[float, float]]]
    width: float
    height: float


def layered(size: int, edges: Iterable[tuple[int, int]]) -> Layout:
    """Places the nodes of a graph without cycles.

    Args:
      size: how many nodes there are.
      edges: pairs `(child, parent)`, `child < parent`.

    >>> layout = layered(3, [(0, 2), (1, 2)])
    >>> layout.positions
    {0: (0.0, 0.0), 1: (0.0, 1.0), 2: (1.0, 0.5)}
    """
    pairs = sorted(set(edges))
    layers = _layers(size, pairs)
    routes = {(child, parent): _route(child, parent, layers) for child, parent in pairs}
    columns = _columns(size, layers, routes.values())
    neighbours = _neighbours(routes.values())
    for sweep in range(SWEEPS):
        for column in columns if sweep % 2 else columns[::-1]:
            _reorder(column, columns, neighbours)
    rows = _rows(columns, neighbours)
    top = min(rows.values(), default=0.0)
    place = {spot: (float(_layer(spot, layers)), row - top) for spot, row in rows.items()}
    return Layout(
        positions={i: place[i,] for i in range(size)},
        routes={pair: [place[spot] for spot in route] for pair, route in routes.items()},
        width=float(len(columns)),
        height=max((row for _, row in place.values()), default=0.0) + 1,
    )


def _layers(size: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """One more than the farthest operand; what has none stands just before its first use."""
    operands, uses = defaultdict(list), defaultdict(list)
    for child, parent in pairs:
        operands[parent].append(child)
        uses[child].append(parent)
    layers = [0] * size
    for node in range(size):
        layers[node] = max((layers[child] + 1 for child in operands[node]), default=0)
    for node in range(size):
        if not operands[node] and uses[node]:
            layers[node] = min(layers[parent] for parent in uses[node]) - 1
    return layers


def _route(child: int, parent: int, layers: Sequence[int]) -> list[Spot]:
    bends = range(layers[child] + 1, layers[parent])
    return [(child,), *((parent, child, layer) for layer in bends), (parent,)]


def _layer(spot: Spot, layers: Sequence[int]) -> int:
    return layers[spot[0]] if len(spot) == 1 else spot[2]


def _columns(size: int, layers: Sequence[int], routes: Iterable[list[Spot]]) -> list[list[Spot]]:
    """Of each layer its nodes and bends, to begin with in the order of the program."""
    columns: list[list[Spot]] = [[] for _ in range(max(layers, default=-1) + 1)]
    for node in range(size):
        columns[layers[node]].append((node,))
    for route in routes:
        for spot in route[1:-1]:
            columns[spot[2]].append(spot)
    return columns


def _neighbours(routes: Iterable[list[Spot]]) -> Mapping[Spot, list[Spot]]:
    neighbours = defaultdict(list)
    for route in routes:
        for left, right in itertools.pairwise(route):
            neighbours[left].append(right)
            neighbours[right].append(left)
    return neighbours


def _reorder(
    column: list[Spot], columns: list[list[Spot]], neighbours: Mapping[Spot, list[Spot]]
) -> None:
    """Sorts a layer by the mean place of each one's neighbours; without any it keeps its own."""
    i = next(i for i, other in enumerate(columns) if other is column)
    near = columns[max(i - 1, 0) : i] + columns[i + 1 : i + 2]
    place = {spot: k / len(other) for other in near for k, spot in enumerate(other)}
    own = {spot: k / len(column) for k, spot in enumerate(column)}
    column.sort(key=lambda spot: _mean([place[n] for n in neighbours[spot]], own[spot]))


def _rows(
    columns: Sequence[list[Spot]], neighbours: Mapping[Spot, list[Spot]]
) -> dict[Spot, float]:
    rows = {spot: float(k) for column in columns for k, spot in enumerate(column)}
    for sweep in range(SWEEPS):
        for column in columns if sweep % 2 else columns[::-1]:
            wanted = [_mean([rows[n] for n in neighbours[spot]], rows[spot]) for spot in column]
            rows.update(zip(column, _spaced(column, wanted), strict=True))
    return rows


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _spaced(column: Sequence[Spot], wanted: Sequence[float]) -> list[float]:
    """The closest places to the wanted ones, in least squares, that keep order and distance.

    Less the room above each, the places must not decrease: neighbours that would are put together
    at their mean, the pool-adjacent-violators algorithm.
    """
    offsets, room = [], 0.0
    for above, spot in zip([None, *column], column, strict=False):
        room += (_half(above) + _half(spot)) if above else 0.0
        offsets.append(room)
    pools: list[list[float]] = []
    for value, offset in zip(wanted, offsets, strict=True):
        pools.append([value - offset])
        while len(pools) > 1 and _mean(pools[-2], 0.0) > _mean(pools[-1], 0.0):
            last = pools.pop()
            pools[-1] += last
    levels = [_mean(pool, 0.0) for pool in pools for _ in pool]
    return [level + offset for level, offset in zip(levels, offsets, strict=True)]


def _half(spot: Spot) -> float:
    return 0.5 if len(spot) == 1 else BEND / 2
