"""`split`: what a share may be. `to_dataset`: the names of the classes."""

import numpy as np
import pytest

from funcnet import UsageError, data
from funcnet.base import Examples
from funcnet.data import _arrays


@pytest.mark.parametrize("share", [0.0, 1.0, 1.5, -0.1, float("nan")])
def test_a_share_is_between_0_and_1(share):
    examples = Examples(inputs=np.zeros([10, 2]), targets=np.arange(10) % 2)
    with pytest.raises(UsageError, match="share: expected a number between 0 and 1"):
        data.split(examples, share=share)


def test_too_few_examples_of_a_class():
    examples = Examples(inputs=np.zeros([10, 2]), targets=np.arange(10) // 9)
    with pytest.raises(UsageError, match=r"mine: .* the smallest of which has 1. Bring more"):
        data.split(examples, share=0.2, name="mine")


def test_the_names_of_the_classes_that_there_are():
    arrays = {"x_train": np.zeros([10, 2]), "y_train": np.arange(10) % 2 * 2}
    dataset = _arrays.to_dataset(arrays | {"class_names": np.array(["a", "b", "c"])}, source="own")
    assert dataset.class_names == ("a", "c")
    with pytest.raises(UsageError, match=r"own: expected labels from 0 to 1; got \[2\]"):
        _arrays.to_dataset(arrays | {"class_names": np.array(["a", "b"])}, source="own")
