"""Files of the user's own, and what a damaged one must lead to."""

import time
import tracemalloc

import numpy as np
import pytest

import funcnet as fn
from funcnet import data

SECONDS, BYTES = 10, 64 * 2**20
CLEAR = "expected|declared|has classes that"


@pytest.fixture
def npz(tmp_path):
    """Loads an .npz file of these arrays."""

    def load(**arrays):
        np.savez(tmp_path / "own.npz", **arrays)
        return data.load(str(tmp_path / "own.npz"))

    return load


@pytest.fixture
def csv(tmp_path):
    """Loads a .csv file of this text."""

    def load(text, **options):
        (tmp_path / "own.csv").write_text(text)
        return data.load(str(tmp_path / "own.csv"), **options)

    return load


@pytest.fixture
def refused():
    """Loads what is damaged; the message of its error, after bounded time and memory."""
    return _refused


def _refused(path, **options):
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(fn.UsageError, match=CLEAR) as caught:
            data.load(path, **options)
        assert tracemalloc.get_traced_memory()[1] < BYTES
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - start < SECONDS
    text = str(caught.value)
    assert len(text) < 1000
    assert "\n" not in text
    return text
