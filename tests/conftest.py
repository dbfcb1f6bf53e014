"""The strictest JAX: every test, doctests included, runs under these settings."""

import jax
import pytest


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
