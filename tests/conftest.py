"""The strictest JAX: every test, doctests included, runs under these settings."""

import gzip
import os
import pathlib

import jax
import numpy as np
import pytest

from funcnet import Examples


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


MNIST_DIR = pathlib.Path(
    os.environ.get("FUNCNET_MNIST_DIR", pathlib.Path(__file__).parents[2] / "shared/data/mnist")
)


@pytest.fixture(scope="session")
def mnist() -> Examples:
    """MNIST's 10,000 test images, read from its IDX files."""
    if not MNIST_DIR.is_dir():
        pytest.skip(f"no MNIST in {MNIST_DIR}; FUNCNET_MNIST_DIR can name the folder of its files")
    images = gzip.decompress((MNIST_DIR / "t10k-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((MNIST_DIR / "t10k-labels-idx1-ubyte.gz").read_bytes())
    return Examples(
        inputs=np.frombuffer(images, np.uint8, offset=16).reshape(-1, 784),
        targets=np.frombuffer(labels, np.uint8, offset=8).astype(np.int32),
    )
