"""A checkpoint gives back every bit, or says clearly why it can't."""

import json
import os
import pathlib
import subprocess
import sys
from typing import NamedTuple

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from hypothesis import given, settings

import funcnet as fn
from funcnet.training import _checkpoint as checkpoint
from funcnet.training._step import init_state

DTYPES = [
    np.float32, np.float64, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, np.int8,
    np.int32, np.int64, np.uint8, np.uint32, np.bool_, np.complex64,
]  # fmt: skip


class Pair(NamedTuple):
    left: object
    right: object


def bits(tree):
    """Each leaf's path, dtype, shape and bytes: the oracle of equality, NaNs and −0.0 included."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [
        (path, str(leaf.dtype), leaf.shape, np.asarray(leaf).tobytes())
        if isinstance(leaf, jax.Array | np.ndarray | np.generic)
        and not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        else (path, repr(leaf))
        for path, leaf in leaves
    ]


def zeros_like(tree):
    return jax.tree.map(lambda leaf: np.zeros_like(leaf), tree)


@st.composite
def arrays(draw):
    """Any bits at all, which include NaNs with a message, denormals and −0.0."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    size = dtype.itemsize * int(np.prod(shape, dtype=int))
    content = draw(st.binary(min_size=size, max_size=size))
    if dtype == np.bool_:
        content = bytes(byte % 2 for byte in content)
    return np.frombuffer(content, dtype).reshape(shape)


names = st.text("ab./'[]é ", min_size=0, max_size=3)
trees = st.recursive(
    arrays(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(names, inner, max_size=3),
        st.builds(Pair, inner, inner),
        st.tuples(inner, st.none()),
    ),
    max_leaves=6,
)


@settings(max_examples=25)
@given(tree=trees)
def test_any_pytree_comes_back_bit_for_bit(tree, tmp_path_factory):
    path = tmp_path_factory.mktemp("any") / "checkpoint"
    checkpoint.save(path, tree)
    restored = checkpoint.restore(path, zeros_like(tree))
    assert jax.tree.structure(restored) == jax.tree.structure(tree)
    assert bits(restored) == bits(tree)
    assert os.listdir(path.parent) == ["checkpoint"]


def a_state(optimizer, sizes=(5, 4, 3)):
    params = fn.models.mlp(sizes).init(jax.random.key(1))
    return init_state(params, optimizer)


@pytest.mark.parametrize("make", [optax.sgd, optax.adam, optax.lion, optax.adagrad])
def test_states_of_optimisers(make, tmp_path):
    optimizer = optax.chain(optax.clip(1.0), make(0.1))
    state = a_state(optimizer)
    checkpoint.save(tmp_path / "a", state)
    like = jax.eval_shape(lambda: a_state(optimizer))
    restored = checkpoint.restore(tmp_path / "a", like)
    assert bits(restored) == bits(state)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(restored))


def test_random_keys_go_on_as_they_would_have(tmp_path):
    keys = {"one": jax.random.key(3), "many": jax.random.split(jax.random.key(4), 2)}
    keys["none"] = keys["many"][:0]
    other = {"rbg": jax.random.key(5, impl="rbg")}
    checkpoint.save(tmp_path / "a", keys | other)
    restored = checkpoint.restore(tmp_path / "a", keys | other)
    for name in keys | other:
        ours, theirs = (jax.random.key_data(tree[name]) for tree in (keys | other, restored))
        np.testing.assert_array_equal(ours, theirs)
        assert restored[name].dtype == (keys | other)[name].dtype


def test_numbers_stay_numbers_and_numpy_stays_numpy(tmp_path):
    state = {"a": 3, "b": 0.1, "c": True, "d": np.float64(1e-300), "e": np.arange(2)}
    checkpoint.save(tmp_path / "a", state)
    restored = checkpoint.restore(tmp_path / "a", state)
    assert {k: type(v) for k, v in restored.items()} == {k: type(v) for k, v in state.items()}
    assert (restored["b"], restored["d"]) == (0.1, 1e-300)


def test_a_record_comes_back(tmp_path):
    record = {"epoch": 3, "loss": [0.1, 1e-300], "text": "é"}
    checkpoint.save(tmp_path / "a", jnp.zeros(2), record=record)
    assert checkpoint.read_record(tmp_path / "a") == record


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (lambda: a_state(optax.sgd(0.1), (5, 4, 2)), r"float32\[2, 4\]; got float32\[3, 4\]"),
        (lambda: a_state(optax.adam(0.1)), r"\.opt_state\[0\]\.count to be int32\[\]; got nothing"),
        (lambda: a_state(optax.sgd(0.1))._replace(step=0.5), r"step to be float64\[\]; got int32"),
        (lambda: a_state(optax.sgd(0.1)).params, r"expected the leaf \[0\]\.weight"),
        (lambda: (), r"\.params\[0\]\.weight to be nothing; got float32\[4, 5\]"),
    ],
)  # fmt: skip
def test_another_model_is_refused(like, message, tmp_path):
    checkpoint.save(tmp_path / "a", a_state(optax.sgd(0.1)))
    with pytest.raises(ValueError, match=message):
        checkpoint.restore(tmp_path / "a", like())


def test_another_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "VERSION", 7)
    checkpoint.save(tmp_path / "a", jnp.zeros(2))
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"expected a checkpoint of version 1; got 7"):
        checkpoint.restore(tmp_path / "a", jnp.zeros(2))


