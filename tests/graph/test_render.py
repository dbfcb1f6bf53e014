"""Pictures hold the graph's numbers, and never take a name for markup."""

import itertools
import json
import os
import pathlib
import subprocess
import sys
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnet as fn
from funcnet.graph.draw._svg import boxes as boxes_of

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "trace_graph.py"

SVG = "{http://www.w3.org/2000/svg}"

HOSTILE = "<img src=x onerror=alert(1)>"


def test_names_are_never_markup():
    graph = fn.trace(lambda p: p[HOSTILE] * 2)({HOSTILE: 3.0})
    assert "<img" not in fn.render.page(graph)
    assert "<img" not in fn.render.svg(graph)
    assert "<img" not in fn.render.frame(graph)


def test_the_record_is_json_with_the_numbers():
    record = json.loads(json.dumps(fn.render.record(fn.trace(lambda x: x * x)(3.0))))
    assert [node["exact_adjoint"] for node in record["nodes"]] == [6.0, 1.0]
    assert fn.render.dot(fn.trace(lambda x: x * x)(3.0)).startswith("digraph {")


def test_uses_without_a_derivative_are_edges_too():
    graph = fn.trace(lambda x, i: x * (i + 1))(2.0, 3)
    assert [node.name for node in graph.nodes] == ["x", "i", "v1", "v2", "output"]
    edges = [line.strip() for line in fn.render.dot(graph).splitlines() if "->" in line]
    assert edges == [
        'n3 -> n4 [label="x"];',
        'n0 -> n4 [label="v2"];',
        "n1 -> n2;",
        "n2 -> n3;",
    ]
    inputs = [node["inputs"] for node in fn.render.record(graph)["nodes"]]
    assert inputs == [[], [], ["i"], ["v1"], ["x", "v2"]]


def spans(svg, parent):
    """Of every rectangle within such an element: left, top, right, bottom."""
    found = []
    for rect in ElementTree.fromstring(svg).findall(f".//{SVG}g[@class='{parent}']/{SVG}rect"):
        x, y, width, height = (float(rect.get(key)) for key in ("x", "y", "width", "height"))
        found.append((x, y, x + width, y + height))
    return found


def overlap(one, other):
    return all(one[i] < other[i + 2] and other[i] < one[i + 2] for i in (0, 1))


def crossing(a, b, c, d):
    """Edges that cross in the middle, where the label of each would stand."""
    e = a * d + b * c
    f = b * a + d * c
    return e * f


@pytest.mark.parametrize("function", [crossing, lambda x, y, *_: jnp.sin(x) * y + jnp.cos(x) / y])
def test_no_label_hides_another_or_a_box(function):
    svg = fn.render.svg(fn.trace(function)(1.0, 2.0, 3.0, 4.0))
    labels = spans(svg, "slope")
    boxes = [box for kind in ("leaf", "step", "variable") for box in spans(svg, f"node {kind}")]
    assert len(labels) >= 6
    for one, other in [*itertools.combinations(labels, 2), *itertools.product(labels, boxes)]:
        assert not overlap(one, other)


def test_a_larger_graph_is_folded_by_line_and_turn():
    def function(x):
        for _ in range(120):
            x = jnp.sin(x) * x + 0.1
        return x

    boxes = boxes_of(fn.trace(function)(0.5))
    assert [len(box.members) for box in boxes] == [1] + 120 * [3]
    assert boxes[2].title == "x#3: 3 operations"


@pytest.mark.slow
def test_a_network_of_the_size_of_mnist():
    model = fn.models.mlp((784, 128, 10))
    params = model.init(jax.random.key(0))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (32, 784)).astype(np.uint8)
    labels = rng.integers(0, 10, 32).astype(np.int32)

    def cost(params, x, y):
        return fn.losses.softmax_cross_entropy(model.apply(params, x), y).mean()

    graph = fn.trace(cost)(params, images, labels)
    assert len(fn.render.page(graph)) < 3_000_000
    expected = jax.grad(cost)(params, images, labels)
    np.testing.assert_allclose(graph.nodes[0].adjoint, expected[0].weight, rtol=1e-5, atol=1e-8)


@pytest.mark.slow
def test_two_processes_draw_the_same(tmp_path):
    pages = [tmp_path / "1.html", tmp_path / "2.html"]
    drawing = [
        subprocess.Popen(
            [sys.executable, SCRIPT, "--example", "mlp", "--out", page],
            env=os.environ | {"PYTHONHASHSEED": page.stem},
            stdout=subprocess.PIPE,
        )
        for page in pages
    ]
    first, second = (process.communicate()[0] for process in drawing)
    assert b"log_softmax" in first
    assert first == second
    assert pages[0].read_bytes() == pages[1].read_bytes()
