"""Settings of the process: the environment and `jax.config` change here and nowhere else.

A program calls `prepare_process()` first, and then, when it knows what it will compute, one of
`suit_threads` and `use_every_core`. JAX reads these settings at its first use: later they have no
effect. What the user's environment says always holds.
"""

import contextlib
import os
import platform
import sys
from pathlib import Path

import jax

from funcnet.devices import num_cores

SMALL_PRODUCT = 2**22  # multiplications of a matrix product that one thread computes fastest


def prepare_process() -> None:
    """Make the settings that every program needs.

    JAX takes a GPU's memory as it needs it: by default it reserves three quarters at its first use.
    It keeps compiled programs in the user's cache folder, in one folder per machine: a program
    compiled for one processor can fail on another. `JAX_COMPILATION_CACHE_DIR` names a different
    folder, and `JAX_ENABLE_COMPILATION_CACHE=false` keeps none.
    """
    _ = os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = _cache_folder() / "funcnet" / "compiled" / platform.node()
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def suit_threads(multiplications: int) -> None:
    """Let a CPU use one thread (`PJRT_NPROC=1`) if the program's matrix products are small.

    XLA divides the work on each array among threads, and for small arrays waits longer for them
    than it computes. An epoch of softmax regression on MNIST takes 33 ms with two threads, and
    26 ms with one. `multiplications` counts those of the program's largest matrix product.
    """
    if multiplications < SMALL_PRODUCT:
        _ = os.environ.setdefault("PJRT_NPROC", "1")


def use_every_core() -> None:
    """Make each core a JAX device, so that independent work can be divided among the cores."""
    with contextlib.suppress(RuntimeError):  # JAX is in use already
        jax.config.update("jax_num_cpu_devices", num_cores())


def _cache_folder() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
