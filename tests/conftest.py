"""The strictest JAX: every test, doctests included, runs under these settings."""

import os
import pathlib
import tempfile

import hypothesis
import jax
import pytest

import funcnet as fn

REPOSITORY = pathlib.Path(__file__).parents[1]
MNIST_DIR = pathlib.Path(
    os.environ.get("FUNCNET_MNIST_DIR", REPOSITORY.parent / "shared/data/mnist")
)

QUICKLY = {
    "XLA_FLAGS": "--xla_backend_optimization_level=0",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
}
"""Settings under which a test compiles quickly; most of the time of the quick tests is that."""


def pytest_configure(config):
    """Let the quick tests compile quickly, and no two workers the same program.

    The slow tests compile as users do.
    """
    if config.option.markexpr == "not slow" and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        config.add_cleanup(folder.cleanup)
        os.environ.update(QUICKLY, JAX_COMPILATION_CACHE_DIR=folder.name)


jax.config.update("jax_num_cpu_devices", 2)  # a sweep divides its models among devices

hypothesis.settings.register_profile("funcnet", deadline=None)  # the first call compiles
hypothesis.settings.load_profile("funcnet")


@pytest.fixture(autouse=True, scope="session")
def strict_jax():
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_legacy_prng_key", "error")
    jax.config.update("jax_debug_key_reuse", True)


@pytest.fixture
def float64():
    """Runs a test in double precision."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def mnist_dir():
    """The folder of MNIST's four original files."""
    if not MNIST_DIR.is_dir():
        pytest.skip(f"no MNIST in {MNIST_DIR}; FUNCNET_MNIST_DIR can name the folder of its files")
    return MNIST_DIR


@pytest.fixture(scope="session")
def prepared_dir(mnist_dir, tmp_path_factory):
    """A data folder in which MNIST is prepared."""
    folder = tmp_path_factory.mktemp("data")
    fn.data.load("mnist", data_dir=folder, manual_dir=mnist_dir)
    return folder


@pytest.fixture(scope="session")
def mnist(prepared_dir):
    """MNIST, as a `Dataset`."""
    return fn.data.load("mnist", data_dir=prepared_dir)
