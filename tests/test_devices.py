"""Which device is chosen, what is said where there is none, and how much memory it has left."""

import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

import funcnet as fn
from funcnet import devices
from funcnet.devices import across_devices, describe_device, free_memory, num_cores, select_device


def test_auto_takes_what_jax_prefers():
    assert select_device("auto") == jax.devices()[0]
    assert select_device() == jax.devices()[0]


def test_cpu_is_a_cpu():
    assert select_device("cpu").platform == "cpu"


def test_a_gpu_that_is_not_there():
    if jax.default_backend() == "gpu":
        assert select_device("gpu").platform == "gpu"
        return
    with pytest.raises(fn.UsageError, match=r"expected a gpu.*sees cpu only.*'auto' or 'cpu'"):
        select_device("gpu")


def test_an_unknown_device():
    with pytest.raises(fn.UsageError, match=r"expected one of auto, cpu, gpu; got 'gpo'.* 'gpu'"):
        select_device("gpo")


def test_the_description_names_kind_and_version():
    text = describe_device(select_device("cpu"))
    assert text.startswith("cpu (")
    assert jax.__version__ in text


def test_nothing_is_changed(monkeypatch):
    """Neither the environment nor JAX's configuration."""
    monkeypatch.delenv("XLA_PYTHON_CLIENT_PREALLOCATE", raising=False)
    before = dict(os.environ), dict(jax.config.values)
    _ = describe_device(select_device()), free_memory(), num_cores(), across_devices("models")
    assert (dict(os.environ), dict(jax.config.values)) == before


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a system without affinity")
def test_cores_that_may_not_be_used_do_not_count():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); import jax"
    code += "; from funcnet.devices import describe_device, num_cores"
    code += "; print(num_cores(), describe_device(jax.devices('cpu')[0]))"
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert printed.startswith("1 cpu (")
    assert ", 1 cores), " in printed


class Gpu:
    """A device that counts its own memory."""

    def memory_stats(self):
        return {"bytes_limit": 1000, "bytes_in_use": 300}


def test_a_gpu_counts_its_own_memory():
    assert free_memory(Gpu()) == 700


def without(monkeypatch, *, meminfo, sysconf):
    """A machine that does not tell these."""
    if meminfo:
        monkeypatch.setattr(devices, "Path", lambda name: pathlib.Path("/nowhere") / name[1:])
    if sysconf:
        monkeypatch.delattr(os, "sysconf", raising=False)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/meminfo")
def test_a_cpu_has_the_memory_of_the_machine(monkeypatch):
    available = free_memory()
    without(monkeypatch, meminfo=True, sysconf=False)
    physical = free_memory()
    assert available < physical == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    without(monkeypatch, meminfo=True, sysconf=True)
    assert free_memory() == devices.UNKNOWN_MEMORY


def test_an_axis_is_divided_among_all_devices():
    divided, whole = across_devices("models")
    placed, everywhere = jax.device_put(np.arange(4), divided), jax.device_put(np.arange(4), whole)
    parts = [shard.data.tolist() for shard in placed.addressable_shards]
    assert parts == [[0, 1], [2, 3]]
    assert [shard.data.tolist() for shard in everywhere.addressable_shards] == [[0, 1, 2, 3]] * 2
