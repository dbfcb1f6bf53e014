"""The benchmark's peers: each learns as the formula says, and sees every example once an epoch."""

import dataclasses
import importlib
import os

import jax
import numpy as np
import pytest
from benchmark import workloads
from benchmark.workloads import Data, Task
from test_benchmark import random_data

import funcnet as fn

LINEAR, LOGISTIC = Task(sizes=(784, 10)), Task(sizes=(784, 1))
DEEP = Task(sizes=(784, 16, 10))
NEEDS = {
    "numpy_by_hand": None,
    "jax_from_scratch": None,
    "funcnet_epoch": None,
    "equinox_loop": "equinox",
    "flax_nnx": "flax",
    "pytorch_in_memory": "torch",
    "pytorch_dataloader": "torch",
    "pytorch_compile": "torch",
    "sklearn_sgd": "sklearn",
}
"""The library that a peer needs beside those of funcnet."""
QUICK = ("numpy_by_hand", "funcnet_epoch")  # the tests of the others are slow


def peers(*names):
    """Parameters of a test: these peers."""
    return [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in names]


SHARING_AN_ORDER = ("jax_from_scratch", "equinox_loop", "flax_nnx")  # as numpy_by_hand does
WITH_BATCHES = [name for name in NEEDS if name != "sklearn_sgd"]


@pytest.fixture
def learn(monkeypatch):
    """Trains a peer as its process would, in this one; what it has learned."""
    monkeypatch.setenv("PJRT_NPROC", os.environ.get("PJRT_NPROC", "1"))  # not to be set by a peer

    def learn(name, task, data, *, epochs=1):
        if library := NEEDS.get(name):
            pytest.importorskip(library, reason=f"{library} is in the extra [bench]")
        if name == "pytorch_compile":  # the same steps, without the half minute of a compiler
            monkeypatch.setattr("torch.compile", lambda function: function)
        data = workloads.examples_of(task, data)
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            start = importlib.import_module(f"benchmark.peers.{name}").start
            train_epoch, learned = start(task, data, workloads.first_weights(task.sizes))
            for _ in range(epochs):
                train_epoch()
            return learned()

    return learn


def assert_layers_close(layers, expected, atol=1e-6):
    assert len(layers) == len(expected)
    for (W, b), (V, c) in zip(layers, expected, strict=True):
        assert (W.shape, b.shape) == (V.shape, c.shape)
        np.testing.assert_allclose(W, V, rtol=1e-4, atol=atol)
        np.testing.assert_allclose(b, c, rtol=1e-4, atol=atol)


@pytest.mark.parametrize("task", [LINEAR, LOGISTIC, DEEP], ids=["softmax", "logistic", "mlp"])
@pytest.mark.parametrize("name", peers(*WITH_BATCHES))
def test_a_step_on_all_examples_is_that_of_the_formula(name, task, learn):
    data, task = random_data(64), dataclasses.replace(task, batch_size=64)
    layers = [(W.astype(float), b.astype(float)) for W, b in workloads.first_weights(task.sizes)]
    x, y = data.x_train / 255, data.y_train
    values = [x]
    for W, b in layers[:-1]:
        values.append((values[-1] @ W.T + b).clip(0))
    W, b = layers[-1]
    z = values[-1] @ W.T + b
    if task.sizes[-1] == 1:
        delta = 1 / (1 + np.exp(-z)) - (y == 0)[:, None]
    else:
        delta = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True) - np.eye(10)[y]
    expected = []
    for (W, b), h in zip(layers[::-1], values[::-1], strict=True):
        mean = delta / len(x)
        expected.insert(0, (W - 0.1 * mean.T @ h, b - 0.1 * mean.sum(axis=0)))
        delta = delta @ W * (h > 0)
    learned = learn(name, task, data)
    assert_layers_close(learned, expected)
    assert {leaf.dtype for layer in learned for leaf in layer} == {np.dtype(np.float32)}


@pytest.mark.parametrize("task", [LINEAR, LOGISTIC, DEEP], ids=["softmax", "logistic", "mlp"])
def test_numpy_computes_in_float32(task, learn):
    """Its updates are in place, so that the weights alone would not tell."""
    seen = set()

    class Watched(np.ndarray):
        def __array_finalize__(self, of):
            seen.add(self.dtype)

    data = random_data(8)
    watched = dataclasses.replace(data, x_train=data.x_train.view(Watched))
    learn("numpy_by_hand", task, watched)
    floats = {dtype for dtype in seen if dtype.kind == "f"}
    assert floats == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", peers(*WITH_BATCHES))
