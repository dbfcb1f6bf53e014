"""An evaluation against NumPy, over every example."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from small import LOSS, MODEL, examples

import funcnet as fn
from funcnet import losses, models
from funcnet.training import Evaluation, evaluate


@settings(max_examples=6)  # each compiles
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


def test_sums_are_divided_once():
    result = Evaluation(loss_sum=jnp.array(6.0), correct=jnp.array(3), examples=jnp.array(4))
    assert (result.loss, result.accuracy) == (1.5, 0.75)
