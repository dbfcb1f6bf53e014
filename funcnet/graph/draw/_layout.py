"""Where the nodes of a graph are drawn: in layers from left to right, with few crossings.

The method of Sugiyama, Tagawa and Toda, *Methods for Visual Understanding of Hierarchical System
Structures* (1981): layers by the longest path, the order within a layer by the barycentre of the
neighbours, then rows as close to the neighbours as the order and the distance allow. An edge
that passes a layer gets a bend there, which gets a row like a node. The result depends on the graph
alone.
"""

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

Spot: TypeAlias = tuple[int, ...]
"""A node, `(node,)`, or the bend of an edge in a layer, `(parent, child, layer)`."""

ROUNDS = 12
"""How often the order and the rows of all layers are improved, left to right and back in turn."""

BEND = 0.35
"""The height of a bend in rows; a node's is 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """Positions in units of a layer and of a row.

    Attributes:
      positions: `(layer, row)` of each node.
      routes: the points of each edge, `(child, parent)`, from left to right.
      width: how many layers there are.
      height: how many rows there are.
    """

    positions: dict[int, tuple[float, float]]
    routes: dict[tuple[int, int], list[tuple[float, float]]]
    width: float
    height: float


def layered(size: int, edges: Iterable[tuple[int, int]]) -> Layout:
    """Return positions for the nodes of a graph; its edges are `(child, parent)`, child < parent.

    >>> layout = layered(3, [(0, 2), (1, 2)])
    >>> layout.positions
    {0: (0.0, 0.0), 1: (0.0, 1.0), 2: (1.0, 0.5)}
    """
    pairs = sorted(set(edges))
    layer_of = _layers(size, pairs)
    routes = {pair: _route(*pair, layer_of) for pair in pairs}
    layers = _spots(size, layer_of, routes.values())
    neighbours = _neighbours(routes.values())
    for i in _rounds(len(layers)):
        _reorder(i, layers, neighbours)
    rows = _rows(layers, neighbours)
    top = min(rows.values(), default=0.0)
    at = {spot: (float(i), rows[spot] - top) for i, layer in enumerate(layers) for spot in layer}
    return Layout(
        positions={i: at[i,] for i in range(size)},
        routes={pair: [at[spot] for spot in route] for pair, route in routes.items()},
        width=float(len(layers)),
        height=max((row for _, row in at.values()), default=0.0) + 1,
    )


def _layers(size: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Return the layer of each node: after its operands; a leaf is just before its first use."""
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


def _route(child: int, parent: int, layer_of: Sequence[int]) -> list[Spot]:
    bends = range(layer_of[child] + 1, layer_of[parent])
    return [(child,), *((parent, child, layer) for layer in bends), (parent,)]


def _spots(size: int, layer_of: Sequence[int], routes: Iterable[list[Spot]]) -> list[list[Spot]]:
    """Return the nodes and bends of each layer, to begin with in the order of the computation."""
    layers: list[list[Spot]] = [[] for _ in range(max(layer_of, default=-1) + 1)]
    for node in range(size):
        layers[layer_of[node]].append((node,))
    for route in routes:
        for spot in route[1:-1]:
            layers[spot[2]].append(spot)
    return layers


def _neighbours(routes: Iterable[list[Spot]]) -> Mapping[Spot, list[Spot]]:
    neighbours = defaultdict(list)
    for route in routes:
        for left, right in itertools.pairwise(route):
            neighbours[left].append(right)
            neighbours[right].append(left)
    return neighbours


def _rounds(layers: int) -> Iterable[int]:
    """Yield the numbers of all layers `ROUNDS` times, every second time from the left."""
    there, back = range(layers), range(layers)[::-1]
    return itertools.chain.from_iterable(there if k % 2 else back for k in range(ROUNDS))


def _reorder(i: int, layers: list[list[Spot]], neighbours: Mapping[Spot, list[Spot]]) -> None:
    """Sort layer `i` by the mean position of each spot's neighbours; one without keeps its own."""
    near = layers[max(i - 1, 0) : i] + layers[i + 1 : i + 2]
    position = {spot: k / len(layer) for layer in near for k, spot in enumerate(layer)}
    own = {spot: k / len(layers[i]) for k, spot in enumerate(layers[i])}
    layers[i].sort(key=lambda spot: _mean([position[n] for n in neighbours[spot]], own[spot]))


def _rows(layers: Sequence[list[Spot]], neighbours: Mapping[Spot, list[Spot]]) -> dict[Spot, float]:
    rows = {spot: float(k) for layer in layers for k, spot in enumerate(layer)}
    offsets = [_offsets(layer) for layer in layers]
    for i in _rounds(len(layers)):
        wanted = [_mean([rows[n] for n in neighbours[spot]], rows[spot]) for spot in layers[i]]
        rows.update(zip(layers[i], _spaced(wanted, offsets[i]), strict=True))
    return rows


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _offsets(layer: Sequence[Spot]) -> np.ndarray:
    """Return the rows of a layer's spots if each stood right under the one before."""
    half = np.array([0.5 if len(spot) == 1 else BEND / 2 for spot in layer])
    return np.cumsum(np.append(0.0, half[1:] + half[:-1]))


def _spaced(wanted: Sequence[float], offsets: np.ndarray) -> list[float]:
    """Return the rows closest to the wanted ones, in least squares, that keep order and distance.

    Less their offsets, the rows must not decrease.
    """
    from scipy.optimize import isotonic_regression

    return (isotonic_regression(np.asarray(wanted) - offsets).x + offsets).tolist()
