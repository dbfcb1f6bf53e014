"""Arrays in `.npz` files: the user's own, and those of data sets that are prepared once."""

import io
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from funcnet._files import write_whole
from funcnet.base import UsageError
from funcnet.data._arrays import Dataset, to_dataset

DENSEST = 1032  # bytes that one byte of a deflated file (gzip, zip) can hold at most


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
            _check_headers(path)
            with np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
        except MemoryError:
            raise
        except Exception as error:  # NumPy's and zipfile's have no common class
            raise UsageError(
                f"{path}: expected arrays of numbers or words, as numpy.savez writes them; "
                "this file is damaged, or holds something else."
            ) from error


def _check_headers(path: Path) -> None:
    """Read the header of each array first: NumPy allocates whatever they declare."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    file_size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as member:
                shape, _, dtype = readers[np.lib.format.read_magic(member)](member)
            num_bytes = math.prod(shape) * max(dtype.itemsize, 1)
            check_size(num_bytes, file_size, f"{path}: {name}, {shape}")


def check_size(num_bytes: int, file_size: int, where: str) -> None:
    """Raise an error if no file of `file_size` bytes can hold `num_bytes`, deflated."""
    if num_bytes > DENSEST * file_size:
        raise UsageError(
            f"{where}: {num_bytes:,} bytes are declared, more than a file of {file_size:,} bytes "
            "can hold. It is damaged."
        )


def save_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays to a file, whole or not at all."""
    content = io.BytesIO()
    np.savez(content, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content.getvalue())
