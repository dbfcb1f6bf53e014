"""Pictures hold the graph's numbers, and never take a name for markup."""

import json
import os
import pathlib
import subprocess
import sys
import time

import jax
import numpy as np

import funcnet as fn

SCRIPT = pathlib.Path(__file__).parents[1] / "scripts" / "trace_graph.py"

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


def test_a_network_of_the_size_of_mnist_is_traced_at_once():
    model = fn.models.mlp((784, 128, 10))
    params = model.init(jax.random.key(0))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (32, 784)).astype(np.uint8)
    labels = rng.integers(0, 10, 32).astype(np.int32)

    def cost(params, x, y):
        return fn.losses.softmax_cross_entropy(model.apply(params, x), y).mean()

    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        graph = fn.trace(cost)(params, images, labels)
        seconds.append(time.perf_counter() - start)
    assert min(seconds[1:]) < 1
    assert len(fn.render.page(graph)) < 3_000_000
    expected = jax.grad(cost)(params, images, labels)
    np.testing.assert_allclose(graph.nodes[0].adjoint, expected[0].weight, rtol=1e-5, atol=1e-8)


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
