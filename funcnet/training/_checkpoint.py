"""A pytree in one file: what a training goes on from after it was stopped.

The file is in the safetensors format: reading it runs no code.
Its one metadata entry is a SHA-256 of all other bytes, by which damage is found, followed by a JSON
text: the version of this layout, the caller's record, and the dtype and shape of each leaf.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._files import sync, write_whole
from funcnet.base import PathLike, UsageError

VERSION = 2  # of the layout; a file of a different version is refused
KEY = "funcnet"  # the name of the metadata entry
START = 8 + len(f'{{"__metadata__":{{"{KEY}":"')  # where the SHA-256 begins in a file, in bytes
END = START + 64  # where its hexadecimal digits end


def save(path: PathLike, tree: Any, *, record: Mapping[str, Any] | None = None) -> None:
    """Write a pytree of arrays into a file, in place of what was there.

    Args:
      path: the file; its folder exists.
      tree: arrays of JAX or NumPy, of any dtype and shape, random keys, and Python numbers.
      record: anything else to remember that JSON can say; `read_record` returns it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/a", {"w": jnp.arange(3), "b": 0.5})
    ...     restore(f"{folder}/a", {"w": jnp.zeros(3, int), "b": 0.0})
    {'b': 0.5, 'w': Array([0, 1, 2], dtype=int32)}

    Raises:
      UsageError: a leaf is not an array of numbers.
      OSError: the file cannot be written; what was there before is whole.
    """
    from safetensors.numpy import save as as_safetensors

    path, leaves = Path(path), _by_path(tree)
    arrays = {name: _as_plain(name, leaf) for name, leaf in leaves.items()}
    forms = {name: _form(leaf) for name, leaf in leaves.items()}
    head = json.dumps({"version": VERSION, "record": record or {}, "leaves": forms})
    content = as_safetensors(arrays, metadata={KEY: "0" * (END - START) + head})
    try:
        write_whole(path, content[:START] + _digest(content) + content[END:])
        sync(path.parent)
    except OSError as error:
        raise OSError(
            f"{path}: expected to save a checkpoint there; got: {error.strerror or error}. "
            "Earlier checkpoints are whole."
        ) from error


def restore(path: PathLike, like: Any) -> Any:
    """Return the pytree that `save` wrote, bit for bit.

    Args:
      path: the file.
      like: a pytree of the same paths, shapes and dtypes: arrays, `jax.eval_shape`'s, or numbers.
        A leaf comes back as the kind that it has here: an array of NumPy, a number, or else an
        array of JAX.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: the file is damaged, has a different version, or holds a tree of a different form;
        the message names the leaf.
    """
    from safetensors import deserialize

    content, head = _read(Path(path))
    leaves, stored = _by_path(like), head["leaves"]
    expected = {name: _form(leaf) for name, leaf in leaves.items()}
    for name in expected | stored:
        wanted, got = (forms.get(name, "nothing") for forms in (expected, stored))
        if wanted != got:
            raise UsageError(
                f"{path}: expected the leaf {name or 'of the tree'} to be {wanted}; got {got}. "
                "Is it of a different model or optimiser?"
            )
    data = {name: spec["data"] for name, spec in deserialize(content)}
    restored = [_as_leaf(data[name], leaf) for name, leaf in leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(like), restored)


def read_record(path: PathLike) -> dict[str, Any]:
    """Return the record that `save` was given, after a look at every byte of the file.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: the file is damaged, or has a different version.
    """
    return _read(Path(path))[1]["record"]


def _read(path: Path) -> tuple[bytes, dict[str, Any]]:
    """Return the content of a whole file, and the JSON text in it."""
    if path.is_dir():
        raise UsageError(
            f"{path}: expected a file; got a folder, which is how an earlier funcnet kept a "
            "checkpoint. Use the funcnet that wrote it, or begin anew."
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FileNotFoundError(f"{path}: expected a checkpoint; got: {error.strerror}.") from error
    if content[START:END] != _digest(content):
        raise UsageError(
            f"{path}: expected a checkpoint with the bytes that were written; got different ones. "
            "It is damaged."
        )
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    head = json.loads(header["__metadata__"][KEY][END - START :])
    if head["version"] != VERSION:
        raise UsageError(
            f"{path}: expected a checkpoint of version {VERSION}; got {head['version']}. "
            "Use the funcnet that wrote it."
        )
    return content, head


def _digest(content: bytes) -> bytes:
    """Return the SHA-256 of all bytes but its own."""
    digest = hashlib.sha256(content[:START])
    digest.update(memoryview(content)[END:])
    return digest.hexdigest().encode()


def _by_path(tree: Any) -> dict[str, Any]:
    """Return the leaves by their paths, which differ for `{"a": {"b": 1}}` and `{"a.b": 1}`."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def _as_array(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct) else np.asarray(leaf)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(_as_array(leaf).dtype, jax.dtypes.prng_key)


def _form(leaf: Any) -> str:
    """Return the dtype and shape of a leaf, as `float32[2, 3]`; a random key's is `key<fry>[]`."""
    array = _as_array(leaf)
    return f"{array.dtype}{list(array.shape)}"


def _as_plain(name: str, leaf: Any) -> np.ndarray:
    """Return an array of a dtype that every reader of safetensors knows; of others the bytes."""
    array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf, order="C")
    dtype = array.dtype
    if dtype.kind in "OSUMm":
        raise UsageError(
            f"{name or 'tree'}: expected an array of numbers; got {type(leaf).__name__}."
        )
    is_plain = dtype.kind in "biuf" and dtype.itemsize <= 8 and dtype.isnative
    return array if is_plain else np.frombuffer(array.tobytes(), np.uint8)


def _as_leaf(data: bytearray, like: Any) -> Any:
    """Return the data as the kind of leaf that `like` is."""
    if _is_key(like):
        key_data = _as_leaf(data, jax.eval_shape(jax.random.key_data, like))
        return jax.random.wrap_key_data(key_data, impl=str(jax.random.key_impl(like)))
    form = _as_array(like)
    array = np.frombuffer(data, form.dtype).reshape(form.shape)
    if isinstance(like, np.ndarray):
        return array
    if isinstance(like, np.generic):
        return array[()]
    return array.item() if isinstance(like, int | float | complex) else jnp.asarray(array)
