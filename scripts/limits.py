"""What a machine can do at most, and from it the least time that a workload takes."""

import dataclasses
import functools
import itertools
import operator
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from peers import Task

from funcnet.devices import Device


@dataclasses.dataclass(frozen=True)
class Limits:
    """A device's own.

    Attributes:
      matrix_rate: operations a second of a matrix product.
      read_bandwidth: bytes read a second.
    """

    matrix_rate: float
    read_bandwidth: float

    def best(self, other: "Limits") -> "Limits":
        """The larger of each: what a machine did while it did something else too is no limit."""
        return Limits(
            matrix_rate=max(self.matrix_rate, other.matrix_rate),
            read_bandwidth=max(self.read_bandwidth, other.read_bandwidth),
        )


def measure(device: Device) -> Limits:
    """The limits of a device, measured now."""
    return Limits(matrix_rate=matrix_rate(device), read_bandwidth=read_bandwidth(device))


def matrix_rate(device: Device) -> float:
    """Of a product, 2048 x 2048, in float32: the best of NumPy's and JAX's."""
    a = np.random.default_rng(0).random((2048, 2048), np.float32)
    return 2 * 2048**3 / _seconds_of_a_product(operator.matmul, a, a, device=device, repeats=10)


def products_rate(task: Task, device: Device) -> float:
    """Of a step's products, each measured by itself, with its operands in the caches.

    Each is a call, whose cost counts where they are small: only those of a large batch of a wide
    model say what their shapes cost.
    """
    time_of = functools.partial(_seconds_of_a_product, device=device, repeats=100)
    seconds = 0.0
    for layer, (m, n) in enumerate(itertools.pairwise(task.sizes)):
        shapes = (task.batch_size, m), (n, m), (task.batch_size, n)
        x, W, delta = (np.random.default_rng(0).random(shape, np.float32) for shape in shapes)
        seconds += time_of(lambda x, W: x @ W.T, x, W)  # forward
        seconds += time_of(lambda delta, x: delta.T @ x, delta, x)  # for W
        if layer > 0:
            seconds += time_of(operator.matmul, delta, W)  # for x
    return operations(task.sizes, task.batch_size) / seconds


def read_bandwidth(device: Device) -> float:
    """Of 256 MiB made one number: the best of JAX's sum and NumPy's maximum."""
    a = np.ones(2**26, np.float32)
    seconds = _least_seconds([a], device, on_device=lambda a: a.sum(), on_host=np.max)
    return a.nbytes / seconds


def operations(sizes: Sequence[int], examples: int) -> float:
    """Of an epoch's matrix products: forward, for the weights, and for all inputs but the first."""
    products = [2.0 * m * n for m, n in itertools.pairwise(sizes)]
    return examples * (3 * sum(products) - products[0])


def floor(task: Task, examples: int, limits: Limits) -> float:
    """Seconds that an epoch takes at least: its products at the matrix rate, or one read of it."""
    computing = operations(task.sizes, examples) / limits.matrix_rate
    reading = examples * task.sizes[0] / limits.read_bandwidth  # a byte an intensity
    return max(computing, reading)


def _seconds_of_a_product(
    product: Callable[..., Any], *arrays: np.ndarray, device: Device, repeats: int
) -> float:
    """In float32 on every device: the best of NumPy's and JAX's."""
    with jax.default_matmul_precision("float32"):
        return _least_seconds(arrays, device, on_device=product, on_host=product, repeats=repeats)


def _least_seconds(
    arrays: Sequence[np.ndarray],
    device: Device,
    *,
    on_device: Callable[..., Any],
    on_host: Callable[..., Any],
    repeats: int = 10,
) -> float:
    """The shortest time of a computation: JAX's on the device, or NumPy's where that is a CPU."""
    compiled, placed = jax.jit(on_device), jax.device_put(arrays, device)
    candidates = [lambda: compiled(*placed).block_until_ready()]
    if device.platform == "cpu":
        candidates.append(lambda: on_host(*arrays))
    return min(_seconds(candidate) for candidate in candidates for _ in range(repeats))


def _seconds(function: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    _ = function()
    return time.perf_counter() - begun
