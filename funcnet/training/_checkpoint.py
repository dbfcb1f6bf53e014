"""A pytree of arrays in a folder, whole or absent: what a training goes on from.

    save(path, state)
    state = restore(path, like)

The arrays are Orbax's, JAX's own checkpointing. Beside them lie `leaves.json`, the path, dtype and
shape of every leaf, and `manifest.json`, the size and the SHA-256 of every file, the last line of
which is its own. A flipped byte or a file that was cut short is found before anything is believed;
and as no file holds code, reading one runs none.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._files import sync
from funcnet.base import PathLike

VERSION = 1
"""Of the form of the folder. Another one is refused."""

MANIFEST, LEAVES, ARRAYS = "manifest.json", "leaves.json", "arrays"


def save(path: PathLike, state: Any, *, record: Mapping[str, Any] | None = None) -> None:
    """Writes a pytree of arrays into a new folder, which is there when all of it is on the disk.

    Args:
      path: the folder; its parent exists, it does not.
      state: arrays of JAX or NumPy, of any dtype and shape, random keys, and Python's numbers.
      record: what else to remember, as JSON can say it; `read_record` gives it back.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/a", {"w": jnp.arange(3), "b": 0.5})
    ...     restore(f"{folder}/a", {"w": jnp.zeros(3, int), "b": 0.0})
    {'b': 0.5, 'w': Array([0, 1, 2], dtype=int32)}

    Raises:
      TypeError: a leaf is no array of numbers.
      FileExistsError: the folder is there already.
      OSError: it can't be written. Nothing of it is left, and nothing else was touched.
    """
    path = Path(path)
    leaves = _as_arrays(state)
    if path.exists():
        raise FileExistsError(f"{path}: expected a folder that is not there yet; it is.")
    try:
        temporary = Path(tempfile.mkdtemp(prefix=temporary_prefix(path.name), dir=path.parent))
        try:
            _write(temporary, leaves, {} if record is None else record)
            os.rename(temporary, path)
            sync(path.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    except (OSError, ValueError, RuntimeError) as error:  # Orbax's writer says ValueError
        raise OSError(
            f"{path}: expected to save a checkpoint there; got: {_reason(error)}. "
            "Earlier checkpoints are whole."
        ) from error


def restore(path: PathLike, like: Any) -> Any:
    """The pytree that `save` wrote, bit for bit.

    Args:
      path: the folder.
      like: a pytree of the same paths, shapes and dtypes: arrays, `jax.eval_shape`'s, or numbers.
        A leaf comes back as what it is there: an array of NumPy, a number, else an array of JAX.

    Raises:
      FileNotFoundError: there is no such folder, or it lacks a file.
      ValueError: a file is damaged, the version is another, or the state is of another form; the
        message names the file or the leaf.
    """
    path = Path(path)
    _ = verify(path)
    stored = {leaf.pop("path"): leaf for leaf in json.loads((path / LEAVES).read_bytes())}
    wanted = _named(like)
    for name in [*wanted, *(name for name in stored if name not in wanted)]:
        expected = _form(wanted[name]) if name in wanted else None
        if expected != stored.get(name):
            raise ValueError(
                f"{path}: expected the leaf {name or 'of the state'} to be {_words(expected)}; "
                f"got {_words(stored.get(name))}. Is it of another model or optimiser?"
            )
    arrays = _read_arrays(path, [i for i, form in enumerate(stored.values()) if _holds(form)])
    order = {name: str(i) for i, name in enumerate(stored)}
    leaves = [
        _as_leaf(arrays.get(order[name], _without_elements(leaf)), leaf)
        for name, leaf in wanted.items()
    ]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def read_record(path: PathLike) -> dict[str, Any]:
    """What `save` was told to remember, after a look at every file.

    Raises:
      FileNotFoundError, ValueError: as `restore`.
    """
    return verify(path)["record"]


def verify(path: PathLike) -> dict[str, Any]:
    """Compares every file with the manifest; what that says.

    Raises:
      FileNotFoundError, ValueError: as `restore`.
    """
    path = Path(path)
    manifest = _read_manifest(path / MANIFEST)
    for name, (size, digest) in manifest["files"].items():
        content = _read(path / name)
        if len(content) != size:
            raise ValueError(
                f"{path / name}: expected {size:,} bytes; got {len(content):,}. It is damaged."
            )
        if _sha256(content) != digest:
            raise ValueError(f"{path / name}: expected other bytes than these. It is damaged.")
    return manifest


def temporary_prefix(name: str) -> str:
    """How the folders begin in which a checkpoint of this name is made."""
    return f".{name}."


def _write(folder: Path, leaves: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    """Everything, the manifest last, each file on the disk."""
    import orbax.checkpoint as ocp

    arrays = {str(i): a for i, a in enumerate(map(_data, leaves.values())) if a.size}
    forms = [{"path": name, **_form(leaf)} for name, leaf in leaves.items()]
    _ = (folder / LEAVES).write_bytes(json.dumps(forms).encode())
    if arrays:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            checkpointer.save((folder / ARRAYS).absolute(), arrays)
    files = {str(file.relative_to(folder)): _entry(file) for file in sorted(_files(folder))}
    manifest = json.dumps({"version": VERSION, "record": record, "files": files}).encode() + b"\n"
    _ = (folder / MANIFEST).write_bytes(manifest + _sha256(manifest).encode() + b"\n")
    for part in [*folder.rglob("*"), folder]:
        sync(part)


def _read_arrays(path: Path, indices: Sequence[int]) -> dict[str, np.ndarray]:
    """The arrays that Orbax holds, by their index among the leaves."""
    import orbax.checkpoint as ocp

    if not indices:
        return {}
    as_numpy = {str(i): ocp.RestoreArgs(restore_type=np.ndarray) for i in indices}
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        return checkpointer.restore((path / ARRAYS).absolute(), restore_args=as_numpy)


def _holds(form: Mapping[str, Any]) -> bool:
    """Whether a leaf has elements: Orbax keeps none that has not."""
    return 0 not in form["shape"]


def _without_elements(like: Any) -> np.ndarray:
    if not _is_key(like):
        like = np.asarray(like) if not isinstance(like, jax.ShapeDtypeStruct) else like
        return np.empty(like.shape, like.dtype)
    data = jax.eval_shape(jax.random.key_data, like)
    return np.empty(data.shape, data.dtype)


def _as_arrays(state: Any) -> dict[str, Any]:
    leaves = _named(state)
    for name, leaf in leaves.items():
        if not _is_key(leaf) and np.asarray(leaf).dtype.kind in "OSUMm":
            raise TypeError(
                f"{name or 'state'}: expected an array of numbers; got {type(leaf).__name__}."
            )
    return leaves


def _named(tree: Any) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct) and jnp.issubdtype(
        leaf.dtype, jax.dtypes.prng_key
    )


def _data(leaf: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _form(leaf: Any) -> dict[str, Any]:
    """A leaf's dtype and shape: of a random key, `key<fry>` and how many."""
    if not isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
        leaf = np.asarray(leaf)
    return {"dtype": str(leaf.dtype), "shape": list(leaf.shape)}


