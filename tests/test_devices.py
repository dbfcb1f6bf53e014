"""Which device is chosen, and what is said where there is none."""

import os
import subprocess
import sys

import jax
import pytest

from funcnet.devices import describe_device, select_device


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
    assert f"{os.cpu_count()} cores" in text
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
