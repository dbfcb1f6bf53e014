"""Data: digits, tensorflow-datasets, and files of the user's own, as arrays on the host.

    dataset = load("digits")  # Dataset(train, test, num_classes, class_names, image_shape)

1. `load` tells by the name where the examples are (`_load`); scikit-learn ships the digits.
2. A file of the user's own, `.npz` or `.csv`, is read and believed in nothing (`_own`).
3. Any other name is one of tensorflow-datasets. MNIST and its kin are fetched and verified, other
   builders run; what they give is kept in an `.npz` file, and read from there later (`_tfds`).
4. Every way leads to arrays under Keras's names, `x_train`, `y_train`, `x_test`, `y_test`. They are
   checked, the classes become integers from 0, and a missing test part is split off (`_arrays`).

Begin with `_load`.
"""

from funcnet.data._arrays import Dataset, split
from funcnet.data._load import load

__all__ = ["Dataset", "load", "split"]
