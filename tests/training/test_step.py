"""A train step against PyTorch and against its gradient by hand."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import LOSS, MODEL, OPTIMIZERS, examples, first_state

from funcnet import models
from funcnet.training import (
    make_gradient_step,
    make_train_step,
)


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


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.polyak_sgd(max_learning_rate=0.1),
        optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau()),
        optax.lbfgs(),
    ],
    ids=["polyak", "plateau", "lbfgs"],
)
def test_optimisers_that_ask_for_more_than_the_gradient(optimizer):
    """The value of the loss, and the loss as a function for a line search."""
    model, data = models.softmax_regression(5, 3), examples(20)
    step = make_train_step(model.apply, LOSS, optimizer)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        state, first = step(first_state(optimizer, model), data)
        for _ in range(3):
            state, info = step(state, data)
    assert info.loss < first.loss
