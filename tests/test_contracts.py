"""One table, one contract: what holds for every model, activation and loss alike."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcnet import UsageError, activations, losses, models
from funcnet.activations import ACTIVATIONS
from funcnet.losses import LOSSES

FEATURES, CLASSES = 6, 3
MODELS = {
    "linear": models.linear(FEATURES, CLASSES),
    "logistic_regression": models.logistic_regression(FEATURES),
    "softmax_regression": models.softmax_regression(FEATURES, CLASSES),
    **{
        f"mlp-{name}": models.mlp([FEATURES, 5, 4, CLASSES], activation=name)
        for name in ACTIVATIONS
    },
}
FUNCTIONS = {**ACTIVATIONS, "softmax": activations.softmax, "log_softmax": activations.log_softmax}


def normal(shape, *, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def logits_of(name, batch=()):
    return (*batch,) if name == "logistic_regression" else (*batch, CLASSES)


@pytest.mark.parametrize("name", MODELS)
class TestModels:
    @pytest.mark.parametrize("batch", [(), (1,), (7,), (2, 3)])
    def test_any_leading_axes_are_the_batch(self, name, batch):
        model = MODELS[name]
        logits = model.apply(model.init(jax.random.key(0)), normal([*batch, FEATURES]))
        chex.assert_shape(logits, logits_of(name, batch))

    def test_a_batch_is_its_examples(self, name):
        model = MODELS[name]
        params, x = model.init(jax.random.key(0)), normal([7, FEATURES])
        one_by_one = jnp.stack([model.apply(params, example) for example in x])
        mapped = jax.vmap(model.apply, in_axes=(None, 0))(params, x)
        chex.assert_trees_all_close(model.apply(params, x), one_by_one, mapped, atol=1e-6)

    def test_jit_changes_nothing(self, name):
        model = MODELS[name]
        params, x = model.init(jax.random.key(0)), normal([7, FEATURES])
        chex.assert_trees_all_close(
            jax.jit(model.apply)(params, x), model.apply(params, x), atol=1e-6
        )

    def test_the_key_alone_decides_the_parameters(self, name):
        model = MODELS[name]
        first, again = (model.init(jax.random.key(1)) for _ in range(2))
        other = model.init(jax.random.key(2))
        chex.assert_trees_all_equal(first, again)
        assert not np.array_equal(jax.tree.leaves(first)[0], jax.tree.leaves(other)[0])

    def test_intensities_are_scaled(self, name):
        model = MODELS[name]
        params = model.init(jax.random.key(0))
        x = np.arange(FEATURES, dtype=np.uint8) * 50
        chex.assert_trees_all_close(
            model.apply(params, x), model.apply(params, x.astype(np.float32) / 255), atol=1e-6
        )

    def test_dtype_follows_the_parameters(self, name, float64):
        model = MODELS[name]
        params = jax.tree.map(jnp.float64, model.init(jax.random.key(0)))
        assert model.apply(params, normal([FEATURES]).astype(np.float64)).dtype == jnp.float64
        assert model.apply(params, np.zeros(FEATURES, np.uint8)).dtype == jnp.float64

    def test_another_number_of_features_is_refused(self, name):
        model = MODELS[name]
        with pytest.raises(UsageError, match=rf"expected {FEATURES} features.*\(2, 9\).*reshape"):
            model.apply(model.init(jax.random.key(0)), normal([2, 9]))


@pytest.mark.parametrize("name", FUNCTIONS)
class TestActivations:
    def test_a_batch_is_its_examples(self, name):
        x = normal([5, 2, 4])
        chex.assert_trees_all_close(
            FUNCTIONS[name](x),
            jax.vmap(FUNCTIONS[name])(x),
            jnp.stack([FUNCTIONS[name](example) for example in x]),
            atol=1e-6,
        )

    def test_jit_changes_nothing(self, name):
        x = normal([2, 4])
        chex.assert_trees_all_close(jax.jit(FUNCTIONS[name])(x), FUNCTIONS[name](x), atol=1e-6)

    def test_forward_and_reverse_mode_agree(self, name, float64):
        x, tangent = normal([2, 4]).astype(float), normal([2, 4], seed=1).astype(float)
        value, out_tangent = jax.jvp(FUNCTIONS[name], [x], [tangent])
        cotangent = normal(value.shape, seed=2).astype(float)
        (in_cotangent,) = jax.vjp(FUNCTIONS[name], x)[1](cotangent)
        np.testing.assert_allclose(
            (out_tangent * cotangent).sum(), (in_cotangent * tangent).sum(), rtol=1e-12
        )


@pytest.mark.parametrize("name", LOSSES)
class TestLosses:
    def arguments(self, name, batch):
        rng = np.random.default_rng(0)
        if name.startswith("softmax"):
            return normal([*batch, CLASSES]), rng.integers(CLASSES, size=batch).astype(np.int32)
        if name == "squared_error":
            return normal(batch), normal(batch, seed=1)
        return normal(batch), rng.integers(2, size=batch).astype(np.int32)

    @pytest.mark.parametrize("batch", [(), (1,), (7,), (2, 3)])
    def test_one_value_an_example(self, name, batch):
        value = LOSSES[name](*self.arguments(name, batch))
        chex.assert_shape(value, batch)
        assert value.dtype == jnp.float32
        assert (value >= 0).all()

    def test_a_batch_is_its_examples(self, name):
        z, y = self.arguments(name, (7,))
        chex.assert_trees_all_close(
            LOSSES[name](z, y),
            jax.vmap(LOSSES[name])(z, y),
            jnp.stack([LOSSES[name](z[i], y[i]) for i in range(7)]),
            jax.jit(LOSSES[name])(z, y),
            atol=1e-6,
        )


def test_the_tables_hold_what_the_modules_define():
    assert set(LOSSES) == {n for n, f in vars(losses).items() if _defined_in(f, losses)}
    assert set(FUNCTIONS) == {
        n for n, f in vars(activations).items() if _defined_in(f, activations)
    }


def _defined_in(thing, module):
    public = not getattr(thing, "__name__", "_").startswith("_")
    return callable(thing) and public and thing.__module__ == module.__name__
