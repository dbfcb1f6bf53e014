"""Data: digits, tensorflow-datasets, and files of the user's own, as host arrays."""

from funcnet.data._data import Dataset, load, split

__all__ = ["Dataset", "load", "split"]
