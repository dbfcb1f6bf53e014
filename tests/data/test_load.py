"""The digits: all of them, and always in the same parts."""

import chex
import numpy as np

from funcnet import data


class TestDigits:
    def test_all_images_are_there_once(self):
        from sklearn.datasets import load_digits

        digits, everything = data.load("digits"), load_digits()
        images = np.concatenate([digits.train.inputs, digits.test.inputs])
        assert sorted(map(bytes, np.uint8(images * 16))) == sorted(
            map(bytes, np.uint8(everything.data))
        )
        assert (digits.num_classes, digits.image_shape) == (10, (8, 8))
        assert images.min() == 0
        assert images.max() == 1

    def test_the_split_is_stratified_and_always_the_same(self):
        digits = data.load("digits")
        shares = np.bincount(digits.test.targets) / np.bincount(digits.train.targets)
        np.testing.assert_allclose(shares, 0.25, atol=0.02)
        chex.assert_trees_all_equal(digits.train, data.load("digits").train)
