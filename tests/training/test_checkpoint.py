"""A checkpoint gives back every bit, or says clearly why it can't."""

import itertools
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
import safetensors.numpy
from hypothesis import given, settings

import funcnet as fn
from funcnet.training import _checkpoint as checkpoint
from funcnet.training import init_state

DTYPES = [
    np.float32, np.float64, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, np.int8,
    np.int32, np.int64, np.uint8, np.uint32, np.bool_, np.complex64, np.complex128, ">f4",
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
    with pytest.raises(fn.UsageError, match=message):
        checkpoint.restore(tmp_path / "a", like())


def test_another_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "VERSION", 7)
    checkpoint.save(tmp_path / "a", jnp.zeros(2))
    monkeypatch.undo()
    with pytest.raises(fn.UsageError, match=r"expected a checkpoint of version 2; got 7"):
        checkpoint.restore(tmp_path / "a", jnp.zeros(2))


def test_a_folder_of_the_old_layout_is_refused(tmp_path):
    (tmp_path / "45").mkdir()
    (tmp_path / "45" / "manifest.json").write_text("{}")
    with pytest.raises(fn.UsageError, match="got a folder, which is how an earlier funcnet kept"):
        checkpoint.restore(tmp_path / "45", jnp.zeros(2))
    with pytest.raises(OSError, match="expected to save a checkpoint there; got: Is a directory"):
        checkpoint.save(tmp_path / "45", jnp.zeros(2))
    assert [path.name for path in tmp_path.rglob("*")] == ["45", "manifest.json"]


def test_what_is_there_is_replaced(tmp_path):
    checkpoint.save(tmp_path / "a", jnp.ones(3))
    checkpoint.save(tmp_path / "a", jnp.zeros(2))
    np.testing.assert_array_equal(checkpoint.restore(tmp_path / "a", jnp.ones(2)), jnp.zeros(2))


def test_what_is_no_array_is_refused(tmp_path):
    with pytest.raises(fn.UsageError, match=r"\['a'\]: expected an array of numbers; got str"):
        checkpoint.save(tmp_path / "a", {"a": "text"})
    with pytest.raises(fn.UsageError, match="got object"):
        checkpoint.save(tmp_path / "a", {"a": object()})
    assert not list(tmp_path.iterdir())


def test_nothing_to_restore(tmp_path):
    with pytest.raises(FileNotFoundError, match="a: expected a checkpoint; got: No such"):
        checkpoint.restore(tmp_path / "a", jnp.zeros(2))


def test_the_file_is_a_safetensors_file_that_other_readers_take(tmp_path):
    state = {"w": np.arange(3.0), "half": jnp.ones(2, jnp.bfloat16)}
    checkpoint.save(tmp_path / "a", state)
    arrays = safetensors.numpy.load_file(tmp_path / "a")
    np.testing.assert_array_equal(arrays["['w']"], state["w"])
    assert arrays["['half']"].tobytes() == np.asarray(state["half"]).tobytes()


def test_the_same_tree_gives_the_same_bytes(tmp_path):
    for name in "ab":
        checkpoint.save(tmp_path / name, a_state(optax.adam(0.1)), record={"epochs": 3})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_file_of_a_different_kind_is_no_checkpoint(tmp_path):
    safetensors.numpy.save_file({"w": np.zeros(2)}, tmp_path / "params")
    (tmp_path / "empty").write_bytes(b"")
    for name in ("params", "empty"):
        with pytest.raises(fn.UsageError, match=f"{name}: expected a checkpoint with the bytes"):
            checkpoint.read_record(tmp_path / name)


def test_every_flip_in_the_head_and_200_flips_and_cuts_are_all_found(tmp_path):
    """Each byte of the header in turn; then bits and ends drawn over the whole file."""
    file, state = tmp_path / "a", a_state(optax.adam(0.1))
    checkpoint.save(file, state, record={"text": "é", "loss": 0.1})
    whole, rng = file.read_bytes(), np.random.default_rng(0)
    header = 8 + int.from_bytes(whole[:8], "little")
    flips = [*range(header), *rng.integers(len(whole), size=100)]
    damaged = [
        whole[:at] + bytes([whole[at] ^ 1 << int(rng.integers(8))]) + whole[at + 1 :]
        for at in flips
    ]
    cuts = [0, 7, header, len(whole) - 1, *rng.integers(len(whole), size=96)]
    damaged += [whole[:at] for at in cuts] + [whole + b"\0"]
    for content in damaged:
        file.write_bytes(content)
        with pytest.raises(fn.UsageError, match=r"damaged") as error:
            checkpoint.read_record(file)
        assert str(file) in str(error.value)
    assert len(damaged) == header + 201
    with pytest.raises(fn.UsageError, match="damaged"):
        checkpoint.restore(file, state)
    with pytest.raises(fn.UsageError, match="damaged"):
        checkpoint.read_record(file)
    file.write_bytes(whole)
    assert bits(checkpoint.restore(file, state)) == bits(state)


CALLS = ["os.fsync", "os.replace", "os.open", "pathlib.Path.write_bytes"]


def owner_of(name):
    module, _, function = name.rpartition(".")
    return pathlib.Path if module == "pathlib.Path" else sys.modules[module], function


def calls_of_a_save(name, folder):
    """How many times saving calls a function of the system."""
    counted = []
    owner, function = owner_of(name)
    original = getattr(owner, function)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, function, lambda *a, **k: counted.append(a) or original(*a, **k))
        checkpoint.save(folder / "counted", jnp.zeros(2))
    return len(counted)


@pytest.mark.parametrize("name", CALLS)
def test_a_write_that_fails_leaves_what_was_there(name, tmp_path):
    """Every call in turn, the first to the last, finds the disk full; `new` is there, or is not."""
    count, (owner, function) = calls_of_a_save(name, tmp_path), owner_of(name)
    original = getattr(owner, function)
    assert count > 0
    for failing, there in itertools.product(range(count), [(), ("new",)]):
        for path in there:
            checkpoint.save(tmp_path / path, jnp.ones(2))
        calls = iter(range(count))

        def fail(*args, calls=calls, failing=failing, **options):
            if next(calls, None) == failing:
                raise OSError(28, "No space left on device")
            return original(*args, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, function, fail)
            with pytest.raises(OSError, match=r"new: expected to save.*got: No space left on dev"):
                checkpoint.save(tmp_path / "new", jnp.zeros(2))
        left = {path.name for path in tmp_path.iterdir()} - {"counted"}
        if left > {*there}:  # only the parent's list of names did not reach the disk
            assert failing == count - 1
        assert left in ({*there}, {"new"})
        for path in left:  # the old one or the new one, whole
            assert checkpoint.restore(tmp_path / path, jnp.zeros(2)).tolist() in ([0, 0], [1, 1])
            (tmp_path / path).unlink()


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
