"""Verdicts on a gradient."""

import pytest

from funcnet.gradcheck import LeafReport
from funcnet.gradcheck._verdict import bisected, overall


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["match", "kink", "skipped"], "pass"),
        (["match", "undecided"], "undecided"),
        (["undecided", "wrong"], "fail"),
        (["undecided", "nonfinite"], "fail"),
    ],
)
def test_the_gravest_leaf_decides(verdicts, expected):
    leaves = [
        LeafReport(path="x", shape=(), dtype="float32", checked="all", verdict=verdict)
        for verdict in verdicts
    ]
    assert overall(leaves) == expected


def test_bisection_finds_what_is_off():
    assert bisected(lambda low, high: low <= 6 < high, 0, 10) == 6
