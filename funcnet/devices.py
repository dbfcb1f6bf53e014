"""Devices: choose one, and name it.

`jax.devices` lists what there is; `jax.device_put(pytree, device)` places data on it, and compiled
functions run where their arguments lie.
"""

import os
import platform
from typing import Any, TypeAlias

import jax

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
        name = f"{platform.machine()}, {os.cpu_count()} cores"
    else:
        name = device.device_kind
    return f"{device.platform} ({name}), JAX {jax.__version__}"
