"""A pytree in one file: what a training goes on from after it was stopped.

    save(path, tree, record={"epochs": 3})
    tree = restore(path, like)

The file is in the safetensors format: it holds numbers and names, and reading it runs no code.
Its one metadata entry is a SHA-256 of the whole file, followed by a JSON text: the version of this
layout, the caller's record, and the dtype and shape of each leaf. So a flipped bit, or a file that
was cut short, is found before anything is believed.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._files import sync, write_whole
from funcnet.base import PathLike, UsageError

VERSION = 2
"""The version of the layout; a file of a different version is refused."""

KEY = "funcnet"
"""The name of the metadata entry."""

DIGITS = 64
"""How many hexadecimal digits a SHA-256 has."""

HEAD = re.compile(rb'.{8}\{"__metadata__":\{"%s":"' % KEY.encode(), re.DOTALL)
"""The bytes of a file in front of its SHA-256."""

PLAIN = frozenset(
    ["bool", "float16", "float32", "float64", "complex64"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
"""The dtypes that every reader of safetensors knows; an array of a different one lies as bytes."""


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
    for name, leaf in leaves.items():
        if not _is_key(leaf) and np.asarray(leaf).dtype.kind in "OSUMm":
            raise UsageError(
                f"{name or 'tree'}: expected an array of numbers; got {type(leaf).__name__}."
            )
    forms = {name: _form(leaf) for name, leaf in leaves.items()}
    head = json.dumps({"version": VERSION, "record": record or {}, "leaves": forms})
    arrays = {name: _as_plain(leaf) for name, leaf in leaves.items()}
    content = as_safetensors(arrays, metadata={KEY: "0" * DIGITS + head})
    start = _start_of_digest(content)
    sealed = content[:start] + _digest(content, start) + content[start + DIGITS :]
    try:
        write_whole(path, sealed)
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
    stored, wanted = head["leaves"], _by_path(like)
    for name in [*wanted, *(name for name in stored if name not in wanted)]:
        expected = _form(wanted[name]) if name in wanted else None
        if expected != stored.get(name):
            raise UsageError(
                f"{path}: expected the leaf {name or 'of the tree'} to be {_words(expected)}; "
                f"got {_words(stored.get(name))}. Is it of a different model or optimiser?"
            )
    data = {name: spec["data"] for name, spec in deserialize(content)}
    leaves = [_as_leaf(data[name], leaf) for name, leaf in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def read_record(path: PathLike) -> dict[str, Any]:
    """Return the record that `save` was given, after a look at every byte of the file.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: the file is damaged, or has a different version.
    """
    return _read(Path(path))[1]["record"]


def verify(path: PathLike) -> None:
    """Look at every byte of a checkpoint.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: the file is damaged, or has a different version.
    """
    _ = _read(Path(path))


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
    start = _start_of_digest(content)
    if not start or content[start : start + DIGITS] != _digest(content, start):
        raise UsageError(
            f"{path}: expected a checkpoint with the bytes that were written; got different ones. "
            "It is damaged."
        )
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    head = json.loads(header["__metadata__"][KEY][DIGITS:])
    if head["version"] != VERSION:
        raise UsageError(
            f"{path}: expected a checkpoint of version {VERSION}; got {head['version']}. "
            "Use the funcnet that wrote it."
        )
    return content, head


def _start_of_digest(content: bytes) -> int:
    """Return where the SHA-256 of a file begins; 0 where the file has none."""
    head = HEAD.match(content)
    return head.end() if head else 0


def _digest(content: bytes, start: int) -> bytes:
    """Return the SHA-256 of all bytes but its own."""
    digest = hashlib.sha256(content[:start])
    digest.update(memoryview(content)[start + DIGITS :])
    return digest.hexdigest().encode()


def _by_path(tree: Any) -> dict[str, Any]:
    """Return the leaves by their paths, which differ for `{"a": {"b": 1}}` and `{"a.b": 1}`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _is_key(leaf: Any) -> bool:
    is_array = isinstance(leaf, jax.Array | jax.ShapeDtypeStruct)
    return is_array and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _as_plain(leaf: Any) -> np.ndarray:
    """Return an array that safetensors can write; one of an unusual dtype as its bytes."""
    array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf, order="C")
    is_plain = array.dtype.name in PLAIN and array.dtype.isnative
    return array if is_plain else np.frombuffer(array.tobytes(), np.uint8)


def _form(leaf: Any) -> list[Any]:
    """Return a leaf's dtype and shape; the dtype of a random key is `key<fry>`."""
    if not isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
        leaf = np.asarray(leaf)
    return [str(leaf.dtype), list(leaf.shape)]


def _words(form: list[Any] | None) -> str:
    return "nothing" if form is None else f"{form[0]}{form[1]}"


def _as_leaf(data: bytearray, like: Any) -> Any:
    """Return the data as the kind of leaf that `like` is."""
    if _is_key(like):
        form = jax.eval_shape(jax.random.key_data, like)
        bits = np.frombuffer(data, form.dtype).reshape(form.shape)
        return jax.random.wrap_key_data(jnp.asarray(bits), impl=str(jax.random.key_impl(like)))
    form = like if isinstance(like, jax.Array | jax.ShapeDtypeStruct) else np.asarray(like)
    array = np.frombuffer(data, form.dtype).reshape(form.shape)
    if isinstance(like, np.ndarray):
        return array
    if isinstance(like, np.generic):
        return array[()]
    return array.item() if isinstance(like, bool | int | float | complex) else jnp.asarray(array)
