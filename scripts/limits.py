"""What a machine can do at most, and from it the least time that a workload takes."""

import dataclasses
import itertools
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
    with jax.default_matmul_precision("float32"):
        seconds = _least_seconds(a, device, on_device=lambda a: a @ a, on_host=lambda a: a @ a)
    return 2 * 2048**3 / seconds


def read_bandwidth(device: Device) -> float:
    """Of 256 MiB made one number: the best of JAX's sum and NumPy's maximum."""
    a = np.ones(2**26, np.float32)
    seconds = _least_seconds(a, device, on_device=lambda a: a.sum(), on_host=np.max)
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


def _least_seconds(
    a: np.ndarray,
    device: Device,
    *,
    on_device: Callable[[Any], Any],
    on_host: Callable[[Any], Any],
    repeats: int = 10,
) -> float:
    """The shortest time of a computation: JAX's on the device, or NumPy's where that is a CPU."""
    compiled, placed = jax.jit(on_device), jax.device_put(a, device)
    candidates = [lambda: compiled(placed).block_until_ready()]
    if device.platform == "cpu":
        candidates.append(lambda: on_host(a))
    return min(_seconds(candidate) for candidate in candidates for _ in range(repeats))


def _seconds(function: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    _ = function()
    return time.perf_counter() - begun
