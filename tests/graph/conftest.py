"""The graph that several files look at."""

import pytest

import funcnet as fn


@pytest.fixture(scope="session")
def lecture():
    """The graph of the lecture's function."""

    def lecture(w1, w2, w3, w4, a):
        b = w1 * a
        c = w2 * a
        d = w3 * b + w4 * c
        L = 10 - d
        return L  # noqa: RET504

    return fn.trace(lecture)(1.0, 2.0, 3.0, 4.0, 5.0)
