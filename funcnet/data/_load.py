"""`load`: from a name or a path to a `Dataset`."""

import os
from pathlib import Path

from funcnet.base import PathLike
from funcnet.data._arrays import Dataset, to_dataset
from funcnet.data._own import from_csv, from_npz
from funcnet.data._tfds import from_tfds


def load(
    name: PathLike,
    *,
    data_dir: PathLike | None = None,
    manual_dir: PathLike | None = None,
    label_column: str = "label",
) -> Dataset:
    """Return a data set by its name, or from a file of your own.

    - `"digits"`: 1,797 images of handwritten digits, 8 x 8, which scikit-learn ships.
    - `"mnist"`, `"fashion_mnist"`, `"kmnist"`: 70,000 images, 28 x 28, fetched and verified by
      tensorflow-datasets without TensorFlow.
    - Any other name of tensorflow-datasets whose examples are an image or a vector with a class.
    - The path of an `.npz` file that holds `x_train` and `y_train`, and may hold `x_test` and
      `y_test`. Images of integers from 0 to 255 become `uint8`. All other numbers are taken as
      they are, as `float32`: scale them to about 1.
    - The path of a `.csv` file with a header, one column of classes (numbers or words), and
      otherwise numbers. They are standardised with the training part's mean and deviation.

    Images are flattened. Where a test part is missing, a fifth of the examples becomes one:
    stratified, and always the same.

    Args:
      name: the name or the path.
      data_dir: the folder of prepared data; else `$TFDS_DATA_DIR`, or `~/tensorflow_datasets`.
      manual_dir: a folder with the original files, which are verified; by default the network.
      label_column: the column of a `.csv` file that holds the class.

    >>> digits = load("digits")
    >>> digits.train.inputs.shape, digits.test.inputs.shape, digits.image_shape
    ((1437, 64), (360, 64), (8, 8))

    Raises:
      UsageError: an unknown name, or a file that lacks something or holds unusable examples.
      FileNotFoundError: there is no such file, or `manual_dir` lacks one.
      ConnectionError: the network can't be reached.
      ImportError: the builder of this data set needs TensorFlow, which is not installed.
    """
    name = os.fspath(name)
    if name == "digits":
        from sklearn.datasets import load_digits

        images, targets = load_digits(return_X_y=True)
        arrays = {"x_train": images.reshape(-1, 8, 8) / 16, "y_train": targets}
        return to_dataset(arrays, source=name)
    path = Path(name).expanduser()
    if (suffix := path.suffix.lower()) not in (".npz", ".csv"):
        folder = Path(data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets"))
        manual = None if manual_dir is None else Path(manual_dir).expanduser()
        return from_tfds(name, folder.expanduser(), manual)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a file; there is none.")
    return from_npz(path) if suffix == ".npz" else from_csv(path, label_column)