def test_what_is_there_is_not_overwritten(tmp_path):
    checkpoint.save(tmp_path / "a", jnp.ones(2))
    with pytest.raises(FileExistsError, match="expected a folder that is not there yet"):
        checkpoint.save(tmp_path / "a", jnp.zeros(2))
    np.testing.assert_array_equal(checkpoint.restore(tmp_path / "a", jnp.zeros(2)), jnp.ones(2))


def test_what_is_no_array_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"\['a'\]: expected an array of numbers; got str"):
        checkpoint.save(tmp_path / "a", {"a": "text"})
    with pytest.raises(TypeError, match="got object"):
        checkpoint.save(tmp_path / "a", {"a": object()})
    assert not list(tmp_path.iterdir())


def test_nothing_to_restore(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a file of a checkpoint; got: No such"):
        checkpoint.restore(tmp_path / "a", jnp.zeros(2))


def test_no_file_is_a_pickle(tmp_path):
    checkpoint.save(tmp_path / "a", a_state(optax.adam(0.1)))
    for file in filter(pathlib.Path.is_file, (tmp_path / "a").rglob("*")):
        content = file.read_bytes()
        assert not content.startswith(b"\x80")  # pickle's first byte, from protocol 2
        assert file.name != "manifest.json" or json.loads(content.splitlines()[0])


def test_200_flips_and_cuts_are_all_found(tmp_path):
    """At places drawn over all files, each as likely as its size, and in each small file."""
    state = a_state(optax.adam(0.1))
    checkpoint.save(tmp_path / "a", state)
    files = sorted(filter(pathlib.Path.is_file, (tmp_path / "a").rglob("*")))
    sizes = np.array([file.stat().st_size for file in files])
    rng = np.random.default_rng(0)
    places = [*(rng.choice(len(files), p=sizes / sizes.sum()) for _ in range(200 - len(files)))]
    found = 0
    for index in [*range(len(files)), *places]:
        file, size = files[index], sizes[index]
        whole, at = file.read_bytes(), int(rng.integers(size)) if size else 0
        bit = bytes([whole[at] ^ 1 << int(rng.integers(8))]) if size else b"\0"
        damaged = whole[:at] + (bit + whole[at + 1 :] if rng.integers(2) or not size else b"")
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"damaged") as error:
            checkpoint.restore(tmp_path / "a", state)
        assert str(file) in str(error.value)
        file.write_bytes(whole)
        found += 1
    assert found == 200
    assert bits(checkpoint.restore(tmp_path / "a", state)) == bits(state)


@pytest.mark.parametrize("name", ["manifest.json", "leaves.json", "arrays/_METADATA"])
def test_a_missing_file_is_named(name, tmp_path):
    checkpoint.save(tmp_path / "a", jnp.zeros(2))
    (tmp_path / "a" / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        checkpoint.restore(tmp_path / "a", jnp.zeros(2))


CALLS = ["os.fsync", "os.rename", "os.open", "pathlib.Path.write_bytes", "tempfile.mkdtemp"]


def calls_of_a_save(name, folder, monkeypatch):
    """How many times saving calls a function of the system."""
    counted = []
    target = pytest.MonkeyPatch.context()
    with target as patch:
        module, _, function = name.rpartition(".")
        owner = pathlib.Path if module == "pathlib.Path" else sys.modules[module]
        original = getattr(owner, function)
        patch.setattr(owner, function, lambda *a, **k: counted.append(a) or original(*a, **k))
        checkpoint.save(folder / "counted", jnp.zeros(2))
    return owner, function, original, len(counted)


@pytest.mark.parametrize("name", CALLS)
def test_a_write_that_fails_leaves_what_was_there(name, tmp_path, monkeypatch):
    """Every call in turn, the first to the last, finds the disk full."""
    owner, function, original, count = calls_of_a_save(name, tmp_path, monkeypatch)
    checkpoint.save(tmp_path / "old", jnp.ones(2))
    assert count > 0
    for failing in range(count):
        calls = iter(range(count))

        def fail(*args, calls=calls, failing=failing, **options):
            if next(calls, None) == failing:
                raise OSError(28, "No space left on device")
            return original(*args, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, function, fail)
            with pytest.raises(OSError, match=r"new: expected to save.*got: No space left on dev"):
                checkpoint.save(tmp_path / "new", jnp.zeros(2))
        assert sorted(os.listdir(tmp_path)) in (["counted", "old"], ["counted", "new", "old"])
        if (tmp_path / "new").exists():  # only the parent's list of names did not reach the disk
            checkpoint.verify(tmp_path / "new")
            assert failing == count - 1
        checkpoint.verify(tmp_path / "old")


FILL = """
import sys, numpy as np
from funcnet.training import _checkpoint as checkpoint
for step in range(100):
    try:
        checkpoint.save(f"{sys.argv[1]}/{step}", np.random.default_rng(step).normal(size=20_000))
    except OSError as error:
        print(step, error)
        break
"""


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MiB."""
    if sys.platform != "linux" or os.getuid() != 0:
        pytest.skip("only root can mount a disk of 1 MiB")
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_a_disk_that_fills(small_disk):
    ended = subprocess.run(
        [sys.executable, "-c", FILL, small_disk], capture_output=True, text=True, check=True
    )
    step, message = ended.stdout.strip().split(" ", 1)
    assert int(step) >= 2
    assert message.startswith(f"{small_disk / step}: expected to save a checkpoint there; got: ")
    assert "No space left on device" in message
    assert sorted(os.listdir(small_disk), key=int) == [str(i) for i in range(int(step))]
    for whole in range(int(step)):
        restored = checkpoint.restore(small_disk / str(whole), np.zeros(20_000))
        expected = np.random.default_rng(whole).normal(size=20_000)
        np.testing.assert_array_equal(restored, expected)