def test_every_batch_is_a_step_the_ragged_one_too(name, learn):
    """Of one example, over and over, any order has the same batches: 3 of 4, and 1 of 2."""
    four, fourteen = (
        Data(**{key: np.repeat(a[:1], n, axis=0) for key, a in vars(random_data(1)).items()})
        for n in (4, 14)
    )
    expected = learn("numpy_by_hand", dataclasses.replace(DEEP, batch_size=1), four)
    learned = learn(name, dataclasses.replace(DEEP, batch_size=4), fourteen)
    assert_layers_close(learned, expected)


@pytest.mark.parametrize("name", peers(*NEEDS))
def test_every_example_is_seen_once_an_epoch(name, learn):
    """Each lights a pixel of its own, whose weight tells how often it was seen."""
    count = 24
    x = np.zeros((count, 784), np.uint8)
    x[np.arange(count), np.arange(count)] = 255
    y = (np.arange(count) % 2).astype(np.int32)
    data = Data(x_train=x, y_train=y, x_test=x, y_test=y)
    task = dataclasses.replace(LOGISTIC, batch_size=4, learning_rate=0.01)
    ((W, _),) = learn(name, task, data, epochs=3)
    a_visit = 0.01 / 4 * 0.5  # the rate, over the batch, times y − σ(0)
    assert W.dtype == np.float32
    np.testing.assert_allclose(W[0, :count], 3 * a_visit * (1 - 2 * y), rtol=0.02)
    assert not W[0, count:].any()


@pytest.mark.parametrize("name", peers(*SHARING_AN_ORDER))
def test_with_the_same_order_the_same_is_learned(name, learn):
    data, task = random_data(100), dataclasses.replace(DEEP, batch_size=32)
    expected = learn("numpy_by_hand", task, data, epochs=2)
    assert_layers_close(learn(name, task, data, epochs=2), expected, atol=1e-5)


@pytest.mark.parametrize("models", [8, pytest.param(64, marks=pytest.mark.slow)])
def test_the_models_of_the_sweep_learn_from_all_examples(learn, monkeypatch, models):
    monkeypatch.setattr("benchmark.peers.funcnet_sweep.MODELS", models)
    data, task = random_data(64), dataclasses.replace(LINEAR, batch_size=16)
    ((W, b),) = learn("funcnet_sweep", task, data, epochs=30)
    assert (W.shape, b.shape, W.dtype) == ((models, 10, 784), (models, 10), np.float32)
    assert workloads.accuracy([(W, b)], data.x_train, data.y_train) > 0.9
    assert len({model.tobytes() for model in W}) == models


@pytest.mark.parametrize(
    "sizes", [(784, 16, 8, 10), *(pytest.param((784, n), marks=pytest.mark.slow) for n in (1, 10))]
)
def test_accuracy_is_that_of_funcnets_evaluation(sizes):
    data = workloads.examples_of(Task(sizes=sizes), random_data())
    rng = np.random.default_rng(1)
    layers = [
        (rng.normal(size=W.shape).astype(np.float32), rng.normal(size=b.shape).astype(np.float32))
        for W, b in workloads.first_weights(sizes)
    ]
    start = importlib.import_module("benchmark.peers.funcnet_epoch").put_together
    model, loss, params = start(Task(sizes=sizes), layers)
    examples = fn.Examples(inputs=data.x_train, targets=data.y_train)
    expected = fn.training.evaluate(model.apply, loss, params, examples).accuracy
    assert workloads.accuracy(layers, data.x_train, data.y_train) == pytest.approx(float(expected))
    stacked = [(np.stack([W, W]), np.stack([b, b])) for W, b in layers]
    assert workloads.accuracy(stacked, data.x_train, data.y_train) == pytest.approx(float(expected))


@pytest.mark.slow
def test_a_perceptron_is_nothing_for_sklearn():
    sklearn_sgd = importlib.import_module("benchmark.peers.sklearn_sgd")
    with pytest.raises(NotImplementedError, match="SGDClassifier is a linear model"):
        sklearn_sgd.start(DEEP, random_data(), workloads.first_weights(DEEP.sizes))
