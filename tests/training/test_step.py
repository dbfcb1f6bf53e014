"""The step, the epoch and the evaluation against a Python loop, NumPy and PyTorch."""

import chex
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings

import funcnet as fn
from funcnet import Examples, losses, models
from funcnet.training import (
    Evaluation,
    epoch_order,
    evaluate,
    init_state,
    is_correct,
    make_gradient_step,
    make_train_epoch,
    make_train_step,
    shuffled,
)

MODEL = models.mlp([5, 4, 3])
LOSS = losses.softmax_cross_entropy


def loosely(optimizer):
    """optax's Adam raises a float to an integer power, which strict promotion refuses."""

    def update(*args):
        with jax.numpy_dtype_promotion("standard"):
            return optimizer.update(*args)

    return optax.GradientTransformation(optimizer.init, update)


OPTIMIZERS = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.1, momentum=0.9),
    "adam": loosely(optax.adam(0.01)),
}


def examples(count, *, seed=0):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(count, 5)).astype(np.float32)
    return Examples(inputs=inputs, targets=rng.integers(3, size=count).astype(np.int32))


def first_state(optimizer, model=MODEL):
    return init_state(model.init(jax.random.key(0)), optimizer)


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


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_those_of_pytorch(name):
    torch = pytest.importorskip("torch", reason="PyTorch is in the extra [peers]")
    model, data = models.softmax_regression(5, 3), examples(8)
    state = first_state(OPTIMIZERS[name], model)
    linear = torch.nn.Linear(5, 3)
    linear.load_state_dict(
        {k: torch.tensor(np.array(v)) for k, v in state.params._asdict().items()}
    )
    peer = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
        "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    }[name](linear.parameters())
    step = make_train_step(model.apply, LOSS, OPTIMIZERS[name])
    for _ in range(10):
        state, info = step(state, data)
        peer.zero_grad()
        logits = linear(torch.tensor(data.inputs))
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(data.targets).long())
        loss.backward()
        peer.step()
        np.testing.assert_allclose(info.loss, loss.item(), rtol=1e-5)
    np.testing.assert_allclose(state.params.weight, linear.weight.detach(), rtol=1e-4, atol=1e-6)


def test_ten_steps_trace_once():
    chex.clear_trace_counter()
    apply = chex.assert_max_traces(MODEL.apply, n=1)
    step, state = make_train_step(apply, LOSS, optax.sgd(0.1)), first_state(optax.sgd(0.1))
    for seed in range(10):
        state, _ = step(state, examples(6, seed=seed))
    assert state.step == 10


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


def test_a_gradient_from_elsewhere_gives_the_same_step():
    def value_and_gradient(params, inputs, targets):
        z = inputs @ params.weight.T + params.bias[None]
        p = jax.nn.softmax(z)
        z_grad = (p - jax.nn.one_hot(targets, 3)) / len(inputs)
        loss = -jnp.log(p[jnp.arange(len(inputs)), targets]).mean()
        return loss, params._replace(weight=z_grad.T @ inputs, bias=z_grad.sum(axis=0))

    model = models.softmax_regression(5, 3)
    sgd, data = optax.sgd(0.1), examples(8)
    by_hand = make_gradient_step(value_and_gradient, sgd)(first_state(sgd, model), data)
    by_jax = make_train_step(model.apply, LOSS, sgd)(first_state(sgd, model), data)
    chex.assert_trees_all_close(by_hand, by_jax, rtol=1e-5, atol=1e-7)


@settings(max_examples=15)
@given(count=st.integers(1, 30), batch_size=st.integers(1, 12))
def test_an_evaluation_counts_every_example(count, batch_size):
    data, params = examples(count), MODEL.init(jax.random.key(0))
    result = evaluate(MODEL.apply, LOSS, params, data, batch_size=batch_size)
    logits = np.asarray(MODEL.apply(params, data.inputs))
    assert result.examples == count
    assert result.correct == (logits.argmax(axis=-1) == data.targets).sum()
    np.testing.assert_allclose(result.loss_sum, LOSS(logits, data.targets).sum(), rtol=1e-5)


def test_an_evaluation_by_the_same_functions_compiles_once():
    """And each of them sees one example at a time."""
    shapes = []

    def apply(params, inputs):
        shapes.append(("apply", inputs.shape))
        return MODEL.apply(params, inputs)

    def loss(logits, label):
        shapes.append(("loss", logits.shape))
        return LOSS(logits, label)

    def compiled(seed, apply=apply):
        params, before = MODEL.init(jax.random.key(seed)), evaluate._cache_size()
        evaluate(apply, loss, params, examples(10, seed=seed), batch_size=4)
        return evaluate._cache_size() - before

    assert [compiled(0), compiled(1), compiled(2)] == [1, 0, 0]
    assert set(shapes) == {("apply", (5,)), ("loss", (3,))}
    assert compiled(0, apply=lambda params, inputs: apply(params, inputs)) == 1


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_of_nothing_is_refused(batch_size):
    state, data = first_state(optax.sgd(0.1)), examples(6)
    train_epoch = make_train_epoch(make_train_step(MODEL.apply, LOSS, optax.sgd(0.1)))
    with pytest.raises(fn.UsageError, match="batch_size: expected a positive integer; got"):
        train_epoch(state, data, batch_size=batch_size)
    with pytest.raises(fn.UsageError, match="batch_size: expected a positive integer; got"):
        evaluate(MODEL.apply, LOSS, state.params, data, batch_size=batch_size)


def test_inputs_without_targets_are_refused():
    data = examples(6)._replace(targets=np.zeros(5, np.int32))
    params = MODEL.init(jax.random.key(0))
    with pytest.raises(fn.UsageError, match=r"examples: .*got 6 inputs and 5 targets"):
        evaluate(MODEL.apply, LOSS, params, data)
    with pytest.raises(fn.UsageError, match=r"examples: .*got 0 inputs and 0 targets"):
        evaluate(MODEL.apply, LOSS, params, examples(0))


def test_a_logistic_evaluation_counts_both_classes():
    model = models.logistic_regression(5)
    params, data = model.init(jax.random.key(0)), examples(40)
    data = data._replace(targets=(data.targets == 1).astype(np.int32))
    result = evaluate(model.apply, losses.binary_cross_entropy, params, data)
    z = np.asarray(model.apply(params, data.inputs))
    assert result.correct == ((z > 0) == data.targets).sum()
    assert 0 < result.correct < 40


def test_is_correct_takes_the_largest_logit():
    logits = jnp.array([[1.0, 2.0, 0.0], [3.0, 2.0, 0.0]])
    chex.assert_trees_all_equal(is_correct(logits, jnp.array([1, 1])), jnp.array([True, False]))


def test_sums_are_divided_once():
    result = Evaluation(loss_sum=jnp.array(6.0), correct=jnp.array(3), examples=jnp.array(4))
    assert (result.loss, result.accuracy) == (1.5, 0.75)
