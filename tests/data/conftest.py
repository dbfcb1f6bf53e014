"""Files of the user's own, and what a damaged one must lead to."""

import resource
import time

import numpy as np
import pytest

import funcnet as fn
from funcnet import data

SECONDS, KIBIBYTES = 10, 64 * 2**10
CLEAR = "expected|has classes that"


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
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    with pytest.raises(fn.UsageError, match=CLEAR) as caught:
        data.load(path, **options)
    # The memory that was touched: what a header declares is asked for, and never written.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < KIBIBYTES
    assert time.perf_counter() - start < SECONDS
    text = str(caught.value)
    assert len(text) < 1000
    assert "\n" not in text
    return text
