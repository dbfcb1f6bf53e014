"""Which device is chosen, and what is said where there is none."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from funcnet.devices import across_devices, describe_device, select_device, use_every_core


def test_auto_takes_what_jax_prefers():
    assert select_device("auto") == jax.devices()[0]
    assert select_device() == jax.devices()[0]


def test_cpu_is_a_cpu():
    assert select_device("cpu").platform == "cpu"


def test_a_gpu_that_is_not_there():
    if jax.default_backend() == "gpu":
        assert select_device("gpu").platform == "gpu"
        return
    with pytest.raises(ValueError, match=r"expected a gpu.*sees cpu only.*'auto' or 'cpu'"):
        select_device("gpu")


def test_an_unknown_device():
    with pytest.raises(ValueError, match=r"expected one of auto, cpu, gpu; got 'gpo'.* 'gpu'"):
        select_device("gpo")


def test_the_description_names_kind_and_version():
    text = describe_device(select_device("cpu"))
    assert text.startswith("cpu (")
    assert jax.__version__ in text


@pytest.mark.parametrize(("before", "after"), [(None, "false"), ("true", "true")])
def test_memory_is_not_grabbed_unless_the_user_says_so(before, after):
    name = "XLA_PYTHON_CLIENT_PREALLOCATE"
    code = f"import os, funcnet as fn; fn.devices.select_device('cpu'); print(os.environ[{name!r}])"
    environment = {k: v for k, v in os.environ.items() if k != name}
    if before is not None:
        environment[name] = before
    printed = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    assert printed.strip() == after


def printed_by(code, **environment):
    """What a new process prints; JAX is chosen anew there."""
    environment = {**{k: v for k, v in os.environ.items() if k != "PJRT_NPROC"}, **environment}
    return subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).strip()


@pytest.mark.parametrize(
    ("multiplications", "environment", "threads"),
    [(1000, {}, "1"), (2**30, {}, "None"), (1000, {"PJRT_NPROC": "2"}, "2")],
)
def test_small_products_are_computed_on_one_thread(multiplications, environment, threads):
    code = f"import os, funcnet as fn; fn.devices.suit_threads({multiplications})"
    printed = printed_by(f"{code}; print(os.environ.get('PJRT_NPROC'))", **environment)
    assert printed == threads


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a system without affinity")
@pytest.mark.parametrize("count", [1, 2])
def test_every_core_that_may_be_used_is_a_device(count):
    allowed = sorted(os.sched_getaffinity(0))[:count]
    code = f"""
import os
os.sched_setaffinity(0, {allowed})
import jax
from funcnet.devices import describe_device, use_every_core
use_every_core()
print(jax.device_count("cpu"), describe_device(jax.devices("cpu")[0]))
"""
    printed = printed_by(code)
    assert printed.startswith(f"{len(allowed)} cpu (")
    assert f", {len(allowed)} cores), " in printed


def test_every_core_is_asked_for_too_late():
    before = jax.device_count()
    use_every_core()
    assert jax.device_count() == before


def test_an_axis_is_divided_among_all_devices():
    divided, whole = across_devices("models")
    placed, everywhere = jax.device_put(np.arange(4), divided), jax.device_put(np.arange(4), whole)
    parts = [shard.data.tolist() for shard in placed.addressable_shards]
    assert parts == [[0, 1], [2, 3]]
    assert [shard.data.tolist() for shard in everywhere.addressable_shards] == [[0, 1, 2, 3]] * 2


def test_a_second_start_compiles_nothing(tmp_path):
    code = """
import sys, jax
from funcnet.devices import keep_compiled_programs
compiled = []
jax.monitoring.register_event_listener(lambda event, **_: compiled.append(event))
keep_compiled_programs()
jax.jit(lambda x: x * 3)(jax.numpy.float32(1)).block_until_ready()
print(sum("cache_misses" in event for event in compiled), jax.config.jax_compilation_cache_dir)
"""

    def start(**variables):
        environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), **variables}
        printed = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
        misses, folder = printed.split()
        return int(misses), folder

    assert start()[0] > 0
    assert start() == (0, str(next((tmp_path / "funcnet" / "compiled").iterdir())))
    assert start(JAX_COMPILATION_CACHE_DIR=str(tmp_path))[1] == str(tmp_path)
