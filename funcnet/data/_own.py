"""Files of the user's own: arrays in an `.npz` file, or a table in a `.csv` file."""

import contextlib
import csv
import math
from pathlib import Path

import numpy as np

from funcnet.base import UsageError
from funcnet.data._arrays import Dataset, to_dataset


def from_npz(path: Path) -> Dataset:
    """Return the data set of a file with `x_train`, `y_train`, and maybe `x_test`, `y_test`."""
    arrays = read_npz(path)
    needed = ["x_train", "y_train"]
    if "x_test" in arrays or "y_test" in arrays:
        needed += ["x_test", "y_test"]
    if missing := [name for name in needed if name not in arrays]:
        raise UsageError(
            f"{path}: expected arrays x_train and y_train, and both x_test and y_test or neither; "
            f"got {', '.join(arrays) or 'none'}. Missing: {', '.join(missing)}."
        )
    return to_dataset({name: arrays[name] for name in needed}, source=str(path))


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


def from_csv(path: Path, label_column: str) -> Dataset:
    """Return the data set of a table: the classes of one column, the other numbers standardised."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True)
            lines = [(f"{path}, line {reader.line_num}", row) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: expected text, comma separated, in UTF-8; {error}.") from error
    (_, header), *rows = lines or [("", [])]
    if len(set(header)) < len(header):
        raise UsageError(f"{path}: expected a header of different names; got {header}.")
    if label_column not in header:
        raise UsageError(
            f"{path}: expected a header with a column {label_column!r}; got {header}. "
            "Name the column of the classes with label_column (--label-column)."
        )
    labels, inputs = [], []
    for where, row in rows:
        if len(row) != len(header):
            raise UsageError(
                f"{where}: expected {len(header)} fields, as in the header; got {len(row)}."
            )
        fields = dict(zip(header, row, strict=True))
        labels.append(fields.pop(label_column))
        if not labels[-1]:
            raise UsageError(f"{where}, column {label_column!r}: expected a class.")
        inputs.append([_number(text, f"{where}, column {n!r}") for n, text in fields.items()])
    try:
        classes = np.array([int(label) for label in labels])  # so that 10 comes after 9
    except ValueError:
        classes = np.array(labels)
    arrays = {"x_train": np.array(inputs), "y_train": classes}
    return to_dataset(arrays, source=str(path), standardise=True)


def _number(text: str, where: str) -> float:
    with contextlib.suppress(ValueError):
        if math.isfinite(number := float(text)):
            return number
    raise UsageError(f"{where}: expected a finite number; got {text!r}.")
