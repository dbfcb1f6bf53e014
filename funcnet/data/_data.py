"""Data sets, as arrays on the host: real digits that need no network, MNIST and its kin, your own.

`load(name)` takes

- `"digits"`: 1,797 images of handwritten digits, 8 x 8, which scikit-learn ships;
- `"mnist"`, `"fashion_mnist"`, `"kmnist"`: 70,000 images, 28 x 28, fetched and verified by
  tensorflow-datasets (without TensorFlow), prepared once, read back in a moment ever after;
- any other name of tensorflow-datasets whose examples are an image or a vector with a class;
- a path to an `.npz` file with Keras's names, or to a `.csv` file.

Images are flattened; where they are `uint8` they stay so, and the models scale them to [0, 1].
Vectors become `float32`, whatever they were.
"""

import contextlib
import csv
import gzip
import hashlib
import io
import math
import os
import threading
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from funcnet._files import write_whole
from funcnet.base import Examples, PathLike, did_you_mean

MNIST_LIKE = ("mnist", "fashion_mnist", "kmnist")
"""The data sets in MNIST's own format: four gzipped IDX files."""

PATIENCE = 8.0
"""How many seconds the network has to answer."""

DENSEST = 1032
"""How many bytes deflate, the compression of gzip and zip, can put into one."""


class Dataset(NamedTuple):
    """Examples to learn from, and examples to be judged by.

    Attributes:
      train: inputs `[examples, features]`, `float32` or `uint8`, and targets `[examples]`, `int32`
        classes from 0.
      test: the same, never learnt from.
      num_classes: how many classes there are.
      class_names: a name for each.
      image_shape: the shape of an image before it was flattened; `None` where inputs are vectors.
    """

    train: Examples
    test: Examples
    num_classes: int
    class_names: tuple[str, ...]
    image_shape: tuple[int, ...] | None