def _words(form: Mapping[str, Any] | None) -> str:
    return "nothing" if form is None else f"{form['dtype']}{form['shape']}"


def _as_leaf(data: np.ndarray, like: Any) -> Any:
    """The data as what `like` is."""
    if _is_key(like):
        return jax.random.wrap_key_data(jnp.asarray(data), impl=_implementation(like))
    if isinstance(like, np.ndarray):
        return data
    if isinstance(like, np.generic):
        return data[()]
    if isinstance(like, bool | int | float | complex):
        return data.item()
    return jnp.asarray(data)


def _implementation(key: Any) -> str:
    return str(jax.random.key_impl(key))


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in folder.rglob("*") if file.is_file())


def _entry(file: Path) -> tuple[int, str]:
    content = file.read_bytes()
    return len(content), _sha256(content)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise FileNotFoundError(
            f"{file}: expected a file of a checkpoint; got: {error.strerror}."
        ) from error


def _read_manifest(file: Path) -> dict[str, Any]:
    content, _, digest = _read(file).removesuffix(b"\n").rpartition(b"\n")
    content += b"\n"
    if digest != _sha256(content).encode():
        raise ValueError(f"{file}: expected its last line to be its SHA-256. It is damaged.")
    manifest = json.loads(content)
    if manifest["version"] != VERSION:
        raise ValueError(
            f"{file}: expected a checkpoint of version {VERSION}; got {manifest['version']}. "
            "Use the funcnet that wrote it."
        )
    return manifest


def _reason(error: Exception) -> str:
    """What the system said, in one line, without the addresses that Orbax puts around it."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    for word in ("No space left on device", "Permission denied", "File too large"):
        if word in str(error):
            return word
    return str(error).splitlines()[0] if str(error) else type(error).__name__
