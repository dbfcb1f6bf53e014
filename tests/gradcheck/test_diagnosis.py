"""What a wrong gradient looks like."""

import numpy as np
import pytest

from funcnet.gradcheck._diagnosis import Evidence, looks_like
from funcnet.gradcheck._vector import point_at

TRUTH = np.array([1.0, 2.0, -3.0])


@pytest.mark.parametrize(
    ("claimed", "expected"),
    [
        (-TRUTH, "sign flipped"),
        (8 * TRUTH, "8 times too large: the mean's 1/m is missing"),
        (TRUTH + 0.5, "right up to a constant, 0.5"),
        (np.array([1.0, 2.0, -1.5]), "wrong at one element"),
    ],
)
def test_looks_like(claimed, expected):
    evidence = Evidence(
        leaf=point_at(np.sum, (TRUTH,), (0,)).leaves[0],
        numbers=np.arange(3),
        x=TRUTH,
        whole=claimed,
        truth=TRUTH,
        wrong=claimed != TRUTH,
        batch_sizes=[8],
    )
    assert looks_like(evidence) == expected
