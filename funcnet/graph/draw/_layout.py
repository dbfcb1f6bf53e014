"""Where the nodes of a graph are drawn: in layers from left to right, with few crossings.

The method of Sugiyama, Tagawa and Toda, *Methods for Visual Understanding of Hierarchical System
Structures* (1981): layers by the longest path, the order within a layer by the barycentre of the
neighbours, then rows as close to the neighbours as the order and the distance allow. An edge
that passes a layer gets a bend there, which gets a row like a node.
"""

import dataclasses
import itertools
import operator
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

Spot: TypeAlias = tuple[int, ...]  # a node `(node,)`; a bend of an edge `(parent, child, layer)`
ROUNDS = 12  # how often the order and the rows of all layers are improved, left to right and back
BEND = 0.35  # rows: the height of a bend; a node's is 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """Positions `(layer, row)` of nodes, and of the points of each edge, `(child, parent)`."""

    positions: dict[int, tuple[int, float]]
    routes: dict[tuple[int, int], list[tuple[int, float]]]
    width: int  # layers
    height: float  # rows


def layered(size: int, edges: Iterable[tuple[int, int]]) -> Layout:
    """Return positions for the nodes; the edges are `(child, parent)`, child < parent."""
    pairs = sorted(set(edges))
    layer_of = _layers(size, pairs)
    layers: list[list[Spot]] = [[] for _ in range(max(layer_of, default=-1) + 1)]
    for node in range(size):
        layers[layer_of[node]].append((node,))
    routes: dict[tuple[int, int], list[Spot]] = {}
    neighbours: dict[Spot, list[Spot]] = defaultdict(list)
    for child, parent in pairs:
        bends = [(parent, child, i) for i in range(layer_of[child] + 1, layer_of[parent])]
        routes[child, parent] = [(child,), *bends, (parent,)]
        for bend in bends:
            layers[bend[2]].append(bend)
        for left, right in itertools.pairwise(routes[child, parent]):
            neighbours[left].append(right)
            neighbours[right].append(left)
    there = range(len(layers))
    rounds = [*there[::-1], *there] * (ROUNDS // 2)
    for i in rounds:
        _reorder(i, layers, neighbours)
    rows = {spot: float(k) for layer in layers for k, spot in enumerate(layer)}
    for i in rounds:
        rows.update(_spaced(layers[i], rows, neighbours))
    top = min(rows.values(), default=0.0)
    at = {spot: (i, rows[spot] - top) for i, layer in enumerate(layers) for spot in layer}
    return Layout(
        positions={i: at[i,] for i in range(size)},
        routes={pair: [at[spot] for spot in route] for pair, route in routes.items()},
        width=len(layers),
        height=max((row for _, row in at.values()), default=0.0) + 1,
    )


def _layers(size: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Return the layer of each node: after its operands; a leaf is just before its first use."""
    layers = [0] * size
    for child, parent in pairs:
        layers[parent] = max(layers[parent], layers[child] + 1)
    computed = {parent for _, parent in pairs}
    for child, uses in itertools.groupby(pairs, operator.itemgetter(0)):
        if child not in computed:
            layers[child] = min(layers[parent] for _, parent in uses) - 1
    return layers


def _reorder(i: int, layers: list[list[Spot]], neighbours: Mapping[Spot, list[Spot]]) -> None:
    """Sort layer `i` by the mean position of each spot's neighbours; one without keeps its own."""
    near = layers[max(i - 1, 0) : i] + layers[i + 1 : i + 2]
    position = {spot: k / len(layer) for layer in near for k, spot in enumerate(layer)}
    own = {spot: k / len(layers[i]) for k, spot in enumerate(layers[i])}
    layers[i].sort(key=lambda spot: _mean([position[n] for n in neighbours[spot]], own[spot]))


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _spaced(
    layer: Sequence[Spot], rows: Mapping[Spot, float], neighbours: Mapping[Spot, list[Spot]]
) -> dict[Spot, float]:
    """Return the rows closest to the neighbours', in least squares, that keep order and distance.

    Less the offset of each spot, if it stood right under the one before, they must not decrease.
    """
    from scipy.optimize import isotonic_regression

    half = np.array([0.5 if len(spot) == 1 else BEND / 2 for spot in layer])
    offsets = np.cumsum(np.append(0.0, half[1:] + half[:-1]))
    wanted = [_mean([rows[n] for n in neighbours[spot]], rows[spot]) for spot in layer]
    spaced = (isotonic_regression(np.array(wanted) - offsets).x + offsets).tolist()
    return dict(zip(layer, spaced, strict=True))
