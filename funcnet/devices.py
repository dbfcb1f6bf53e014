"""Devices: choose one, name it, and keep what was compiled for it.

`jax.devices` lists what there is; `jax.device_put(pytree, device)` places data on it, and compiled
functions run where their arguments lie.
"""

import contextlib
import os
import platform
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import platformdirs
import psutil
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from funcnet.base import one_of

Device: TypeAlias = Any
"""A `jax.Device`, which JAX declares as a variable: no type checker takes it for a type."""

DEVICES = ("auto", "cpu", "gpu")
"""What `select_device` takes."""


def select_device(name: str = "auto") -> Device:
    """The first device of a kind.

    Args:
      name: "cpu", "gpu", or "auto": the accelerator where there is one, else the CPU.

    JAX would reserve three quarters of a GPU's memory at its first use; here it takes what it
    needs as it goes, unless the environment already says otherwise
    (`XLA_PYTHON_CLIENT_PREALLOCATE`). This holds where JAX has not been used before the call.

    >>> select_device("cpu").platform
    'cpu'

    Raises:
      ValueError: another name, or "gpu" where JAX sees none.
    """
    _ = os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    name = one_of("device", name, DEVICES)
    try:
        return jax.devices()[0] if name == "auto" else jax.devices(name)[0]
    except RuntimeError as error:
        raise ValueError(
            f"device: expected a {name} that JAX can see; it sees {jax.default_backend()} only "
            f"({str(error).splitlines()[0]}). Choose 'auto' or 'cpu', or install JAX for NVIDIA: "
            "pip install -e '.[cuda]'."
        ) from error


def describe_device(device: Device) -> str:
    """What a program runs on, in one line: the kind of device, its name, JAX's version.

    >>> describe_device(select_device("cpu"))  # doctest: +ELLIPSIS
    'cpu (..., ... cores), JAX ...'
    """
    if device.platform == "cpu":
        name = f"{platform.machine()}, {num_cores()} cores"
    else:
        name = device.device_kind
    return f"{device.platform} ({name}), JAX {jax.__version__}"


def free_memory(device: Device | None = None) -> int:
    """How many bytes a device, by default JAX's first, has to give.

    >>> 0 < free_memory() < 2**60
    True
    """
    chosen: Any = jax.devices()[0] if device is None else device
    stats = chosen.memory_stats()
    if stats is None:  # a CPU, whose memory is the machine's
        return psutil.virtual_memory().available
    return stats["bytes_limit"] - stats["bytes_in_use"]


SMALL_PRODUCT = 2**22
"""A matrix product of fewer multiplications takes less time than waking a thread to share it."""


def suit_threads(multiplications: int) -> None:
    """Lets a CPU compute on one thread where the largest matrix product of a program is small.

    XLA divides the work on each array among threads, and for small ones waits longer for them than
    it computes: an epoch of softmax regression on MNIST takes 33 ms with two threads and 26 with
    one. The environment's own word holds (`PJRT_NPROC`), and this does where JAX has not been used
    before the call.

    Args:
      multiplications: of numbers, in that product.
    """
    if multiplications < SMALL_PRODUCT:
        _ = os.environ.setdefault("PJRT_NPROC", "1")


def num_cores() -> int:
    """How many cores this process may compute on: fewer than there are, where its affinity says so.

    >>> num_cores() >= 1
    True
    """
    has_affinity = hasattr(os, "sched_getaffinity")  # not on macOS
    return len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1


def use_every_core() -> None:
    """Makes each core that may be used a JAX device, so that work without a common step is divided.

    This holds where JAX has not been used before the call; elsewhere it changes nothing.
    """
    with contextlib.suppress(RuntimeError):  # JAX is in use
        jax.config.update("jax_num_cpu_devices", num_cores())


def across_devices(axis: str) -> tuple[NamedSharding, NamedSharding]:
    """How to lay arrays on all devices of the kind that JAX computes on: `(divided, whole)`.

    Args:
      axis: the name of the leading axis that is divided, into equal parts.

    Returns:
      For arrays with that axis, a part for each device; for others, all of them on each.

    >>> divided, whole = across_devices("models")
    >>> divided.spec, whole.spec
    (P('models',), P())
    """
    (platform,) = {device.platform for device in jnp.zeros([]).devices()}
    devices = jax.devices(platform)
    mesh = jax.make_mesh((len(devices),), (axis,), (AxisType.Auto,), devices=devices)
    return NamedSharding(mesh, PartitionSpec(axis)), NamedSharding(mesh, PartitionSpec())


def keep_compiled_programs() -> None:
    """Lets JAX keep compiled programs on disk, so that a program's next start compiles nothing.

    JAX does so by itself where the environment says `JAX_COMPILATION_CACHE_DIR=FOLDER`, and not at
    all where it says `JAX_ENABLE_COMPILATION_CACHE=false`; both hold. Else they go to the user's
    cache folder, small ones too, and apart for each machine: a program compiled for one processor
    can fail on another. The folder can be deleted at any time.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = platformdirs.user_cache_path("funcnet") / "compiled" / platform.node()
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
