"""Tables of the user's own: `.csv` files, one column of classes and otherwise numbers."""

import contextlib
import csv
import math
from pathlib import Path

import numpy as np

from funcnet.base import UsageError
from funcnet.data._arrays import Dataset, to_dataset


def from_csv(path: Path, label_column: str) -> Dataset:
    """Return the data set of a table: the classes of one column, the other numbers standardised."""
    header, rows = _read_csv(path)
    if label_column not in header:
        raise UsageError(
            f"{path}: expected a header with a column {label_column!r}; got {header}. "
            "Name the column of the classes with label_column (--label-column)."
        )
    labels = [row.pop(label_column) for row in rows.values()]
    for line, label in zip(rows, labels, strict=True):
        if not label:
            raise UsageError(f"{path}, line {line}, column {label_column!r}: expected a class.")
    inputs = [
        [_number(text, where=f"{path}, line {line}, column {n!r}") for n, text in row.items()]
        for line, row in rows.items()
    ]
    arrays = {"x_train": np.array(inputs), "y_train": _integers_or_words(labels)}
    return to_dataset(arrays, source=str(path), standardise=True)


def _read_csv(path: Path) -> tuple[list[str], dict[int, dict[str, str]]]:
    """The header of a file, and by the number of its line each row, as a dict by the header."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True)
            numbered = ((reader.line_num, row) for row in reader if row)
            lines = dict(numbered)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: expected text, comma separated, in UTF-8; {error}.") from error
    header = lines.pop(min(lines), []) if lines else []
    if len(set(header)) < len(header):
        raise UsageError(f"{path}: expected a header of different names; got {header}.")
    for line, row in lines.items():
        if len(row) != len(header):
            raise UsageError(
                f"{path}, line {line}: expected {len(header)} fields, as in the header; "
                f"got {len(row)}."
            )
    return header, {n: dict(zip(header, row, strict=True)) for n, row in lines.items()}


def _integers_or_words(labels: list[str]) -> np.ndarray:
    """Integers if all labels are integers, so that 10 comes after 9."""
    try:
        return np.array([int(label) for label in labels])
    except ValueError:
        return np.array(labels)


def _number(text: str, *, where: str) -> float:
    with contextlib.suppress(ValueError):
        if math.isfinite(number := float(text)):
            return number
    raise UsageError(f"{where}: expected a finite number; got {text!r}.")
