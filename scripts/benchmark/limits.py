"""The most that a machine can do, and the least time that a workload therefore takes."""

import dataclasses
import functools
import itertools
import operator
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from benchmark.workloads import Task
from funcnet.devices import Device

SIDE = 2048  # rows and columns of the matrices whose product is timed
READ = 2**28  # bytes that are read when the bandwidth is measured


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of a device.

    Attributes:
      matrix_rate: operations per second of a matrix product.
      read_bandwidth: bytes read per second.
    """

    matrix_rate: float
    read_bandwidth: float

    def best(self, other: "Limits") -> "Limits":
        """Return the larger of each: a busy machine is not at its limit."""
        return Limits(
            matrix_rate=max(self.matrix_rate, other.matrix_rate),
            read_bandwidth=max(self.read_bandwidth, other.read_bandwidth),
        )


def measure(device: Device) -> Limits:
    """Measure the limits of a device now."""
    return Limits(matrix_rate=matrix_rate(device), read_bandwidth=read_bandwidth(device))


def matrix_rate(device: Device) -> float:
    """Return the operations per second of a large product, by the better of NumPy and JAX."""
    a = np.random.default_rng(0).random((SIDE, SIDE), np.float32)
    return 2 * SIDE**3 / _seconds_of_a_product(operator.matmul, a, a, device=device, repeats=10)


def products_rate(task: Task, device: Device) -> float:
    """Return the operations per second of a step's products, each timed alone, in the caches.

    Each product is a call. The cost of a call counts where the product is small: only the figures
    of a large batch and a wide model say what their shapes cost.
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
    """Return the bytes per second that are read, by the better of JAX's sum and NumPy's maximum."""
    a = np.ones(READ // 4, np.float32)
    seconds = _least_seconds([a], device, on_device=lambda a: a.sum(), on_host=np.max)
    return a.nbytes / seconds


def operations(sizes: Sequence[int], examples: int) -> float:
    """Count the operations of an epoch's matrix products.

    Each layer has a product forward, one for its weights, and, but for the first layer, one for its
    inputs.
    """
    products = [2.0 * m * n for m, n in itertools.pairwise(sizes)]
    return examples * (3 * sum(products) - products[0])


def floor(task: Task, examples: int, limits: Limits) -> float:
    """Return the least seconds of an epoch: its products, or one read of its examples."""
    computing = operations(task.sizes, examples) / limits.matrix_rate
    reading = examples * task.sizes[0] / limits.read_bandwidth  # a byte per intensity
    return max(computing, reading)


def _seconds_of_a_product(
    product: Callable[..., Any], *arrays: np.ndarray, device: Device, repeats: int
) -> float:
    """In float32 on every device: the better of NumPy and JAX."""
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
    """The shortest time of a computation, by JAX on the device; on a CPU also by NumPy."""
    compiled, placed = jax.jit(on_device), jax.device_put(arrays, device)
    candidates = [lambda: compiled(*placed).block_until_ready()]
    if device.platform == "cpu":
        candidates.append(lambda: on_host(*arrays))
    return min(_seconds(candidate) for candidate in candidates for _ in range(repeats))


def _seconds(function: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    _ = function()
    return time.perf_counter() - begun