def load(
    name: PathLike,
    *,
    data_dir: PathLike | None = None,
    manual_dir: PathLike | None = None,
    label_column: str = "label",
) -> Dataset:
    """A data set by its name, or from a file of your own.

    Args:
      name: "digits", "mnist", "fashion_mnist", "kmnist", another name of tensorflow-datasets, or
        the path of an `.npz` or `.csv` file.
      data_dir: where prepared data are kept; by default `$TFDS_DATA_DIR`, else
        `~/tensorflow_datasets`.
      manual_dir: a folder with the original files, instead of the network. They are verified.
      label_column: of a `.csv` file, the column that holds the class.

    An `.npz` file holds `x_train` and `y_train`, and may hold `x_test` and `y_test`: images, which
    become `uint8` where they are integers from 0 to 255, or vectors, which are taken as they are
    and learnt best from when they are of the size of 1. A `.csv` file
    has a header, one column of classes (numbers or words) and otherwise numbers, which are
    standardised with the training part's mean and deviation. Without a test part, a fifth of the
    examples becomes one: stratified, and always the same.

    >>> digits = load("digits")
    >>> digits.train.inputs.shape, digits.test.inputs.shape, digits.image_shape
    ((1437, 64), (360, 64), (8, 8))

    Raises:
      ValueError: an unknown name; a file that lacks something, or holds what can't be learnt from.
      FileNotFoundError: no such file; or `manual_dir` lacks one.
      ConnectionError: the network can't be reached.
      ImportError: the builder of this data set needs TensorFlow, which is not installed.
    """
    name = os.fspath(name)
    if name == "digits":
        return _load_digits()
    path = Path(name).expanduser()
    if path.suffix.lower() in (".npz", ".csv"):
        if not path.is_file():
            raise FileNotFoundError(f"{path}: expected a file; there is none.")
        return _from_npz(path) if path.suffix.lower() == ".npz" else _from_csv(path, label_column)
    folder = Path(data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets"))
    prepared = folder.expanduser() / "funcnet" / f"{name}.npz"
    manual = None if manual_dir is None else Path(manual_dir).expanduser()
    if not prepared.exists():
        prepare = _prepare_mnist_like if name in MNIST_LIKE else _prepare_with_builder
        arrays = prepare(name, prepared.parent.parent, manual)
        _ = _from_arrays(arrays, source=name)  # what can't be used is not kept
        _save_npz(prepared, arrays)
    try:
        arrays = _read_npz(prepared)
    except ValueError as error:
        raise OSError(
            f"{error} It was prepared earlier: delete it, and it is made anew."
        ) from error
    if manual is not None and "file_names" in arrays:
        _ = _verify(manual, dict(zip(arrays["file_names"], arrays["file_digests"], strict=True)))
    return _from_arrays(arrays, source=str(prepared))


def split(examples: Examples, *, share: float, name: str = "examples") -> tuple[Examples, Examples]:
    """The examples less a share of each class, and that share: always the same ones.

    >>> train, validation = split(load("digits").train, share=0.2)
    >>> len(train.targets), len(validation.targets)
    (1149, 288)

    Raises:
      ValueError: there are too few examples of a class; `name` is what the message calls them.
    """
    from sklearn.model_selection import train_test_split

    indices = np.arange(len(examples.targets))
    try:
        rest, part = train_test_split(
            indices, test_size=share, stratify=examples.targets, random_state=0
        )
    except ValueError as error:
        counts = np.bincount(examples.targets)
        raise ValueError(
            f"{name}: expected enough examples to put {share:.0%} of each class aside; "
            f"got {len(indices)} of {len(counts)} classes, the smallest of which has "
            f"{counts.min()}. Bring more."
        ) from error
    return jax.tree.map(lambda a: a[rest], examples), jax.tree.map(lambda a: a[part], examples)


# --- scikit-learn's digits ---------------------------------------------------------------------


def _load_digits() -> Dataset:
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    arrays = {"x_train": digits.images / 16, "y_train": digits.target}
    return _from_arrays(arrays, source="digits")


# --- MNIST and its kin, with the addresses and checksums of tensorflow-datasets ------------------


def _prepare_mnist_like(name: str, data_dir: Path, manual_dir: Path | None) -> dict[str, Any]:
    """The arrays of four IDX files, from a folder or from the network."""
    import tensorflow_datasets as tfds

    builder: Any = tfds.builder_cls(name)
    digests = {info.filename: info.checksum for info in builder.url_infos.values()}
    paths: Any
    if manual_dir is not None:
        paths = _verify(manual_dir, digests)
    else:
        urls = {info.filename: url for url, info in builder.url_infos.items()}
        _assert_reachable(next(iter(urls.values())), name)
        manager = tfds.download.DownloadManager(
            download_dir=data_dir / "downloads", dataset_name=name, url_infos=builder.url_infos
        )
        try:
            paths = manager.download(urls)
        except Exception as error:  # its errors have no common class
            raise ConnectionError(f"{name}: could not be fetched. {error}") from error
    features = builder(data_dir=data_dir).info.features
    return {
        "x_train": _read_idx(paths["train-images-idx3-ubyte.gz"], rank=3),
        "y_train": _read_idx(paths["train-labels-idx1-ubyte.gz"], rank=1),
        "x_test": _read_idx(paths["t10k-images-idx3-ubyte.gz"], rank=3),
        "y_test": _read_idx(paths["t10k-labels-idx1-ubyte.gz"], rank=1),
        "class_names": np.array(features["label"].names),
        "file_names": np.array(list(digests)),
        "file_digests": np.array(list(digests.values())),
    }


def _verify(folder: Path, digests: Mapping[str, str]) -> dict[str, Path]:
    """The paths of the files in a folder, after their SHA-256 were compared."""
    paths = {name: folder / name for name in digests}
    if missing := [name for name, path in paths.items() if not path.is_file()]:
        raise FileNotFoundError(
            f"manual_dir: expected {', '.join(digests)} in {folder}; "
            f"missing: {', '.join(missing)}. Copy the original files there, compressed as they are."
        )
    for name, path in paths.items():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != digests[name]:
            raise ValueError(
                f"manual_dir: {path} is not the original file: expected SHA-256 {digests[name]}; "
                f"got {digest}, of {path.stat().st_size} bytes. Fetch it again."
            )
    return paths


def _read_idx(path: PathLike, *, rank: int) -> np.ndarray:
    """The array in a gzipped IDX file.

    Two zeros, the type (8: bytes) and the number of axes, a byte each; the lengths of the axes,
    big-endian in four bytes; the elements. Nothing is allocated before the lengths are believed.
    """
    magic, file_size = bytes([0, 0, 8, rank]), os.path.getsize(path)
    try:
        with gzip.open(path) as file:
            header = file.read(4 * (1 + rank))
            if header[:4] != magic or len(header) < 4 * (1 + rank):
                raise ValueError(
                    f"{path}: expected {magic.hex(' ')} and {rank} lengths; got {header.hex(' ')}."
                )
            shape = tuple(np.frombuffer(header, ">u4", offset=4).tolist())
            _assert_plausible(math.prod(shape), file_size, f"{path}: {shape}")
            content = file.read(math.prod(shape) + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: expected a gzipped file; {error}.") from error
    if len(content) != math.prod(shape):
        more = "more" if len(content) > math.prod(shape) else f"{len(content):,}"
        raise ValueError(f"{path}: expected {math.prod(shape):,} bytes, {shape}; got {more}.")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _assert_plausible(num_bytes: int, file_size: int, where: str) -> None:
    """Refuses a size that no file so small can hold, compressed as well as deflate can."""
    if num_bytes > DENSEST * file_size:
        raise ValueError(
            f"{where}: {num_bytes:,} bytes are declared, more than a file of {file_size:,} bytes "
            "can hold. It is damaged."
        )


def _assert_reachable(url: str, name: str) -> None:
    """Asks for the head of an address, and gives up soon; a downloader would retry for minutes."""
    import urllib.request

    errors: list[OSError] = [TimeoutError(f"no answer within {PATIENCE:g} s")]

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            urllib.request.urlopen(request, timeout=PATIENCE).close()
            errors.clear()
        except OSError as error:
            errors.insert(0, error)

    # A thread, because looking up the host's name knows no timeout.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if errors:
        raise ConnectionError(
            f"{name}: expected to fetch {url}; got: {errors[0]}. Without a network, take the "
            "original files from a folder (--manual-dir), or train on the images that need none "
            "(--dataset digits)."
        ) from errors[0]


# --- any other data set of tensorflow-datasets ---------------------------------------------------


def _prepare_with_builder(name: str, data_dir: Path, manual_dir: Path | None) -> dict[str, Any]:
    """The arrays of a data set that tensorflow-datasets prepares itself."""
    import tensorflow_datasets as tfds

    known = tfds.list_builders(with_community_datasets=False)
    if name.split("/")[0] not in known:
        raise ValueError(
            "dataset: expected digits, mnist, fashion_mnist, kmnist, a path that ends in .npz or "
            f".csv, or a name of tensorflow-datasets; got {name!r}."
            + did_you_mean(name, ["digits", *MNIST_LIKE, *known])
        )
    config = tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False)
    try:
        # Where TensorFlow is missed, tensorflow-datasets prints a banner before it raises.
        with contextlib.redirect_stdout(io.StringIO()):
            builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
            if builder.url_infos and manual_dir is None:
                _assert_reachable(next(iter(builder.url_infos)), name)
            builder.download_and_prepare(download_config=config)
            return _read_builder(builder)
    except ImportError as error:
        missing = "TensorFlow" if "tensorflow" in str(error) else error
        raise ImportError(
            f"{name}: its builder in tensorflow-datasets needs what is not installed: {missing}. "
            "Install it (pip install tensorflow), or bring the arrays in an .npz file."
        ) from error


def _read_builder(builder: Any) -> dict[str, Any]:
    """The arrays of a prepared builder: its one image or vector, its one class label."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    labels = [k for k, f in features.items() if isinstance(f, tfds.features.ClassLabel)]
    inputs = [k for k, f in features.items() if k not in labels and f.shape and None not in f.shape]
    if len(labels) != 1 or len(inputs) != 1:
        raise ValueError(
            f"{builder.name}: expected examples of one array of a fixed shape and one class label; "
            f"its features are {dict(features.items())}. Bring the arrays as an .npz file."
        )
    arrays = {"class_names": np.array(features[labels[0]].names)}
    for part in [part for part in ("train", "test") if part in builder.info.splits]:
        records = list(builder.as_data_source(split=part))
        arrays[f"x_{part}"] = np.stack([record[inputs[0]] for record in records])
        arrays[f"y_{part}"] = np.array([record[labels[0]] for record in records])
    return arrays


# --- files of your own ---------------------------------------------------------------------------


def _from_npz(path: Path) -> Dataset:
    arrays = _read_npz(path)
    if missing := {"x_train", "y_train"} - arrays.keys():
        raise ValueError(
            f"{path}: expected arrays x_train and y_train (and x_test, y_test); "
            f"got {', '.join(arrays) or 'none'}. Missing: {', '.join(sorted(missing))}."
        )
    if ("x_test" in arrays) != ("y_test" in arrays):
        raise ValueError(f"{path}: expected both x_test and y_test, or neither; got one of them.")
    known = ("x_train", "y_train", "x_test", "y_test")
    return _from_arrays({k: arrays[k] for k in known if k in arrays}, source=str(path))


def _from_csv(path: Path, label_column: str) -> Dataset:
    """The classes of one column, and the numbers of the others, standardised."""
    header, rows = _read_csv(path)
    if label_column not in header:
        raise ValueError(
            f"{path}: expected a header with a column {label_column!r}; got {header}. "
            "Name the column of the classes with label_column (--label-column)."
        )
    labels = [row.pop(label_column) for row in rows.values()]
    for line, label in zip(rows, labels, strict=True):
        if not label:
            raise ValueError(f"{path}, line {line}, column {label_column!r}: expected a class.")
    inputs = [
        [_number(text, where=f"{path}, line {line}, column {n!r}") for n, text in row.items()]
        for line, row in rows.items()
    ]
    arrays = {"x_train": np.array(inputs), "y_train": _integers_or_words(labels)}
    return _from_arrays(arrays, source=str(path), standardise=True)


def _read_csv(path: Path) -> tuple[list[str], dict[int, dict[str, str]]]:
    """The header of a file, and by the number of its line each row, as a dict by the header."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True)
            numbered = ((reader.line_num, row) for row in reader if row)
            lines = dict(numbered)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: expected text, comma separated, in UTF-8; {error}.") from error
    header = lines.pop(min(lines), []) if lines else []
    if len(set(header)) < len(header):
        raise ValueError(f"{path}: expected a header of different names; got {header}.")
    for line, row in lines.items():
        if len(row) != len(header):
            raise ValueError(
                f"{path}, line {line}: expected {len(header)} fields, as in the header; "
                f"got {len(row)}."
            )
    return header, {n: dict(zip(header, row, strict=True)) for n, row in lines.items()}


def _integers_or_words(labels: list[str]) -> np.ndarray:
    """Integers if all are, so that 10 comes after 9."""
    try:
        return np.array([int(label) for label in labels])
    except ValueError:
        return np.array(labels)


def _number(text: str, *, where: str) -> float:
    with contextlib.suppress(ValueError):
        if math.isfinite(number := float(text)):
            return number
    raise ValueError(f"{where}: expected a finite number; got {text!r}.")


# --- from arrays to a Dataset --------------------------------------------------------------------


def _from_arrays(
    arrays: Mapping[str, np.ndarray], *, source: str, standardise: bool = False
) -> Dataset:
    """A checked `Dataset` of arrays under Keras's names; the test part is split off if missing."""
    classes = np.unique(_as_labels(arrays["y_train"], f"{source}: y_train"))
    if len(classes) < 2:
        raise ValueError(
            f"{source}: expected two classes or more; got {', '.join(map(repr, classes.tolist()))}."
        )
    train = _examples(arrays, "train", classes, source)
    if "x_test" in arrays:
        test = _examples(arrays, "test", classes, source)
    else:
        train, test = split(train, share=0.2, name=source)
    x_train, x_test = np.asarray(train.inputs), np.asarray(test.inputs)
    if x_train.shape[1:] != x_test.shape[1:]:
        raise ValueError(
            f"{source}: expected examples of one shape; got {x_train.shape[1:]} in x_train and "
            f"{x_test.shape[1:]} in x_test."
        )
    if standardise:
        x_train, x_test = _standardised(x_train, x_test)
    x_train, x_test = _stored(x_train, x_test, source)
    names = _names(classes, arrays["class_names"], source) if "class_names" in arrays else classes
    shape = arrays["x_train"].shape[1:]
    return Dataset(
        train=train._replace(inputs=x_train),
        test=test._replace(inputs=x_test),
        num_classes=len(classes),
        class_names=tuple(str(name) for name in names),
        image_shape=(shape[:2] if shape[2:] == (1,) else shape) if len(shape) > 1 else None,
    )


def _examples(
    arrays: Mapping[str, np.ndarray], part: str, classes: np.ndarray, source: str
) -> Examples:
    """Checked inputs, and each target as an index into the classes."""
    x = arrays[f"x_{part}"]
    _check_inputs(x, f"{source}: x_{part}")
    y = _as_labels(arrays[f"y_{part}"], f"{source}: y_{part}")
    if len(x) != len(y):
        raise ValueError(
            f"{source}: expected as many inputs as labels; "
            f"got {len(x)} in x_{part} and {len(y)} in y_{part}."
        )
    if unknown := np.setdiff1d(y, classes).tolist():
        raise ValueError(f"{source}: y_{part} has classes that y_train lacks: {unknown[:10]}.")
    return Examples(inputs=x, targets=np.searchsorted(classes, y).astype(np.int32))


def _check_inputs(x: np.ndarray, where: str) -> None:
    if x.dtype.kind not in "biuf":
        raise TypeError(f"{where}: expected numbers; got {x.dtype}.")
    if x.ndim < 2 or x.size == 0:
        raise ValueError(f"{where}: expected examples, [examples, features]; got shape {x.shape}.")
    if x.dtype.kind == "f" and (bad := np.argwhere(~np.isfinite(x))[:1].tolist()):
        raise ValueError(f"{where}: expected finite numbers; got {x[tuple(bad[0])]} at {bad[0]}.")


def _as_labels(y: np.ndarray, where: str) -> np.ndarray:
    """`[examples]`: integers or words."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or y.size == 0:
        raise ValueError(f"{where}: expected a class an example, [examples]; got shape {y.shape}.")
    if y.dtype.kind == "f":
        if bad := y[~((np.abs(y) < 2**53) & (y == np.floor(y)))][:1].tolist():
            raise ValueError(f"{where}: expected classes, whole numbers or words; got {bad[0]}.")
        y = y.astype(np.int64)
    if y.dtype.kind not in "biuU":
        raise TypeError(f"{where}: expected classes, whole numbers or words; got {y.dtype}.")
    return y


def _names(classes: np.ndarray, names: np.ndarray, source: str) -> np.ndarray:
    """The name of each class, an index into all names."""
    if unknown := classes[(classes < 0) | (classes >= len(names))].tolist():
        raise ValueError(
            f"{source}: expected labels from 0 to {len(names) - 1}; got {unknown[:10]}."
        )
    return names[classes]


def _standardised(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both parts less the training part's mean, over its deviation.

    A feature that is constant but for rounding is only centred.
    """
    largest = np.abs(train).max(axis=0)
    scale = np.where(largest > 0, largest, 1)  # else the square of 1e300 would overflow
    train, test = train / scale, test / scale
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    deviation = np.where(deviation <= 1e-12 * np.abs(mean), 1, deviation)
    return (train - mean) / deviation, (test - mean) / deviation


def _stored(train: np.ndarray, test: np.ndarray, source: str) -> tuple[np.ndarray, np.ndarray]:
    """`[examples, features]`, both parts alike: intensities of images as `uint8`, else floats."""
    parts = (train, test)
    if all(map(_is_intensities, parts)):
        dtype = np.uint8
    elif any(part.dtype == np.uint8 and _is_intensities(part) for part in parts):
        raise TypeError(
            f"{source}: expected x_train and x_test of one kind; got {train.dtype} and "
            f"{test.dtype}. uint8 images are scaled to [0, 1], and other numbers are not."
        )
    else:
        dtype = np.float32
        if max(np.abs(part, dtype=np.float64).max() for part in parts) > np.finfo(dtype).max:
            raise ValueError(f"{source}: expected inputs that float32 can hold; got larger ones.")
    flat_train, flat_test = (part.reshape(len(part), -1).astype(dtype) for part in parts)
    return flat_train, flat_test


def _is_intensities(x: np.ndarray) -> bool:
    """Whether these are images of integers from 0 to 255."""
    return x.ndim > 2 and x.dtype.kind in "iu" and bool(x.min() >= 0 and x.max() <= 255)


# --- files ---------------------------------------------------------------------------------------


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file; never unpickles, so that reading a file runs no code."""
    with path.open("rb") as file:
        try:
            _assert_plausible_npz(path)
            with np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
        except MemoryError:
            raise
        except Exception as error:  # NumPy's and zipfile's have no common class
            raise ValueError(
                f"{path}: expected arrays of numbers or words, as numpy.savez writes them; "
                "this file is damaged, or holds something else."
            ) from error


def _assert_plausible_npz(path: Path) -> None:
    """Reads the header of each array first: NumPy allocates whatever they declare."""
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
            _assert_plausible(num_bytes, file_size, f"{path}: {name}, {shape}")


def _save_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """The arrays in a file, whole or absent."""
    content = io.BytesIO()
    np.savez(content, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content.getvalue())
