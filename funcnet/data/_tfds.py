"""Data sets of tensorflow-datasets: prepared at the first call, read back ever after.

MNIST and its kin lie in four gzipped IDX files, which are read here. tensorflow-datasets has their
addresses and checksums. Any other data set is prepared by its builder.
"""

import contextlib
import gzip
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from funcnet._files import write_whole
from funcnet.base import PathLike, UsageError, did_you_mean
from funcnet.data._arrays import Dataset, to_dataset
from funcnet.data._own import read_npz

MNIST_LIKE = ("mnist", "fashion_mnist", "kmnist")
PATIENCE = 8.0  # seconds that the network has to answer


def from_tfds(name: str, data_dir: Path, manual_dir: Path | None) -> Dataset:
    """Return a data set of tensorflow-datasets; see `load` for the arguments and the errors."""
    prepared = data_dir / "funcnet" / f"{name}.npz"
    if not prepared.exists():
        prepare = _prepare_mnist_like if name in MNIST_LIKE else _prepare_with_builder
        arrays = prepare(name, data_dir, manual_dir)
        _ = to_dataset(arrays, source=name)  # arrays that fail the checks are not kept
        content = io.BytesIO()
        np.savez(content, **arrays)
        prepared.parent.mkdir(parents=True, exist_ok=True)
        write_whole(prepared, content.getvalue())
    try:
        arrays = read_npz(prepared)
    except UsageError as error:
        message = f"{error} It was prepared earlier: delete it, and it is made anew."
        raise OSError(message) from error
    if manual_dir is not None and "file_names" in arrays:
        digests = zip(arrays["file_names"], arrays["file_digests"], strict=True)
        _ = _verify(manual_dir, dict(digests))
    return to_dataset(arrays, source=str(prepared))


def _prepare_mnist_like(name: str, data_dir: Path, manual_dir: Path | None) -> dict[str, Any]:
    import tensorflow_datasets as tfds

    builder: Any = tfds.builder_cls(name)(data_dir=data_dir)
    digests = {info.filename: info.checksum for info in builder.url_infos.values()}
    paths = _verify(manual_dir, digests) if manual_dir else _download(builder, data_dir)
    return {
        "x_train": _read_idx(paths["train-images-idx3-ubyte.gz"]),
        "y_train": _read_idx(paths["train-labels-idx1-ubyte.gz"]),
        "x_test": _read_idx(paths["t10k-images-idx3-ubyte.gz"]),
        "y_test": _read_idx(paths["t10k-labels-idx1-ubyte.gz"]),
        "class_names": np.array(builder.info.features["label"].names),
        "file_names": np.array(list(digests)),
        "file_digests": np.array(list(digests.values())),
    }


def _verify(folder: Path, digests: Mapping[str, str]) -> dict[str, Path]:
    """Return the paths of the files in a folder, each with the SHA-256 that it must have."""
    paths = {name: folder / name for name in digests}
    if missing := [name for name, path in paths.items() if not path.is_file()]:
        raise FileNotFoundError(
            f"manual_dir: expected {', '.join(digests)} in {folder}; "
            f"missing: {', '.join(missing)}. Copy the original files there, compressed as they are."
        )
    for name, path in paths.items():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != digests[name]:
            raise UsageError(
                f"manual_dir: {path} is not the original file: expected SHA-256 {digests[name]}; "
                f"got {digest}, of {path.stat().st_size} bytes. Fetch it again."
            )
    return paths


def _download(builder: Any, data_dir: Path) -> Any:
    """Return the paths of files that tensorflow-datasets fetches and verifies."""
    import tensorflow_datasets as tfds

    _assert_reachable(builder)
    manager = tfds.download.DownloadManager(
        download_dir=data_dir / "downloads", dataset_name=builder.name, url_infos=builder.url_infos
    )
    try:
        return manager.download({info.filename: url for url, info in builder.url_infos.items()})
    except Exception as error:  # its errors have no common class
        raise ConnectionError(f"{builder.name}: could not be fetched. {error}") from error


def _assert_reachable(builder: Any) -> None:
    """Ask for the head of a file, and give up soon; a downloader would retry for minutes."""
    from urllib.request import Request, urlopen

    url = next(iter(builder.url_infos))
    try:
        urlopen(Request(url, method="HEAD"), timeout=PATIENCE).close()
    except OSError as error:
        raise ConnectionError(
            f"{builder.name}: expected to fetch {url}, with an answer within {PATIENCE:g} s; got: "
            f"{error}. Without a network, take the original files from a folder (--manual-dir), or "
            "train on the images that need none (--dataset digits)."
        ) from error


def _read_idx(path: PathLike) -> np.ndarray:
    """Return the array in a gzipped IDX file, whose checksum was found right."""
    # Two zeros, the type (8: bytes), the number of axes; their lengths, big-endian; the elements.
    content = gzip.decompress(Path(path).read_bytes())
    rank = content[3]
    shape = np.frombuffer(content, ">u4", count=rank, offset=4).tolist()
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _prepare_with_builder(name: str, data_dir: Path, manual_dir: Path | None) -> dict[str, Any]:
    import tensorflow_datasets as tfds

    known = tfds.list_builders(with_community_datasets=False)
    if name.split("/")[0] not in known:
        raise UsageError(
            "dataset: expected digits, mnist, fashion_mnist, kmnist, a path that ends in .npz or "
            f".csv, or a name of tensorflow-datasets; got {name!r}."
            + did_you_mean(name, ["digits", *known])
        )
    config = tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False)
    try:
        # Where TensorFlow is missing, tensorflow-datasets prints a banner before it raises.
        with contextlib.redirect_stdout(io.StringIO()):
            builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
            if builder.url_infos and manual_dir is None:
                _assert_reachable(builder)
            builder.download_and_prepare(download_config=config)
            return _read_builder(builder)
    except ImportError as error:
        missing = "TensorFlow" if "tensorflow" in str(error) else error
        raise ImportError(
            f"{name}: its builder in tensorflow-datasets needs what is not installed: {missing}. "
            "Install it (pip install tensorflow), or bring the arrays in an .npz file."
        ) from error


def _read_builder(builder: Any) -> dict[str, Any]:
    """Return the arrays of a prepared builder: its one image or vector, its one class label."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    labels = [k for k, f in features.items() if isinstance(f, tfds.features.ClassLabel)]
    inputs = [k for k, f in features.items() if k not in labels and f.shape and None not in f.shape]
    if len(labels) != 1 or len(inputs) != 1:
        raise UsageError(
            f"{builder.name}: expected examples of one array of a fixed shape and one class label; "
            f"its features are {dict(features.items())}. Bring the arrays as an .npz file."
        )
    arrays = {"class_names": np.array(features[labels[0]].names)}
    for part in {"train", "test"}.intersection(builder.info.splits):
        records = list(builder.as_data_source(split=part))
        arrays[f"x_{part}"] = np.stack([record[inputs[0]] for record in records])
        arrays[f"y_{part}"] = np.array([record[labels[0]] for record in records])
    return arrays
