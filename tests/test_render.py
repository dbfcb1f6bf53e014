"""Pictures hold the graph's numbers, and never take a name for markup."""

import json

import funcnet as fn

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
