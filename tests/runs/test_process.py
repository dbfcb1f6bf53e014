"""What the programs set in their process, and that the user's environment holds."""

import os
import pathlib
import platform
import subprocess
import sys

import jax
import pytest

from funcnet.runs import _process as process

PREALLOCATE = "XLA_PYTHON_CLIENT_PREALLOCATE"


@pytest.fixture
def compilation_cache(monkeypatch):
    """Restores JAX's configuration after a test that changes it."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    names = [name for name in jax.config.values if "compilation_cache" in name or "_cache_" in name]
    before = {name: jax.config.values[name] for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.usefixtures("compilation_cache")
@pytest.mark.parametrize(("before", "after"), [(None, "false"), ("true", "true")])
def test_memory_is_not_grabbed_unless_the_user_says_so(before, after, monkeypatch):
    monkeypatch.setenv(PREALLOCATE, before or "")
    if before is None:
        monkeypatch.delenv(PREALLOCATE)
    process.prepare_process()
    assert os.environ[PREALLOCATE] == after


@pytest.mark.parametrize(
    ("multiplications", "environment", "threads"),
    [(1000, None, "1"), (2**30, None, None), (1000, "2", "2")],
)
def test_small_products_are_computed_on_one_thread(
    multiplications, environment, threads, monkeypatch
):
    monkeypatch.setenv("PJRT_NPROC", environment or "")
    if environment is None:
        monkeypatch.delenv("PJRT_NPROC")
    process.suit_threads(multiplications)
    assert os.environ.get("PJRT_NPROC") == threads


def printed_by(code, **environment):
    """What a new process prints; JAX is chosen anew there."""
    environment = {**{k: v for k, v in os.environ.items() if k != "PJRT_NPROC"}, **environment}
    return subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).strip()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a system without affinity")
@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_every_core_that_may_be_used_is_a_device(count):
    allowed = sorted(os.sched_getaffinity(0))[:count]
    code = f"import os; os.sched_setaffinity(0, {allowed}); import jax"
    code += "; from funcnet.runs._process import use_every_core; use_every_core()"
    assert printed_by(f"{code}; print(jax.device_count('cpu'))") == str(len(allowed))


def test_every_core_is_asked_for_too_late():
    before = jax.device_count()
    process.use_every_core()
    assert jax.device_count() == before


@pytest.mark.parametrize(
    ("system", "variables", "folder"),
    [
        ("linux", {"XDG_CACHE_HOME": "/cache"}, "/cache"),
        ("linux", {"HOME": "/home/me"}, "/home/me/.cache"),
        ("linux", {"XDG_CACHE_HOME": "", "HOME": "/home/me"}, "/home/me/.cache"),
        ("darwin", {"HOME": "/Users/me"}, "/Users/me/Library/Caches"),
        ("win32", {"LOCALAPPDATA": "/Users/me/AppData/Local"}, "/Users/me/AppData/Local"),
        ("win32", {"HOME": "/Users/me"}, "/Users/me/AppData/Local"),
    ],
)
@pytest.mark.usefixtures("compilation_cache")
def test_compiled_programs_lie_in_the_cache_folder_of_the_user(
    system, variables, folder, monkeypatch
):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", system)
    process.prepare_process()
    ours = pathlib.Path(folder) / "funcnet" / "compiled" / platform.node()
    assert jax.config.jax_compilation_cache_dir == str(ours)


def test_the_users_folder_of_compiled_programs_holds(monkeypatch):
    before = dict(jax.config.values)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/mine")
    process.prepare_process()
    assert dict(jax.config.values) == before


def test_a_second_start_compiles_nothing(tmp_path):
    code = """
import sys, jax
from funcnet.runs._process import prepare_process
compiled = []
jax.monitoring.register_event_listener(lambda event, **_: compiled.append(event))
prepare_process()
jax.jit(lambda x: x * 3)(jax.numpy.float32(1)).block_until_ready()
print(sum("cache_misses" in event for event in compiled))
"""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    start = [sys.executable, "-c", code]
    first, second = (subprocess.check_output(start, env=environment, text=True) for _ in range(2))
    assert int(first) > 0
    assert int(second) == 0
