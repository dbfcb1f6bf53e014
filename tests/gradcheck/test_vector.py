"""The arguments of a function as one vector."""

import numpy as np

from funcnet.gradcheck._vector import point_at


def test_floating_leaves_are_laid_end_to_end():
    args = {"w": np.ones([2, 3]), "z": np.array([1 + 2j])}, 4, "name"
    at = point_at(lambda params, n, text: 0.0, args, (0, 1, 2))
    assert [(leaf.path, leaf.start, leaf.size, leaf.skipped) for leaf in at.leaves] == [
        ("params['w']", 0, 6, None),
        ("params['z']", 6, 2, None),
        ("n", 8, 0, "an integer"),
        ("text", 8, 0, "not an array"),
    ]
    assert at.vector.tolist() == [1.0] * 6 + [1.0, 2.0]
    assert at.leaves[0].located(4) == ((1, 1), "", 1)
    assert at.leaves[1].located(7) == ((0,), ".imag", -1)
