"""An epoch against a Python loop over its steps; the order of the examples; segments."""

import chex
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from small import LOSS, MODEL, OPTIMIZERS, examples, first_state

import funcnet as fn
from funcnet import Examples
from funcnet.training import (
    epoch_order,
    evaluate,
    init_state,
    make_train_epoch,
    make_train_step,
    shuffled,
)
from funcnet.training._epoch import segment_size


def python_loop(step, state, data, order, batch_size):
    """The oracle of an epoch: one step after another, the last with what is left."""
    step_losses = []
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        state, info = step(state, jax.tree.map(lambda a, i=indices: a[i], data))
        step_losses.append(info.loss)
    return state, jnp.stack(step_losses)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(("count", "batch_size"), [(20, 5), (23, 5), (4, 5), (5, 5), (7, 1)])
def test_an_epoch_is_a_python_loop_over_the_step(name, count, batch_size):
    step = make_train_step(MODEL.apply, LOSS, OPTIMIZERS[name])
    data, order = examples(count), epoch_order(seed=0, epoch=0, num_examples=count)
    looped, loop_losses = python_loop(step, first_state(OPTIMIZERS[name]), data, order, batch_size)
    state, info = make_train_epoch(step)(
        first_state(OPTIMIZERS[name]), shuffled(data, order), batch_size=batch_size
    )
    chex.assert_trees_all_close(state, looped, rtol=1e-6, atol=1e-6)
    chex.assert_trees_all_close(info.loss, loop_losses, rtol=1e-6)
    assert state.step == -(-count // batch_size)


def test_epochs_with_a_ragged_end_compile_once():
    train_epoch = make_train_epoch(make_train_step(MODEL.apply, LOSS, optax.sgd(0.1)))
    state, data = first_state(optax.sgd(0.1)), examples(23)
    for epoch in range(4):
        order = epoch_order(seed=0, epoch=epoch, num_examples=23)
        state, _ = train_epoch(state, shuffled(data, order), batch_size=5)
    assert train_epoch._cache_size() == 1
    assert state.step == 4 * 5


@pytest.mark.parametrize("place", [np.asarray, jnp.asarray], ids=["host", "device"])
def test_shuffled_examples_are_those_of_an_index(place):
    data, order = examples(23), epoch_order(seed=0, epoch=0, num_examples=23)
    ours = shuffled(jax.tree.map(place, data), order)
    chex.assert_trees_all_equal(ours, jax.tree.map(lambda a: a[order], data))
    assert {type(a) for a in ours} == {type(place(0))}


def test_shuffled_examples_are_those_there_are():
    with pytest.raises(
        fn.UsageError, match="order: expected indices of 5 examples; got some from 1 to 5"
    ):
        shuffled(examples(5), np.array([1, 5]))
    with pytest.raises(fn.UsageError, match="one target per input, and some; got 5 inputs and 4"):
        shuffled(examples(5)._replace(targets=np.zeros(4)), np.array([1, 2]))


def test_a_cpu_takes_shuffled_examples_without_copying_them():
    host = shuffled(examples(23), epoch_order(seed=0, epoch=0, num_examples=23))
    for array in host:
        placed = jax.device_put(array, jax.devices("cpu")[0])
        assert placed.unsafe_buffer_pointer() == array.ctypes.data


def test_the_last_batch_is_not_always_the_same_examples():
    last = {tuple(epoch_order(seed=0, epoch=e, num_examples=23)[20:]) for e in range(5)}
    assert len(last) == 5


def test_every_example_is_learnt_from_once_an_epoch():
    """With the loss w·xᵢ and xᵢ = onehot(i), each weight moves by its own example's step."""
    count, batch_size, rate = 11, 4, 1.0
    step = make_train_step(lambda w, x: x @ w, lambda z, y: z, optax.sgd(rate))
    data = Examples(inputs=np.eye(count, dtype=np.float32), targets=np.zeros(count, np.int32))
    order = epoch_order(seed=3, epoch=1, num_examples=count)
    state, _ = make_train_epoch(step)(
        init_state(jnp.zeros(count), optax.sgd(rate)), shuffled(data, order), batch_size=batch_size
    )
    moved = np.zeros(count)
    for start in range(0, count, batch_size):
        batch = order[start : start + batch_size]
        moved[batch] -= rate / len(batch)
    np.testing.assert_allclose(state.params, moved, rtol=1e-6)


@given(seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 1000), count=st.integers(1, 200))
def test_the_order_is_a_permutation_and_a_function_of_its_arguments(seed, epoch, count):
    order = epoch_order(seed=seed, epoch=epoch, num_examples=count)
    assert sorted(order) == list(range(count))
    np.testing.assert_array_equal(order, epoch_order(seed=seed, epoch=epoch, num_examples=count))


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [epoch_order(seed=s, epoch=e, num_examples=50) for s in range(3) for e in range(3)]
    assert len({tuple(order) for order in orders}) == 9


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_of_nothing_is_refused(batch_size):
    state, data = first_state(optax.sgd(0.1)), examples(6)
    train_epoch = make_train_epoch(make_train_step(MODEL.apply, LOSS, optax.sgd(0.1)))
    with pytest.raises(fn.UsageError, match="batch_size: expected a positive integer; got"):
        train_epoch(state, data, batch_size=batch_size)
    with pytest.raises(fn.UsageError, match="batch_size: expected a positive integer; got"):
        evaluate(MODEL.apply, LOSS, state.params, data, batch_size=batch_size)


def test_segments_are_equal_and_cover_the_epoch():
    for params in (10, 10**6, 10**8):
        for count, batch_size in ((60_000, 128), (1437, 32), (7, 7), (10, 3)):
            size = segment_size(num_examples=count, batch_size=batch_size, num_params=params)
            assert size % batch_size == 0
            assert size >= batch_size
