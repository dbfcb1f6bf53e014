"""Arrays in `.npz` files: the user's own, and those of data sets that are prepared once."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from funcnet._files import write_whole
from funcnet.base import UsageError
from funcnet.data._arrays import Dataset, to_dataset


def from_npz(path: Path) -> Dataset:
    """Return the data set of a file with `x_train`, `y_train`, and maybe `x_test`, `y_test`."""
    arrays = read_npz(path)
    if missing := {"x_train", "y_train"} - arrays.keys():
        raise UsageError(
            f"{path}: expected arrays x_train and y_train (and x_test, y_test); "
            f"got {', '.join(arrays) or 'none'}. Missing: {', '.join(sorted(missing))}."
        )
    if ("x_test" in arrays) != ("y_test" in arrays):
        raise UsageError(f"{path}: expected both x_test and y_test, or neither; got one of them.")
    known = ("x_train", "y_train", "x_test", "y_test")
    return to_dataset({k: arrays[k] for k in known if k in arrays}, source=str(path))


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file. Nothing is unpickled: reading a file runs no code."""
    with path.open("rb") as file:
        try:
            with np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
        except Exception as error:  # NumPy's and zipfile's have no common class
            raise UsageError(
                f"{path}: expected arrays of numbers or words, as numpy.savez writes them; "
                "this file is damaged, or holds something else, or more than fits in memory."
            ) from error


def save_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    content = io.BytesIO()
    np.savez(content, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content.getvalue())
