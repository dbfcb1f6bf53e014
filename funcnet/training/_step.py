"""A train step: a pure function from a state and a batch to the next state.

No model, data set or device is known here: `apply`, a loss and arrays are arguments.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from funcnet.base import Examples, Params

Apply = Callable[[Params, ArrayLike], Array]
"""`apply(params, inputs) -> logits`."""

Loss = Callable[[ArrayLike, ArrayLike], Array]
"""`loss(logits, targets) -> losses`, one value per example."""


class TrainState(NamedTuple):
    """The state that one step hands to the next; `step` counts the steps."""

    params: Params
    opt_state: optax.OptState
    step: Int[Array, ""]


class StepInfo(NamedTuple):
    """The mean loss of a step's batch, before the update; in a sweep, one value per model.

    An epoch's steps lie along a leading axis.
    """

    loss: Float[Array, "*steps"]


State: TypeAlias = Any
"""A `TrainState`; a sweep's has one more axis, of the models."""

TrainStep = Callable[[State, Examples], tuple[State, StepInfo]]
"""`train_step(state, batch) -> (state, info)`."""


def init_state(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """Return the state before the first step.

    >>> init_state(jnp.zeros(2), optax.sgd(0.1)).step
    Array(0, dtype=int32)
    """
    return TrainState(params=params, opt_state=optimizer.init(params), step=jnp.int32(0))


def mean_loss(apply: Apply, loss: Loss) -> Callable[[Params, ArrayLike, ArrayLike], Array]:
    """Return the cost of m examples (xᵢ, yᵢ): `params, x, y ↦ 1/m Σᵢ loss(apply(params, xᵢ), yᵢ)`.

    >>> from funcnet.losses import squared_error
    >>> cost = mean_loss(lambda w, x: w * x, squared_error)
    >>> cost(jnp.array(2.0), jnp.array([1.0, 2.0]), jnp.array([2.0, 7.0]))
    Array(4.5, dtype=float32)
    """

    def cost(params: Params, inputs: ArrayLike, targets: ArrayLike) -> Array:
        return loss(apply(params, inputs), targets).mean()

    return cost


def make_train_step(apply: Apply, loss: Loss, optimizer: optax.GradientTransformation) -> TrainStep:
    """Return a compiled step of gradient descent on the mean loss of a batch.

    The optimiser is any optax transformation, also one that takes `value`, `grad` and `value_fn`.

    >>> from funcnet import losses, models
    >>> model = models.softmax_regression(num_features=2, num_classes=2)
    >>> sgd = optax.sgd(0.5)
    >>> step = make_train_step(model.apply, losses.softmax_cross_entropy, sgd)
    >>> batch = Examples(inputs=jnp.eye(2), targets=jnp.array([0, 1]))
    >>> state = init_state(model.init(jax.random.key(0)), sgd)
    >>> for _ in range(20):
    ...     state, info = step(state, batch)
    >>> print(f"step {state.step}, loss {info.loss:.2f}")
    step 20, loss 0.10
    """
    return make_gradient_step(jax.value_and_grad(mean_loss(apply, loss)), optimizer)


def make_gradient_step(
    value_and_gradient: Callable[[Params, ArrayLike, ArrayLike], tuple[Array, Params]],
    optimizer: optax.GradientTransformation,
) -> TrainStep:
    """Return the step of `make_train_step` for a given gradient, such as one derived by hand.

    `value_and_gradient(params, inputs, targets)` returns the mean loss and its gradient.

    >>> def value_and_gradient(w, x, y):
    ...     return jnp.square(w * x - y).mean(), (2 * (w * x - y) * x).mean()
    >>> step = make_gradient_step(value_and_gradient, optax.sgd(0.5))
    >>> batch = Examples(inputs=jnp.array([1.0]), targets=jnp.array([3.0]))
    >>> state, info = step(init_state(jnp.array(0.0), optax.sgd(0.5)), batch)
    >>> print(state.params, info.loss)
    3.0 9.0
    """
    update = optax.with_extra_args_support(optimizer).update

    @jax.jit
    def step(state: TrainState, batch: Examples) -> tuple[TrainState, StepInfo]:
        def value(params: Params) -> Array:
            return value_and_gradient(params, *batch)[0]

        loss, gradient = value_and_gradient(state.params, *batch)
        extra = {"value": loss, "grad": gradient, "value_fn": value}
        updates, opt_state = update(gradient, state.opt_state, state.params, **extra)
        params = optax.apply_updates(state.params, updates)
        state = TrainState(params=params, opt_state=opt_state, step=state.step + 1)
        return state, StepInfo(loss=loss)

    return step


def skip_nonfinite(step: TrainStep) -> TrainStep:
    """Return a step that changes nothing if its loss or the state after it is not finite.

    The state includes the optimiser's: after an overflow in Adam's mean square the parameters stay
    finite, but every update is 0. A skipped step is counted in `state.step`, and its loss is NaN.

    >>> from funcnet.losses import squared_error
    >>> sgd = optax.sgd(1.0)
    >>> step = skip_nonfinite(make_train_step(lambda w, x: w * x, squared_error, sgd))
    >>> batch = Examples(inputs=jnp.array([1e30]), targets=jnp.array([0.0]))
    >>> state, info = step(init_state(jnp.array(1.0), sgd), batch)
    >>> print(state.params, state.step, info.loss)
    1.0 1 nan
    """

    @jax.jit
    def guarded(state: TrainState, batch: Examples) -> tuple[TrainState, StepInfo]:
        after, info = step(state, batch)
        good = is_finite((info.loss, after))
        kept = jax.tree.map(lambda new, old: jnp.where(good, new, old), after, state)
        return kept._replace(step=after.step), StepInfo(loss=jnp.where(good, info.loss, jnp.nan))

    return guarded


@jax.jit
def is_finite(tree: Any) -> Bool[Array, ""]:
    """Return whether no number in a pytree is infinite or NaN.

    >>> is_finite({"a": jnp.array([1.0, jnp.inf])})
    Array(False, dtype=bool)
    """
    return jnp.array([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()
