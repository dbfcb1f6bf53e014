"""Devices: choose one, describe it, ask for its memory. This file reads, and changes nothing.

`jax.devices()` lists the devices. `jax.device_put(pytree, device)` places data on one. A compiled
function runs where its arguments lie. The settings of a process are made in `runs`.
"""

import contextlib
import os
import platform
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from funcnet.base import UsageError, one_of

Device: TypeAlias = Any  # a `jax.Device`, which is a variable to type checkers
DEVICES = ("auto", "cpu", "gpu")  # the names that `select_device` takes
UNKNOWN_MEMORY = 4 * 2**30  # bytes assumed free where the system tells neither free nor physical


def select_device(name: str = "auto") -> Device:
    """Return the first device of a kind.

    Args:
      name: "cpu", "gpu", or "auto": the accelerator if JAX sees one, else the CPU.

    >>> select_device("cpu").platform
    'cpu'

    Raises:
      UsageError: an unknown name, or "gpu" where JAX sees none.
    """
    name = one_of("device", name, DEVICES)
    try:
        return jax.devices()[0] if name == "auto" else jax.devices(name)[0]
    except RuntimeError as error:
        raise UsageError(
            f"device: expected a {name} that JAX can see; it sees {jax.default_backend()} only "
            f"({str(error).splitlines()[0]}). Choose 'auto' or 'cpu', or install JAX for NVIDIA: "
            "pip install 'jax[cuda13]'."
        ) from error


def describe_device(device: Device) -> str:
    """Return the kind of a device, its name, and JAX's version, in one line.

    >>> describe_device(select_device("cpu"))  # doctest: +ELLIPSIS
    'cpu (..., ... cores), JAX ...'
    """
    cpu = f"{platform.machine()}, {num_cores()} cores"
    name = cpu if device.platform == "cpu" else device.device_kind
    return f"{device.platform} ({name}), JAX {jax.__version__}"


def num_cores() -> int:
    """Return how many cores this process may use; its affinity can make them fewer than there are.

    >>> num_cores() >= 1
    True
    """
    has_affinity = hasattr(os, "sched_getaffinity")  # not on macOS
    return len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1


def free_memory(device: Device | None = None) -> int:
    """Return how many bytes a device, by default JAX's first, has left.

    A CPU has the machine's: what Linux calls available, or else the physical memory, as on macOS,
    or else `UNKNOWN_MEMORY`.

    >>> 0 < free_memory() < 2**60
    True
    """
    if stats := (device or jax.devices()[0]).memory_stats():
        return stats["bytes_limit"] - stats["bytes_in_use"]
    with contextlib.suppress(OSError, KeyError):  # Linux
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return 1024 * int(lines["MemAvailable"].split()[0])
    with contextlib.suppress(AttributeError, OSError, ValueError):  # macOS
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return UNKNOWN_MEMORY


def across_devices(axis: str) -> tuple[NamedSharding, NamedSharding]:
    """Return two ways to lay arrays on all devices of JAX's default kind: `(divided, whole)`.

    `divided` cuts the leading axis, which it calls `axis`, into one equal part per device. With
    `whole`, every device holds the complete array.

    >>> divided, whole = across_devices("models")
    >>> divided.spec, whole.spec
    (P('models',), P())
    """
    (device,) = jnp.zeros([]).devices()
    mesh = Mesh(jax.devices(device.platform), (axis,))
    return NamedSharding(mesh, PartitionSpec(axis)), NamedSharding(mesh, PartitionSpec())
