"""`split`: what a share may be."""

import numpy as np
import pytest

from funcnet import UsageError, data
from funcnet.base import Examples


@pytest.mark.parametrize("share", [0.0, 1.0, 1.5, -0.1, float("nan")])
def test_a_share_is_between_0_and_1(share):
    examples = Examples(inputs=np.zeros([10, 2]), targets=np.arange(10) % 2)
    with pytest.raises(UsageError, match="share: expected a number between 0 and 1"):
        data.split(examples, share=share)


def test_too_few_examples_of_a_class():
    examples = Examples(inputs=np.zeros([10, 2]), targets=np.arange(10) // 9)
    with pytest.raises(UsageError, match=r"mine: .* the smallest of which has 1. Bring more"):
        data.split(examples, share=0.2, name="mine")
