"""Training as pure functions: a step, an epoch as one compiled program, an evaluation.

    train_step(state, batch) -> (state, info)
    train_epoch(state, examples, batch_size) -> (state, info)
    evaluate(params, examples) -> Evaluation

Nothing here knows a model, a data set or a device: `apply`, a loss and arrays are handed in. An
epoch is `lax.scan` over exactly the step that a Python loop would call.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from funcnet.base import Examples, Params
from funcnet.training._evaluation import Evaluation, is_correct

Apply = Callable[[Params, ArrayLike], Array]
"""`apply(params, inputs) -> logits`."""

Loss = Callable[[ArrayLike, ArrayLike], Array]
"""`loss(logits, targets) -> one value an example`."""

ValueAndGradient = Callable[[Params, ArrayLike, ArrayLike], tuple[Array, Params]]
"""`(params, inputs, targets) -> (mean loss, its gradient)`, as `jax.value_and_grad` makes it."""


class TrainState(NamedTuple):
    """What the next step needs.

    Attributes:
      params: the model's parameters.
      opt_state: the optimiser's state.
      step: how many steps were taken.
    """

    params: Params
    opt_state: optax.OptState
    step: Int[Array, ""]


class StepInfo(NamedTuple):
    """What a person wants to see of a step, or, with a leading axis, of an epoch's steps.

    Attributes:
      loss: the mean loss of the batch, before the update; of each model, where there are many.
    """

    loss: Float[Array, "*steps"]


State: TypeAlias = Any
"""What a step hands to the next: a `TrainState`, or many of them, as a sweep has."""

TrainStep = Callable[[State, Examples], tuple[State, StepInfo]]
"""`train_step(state, batch) -> (state, info)`."""


TrainEpoch: TypeAlias = jax.stages.Wrapped
"""`train_epoch(state, examples, *, batch_size) -> (state, info)`."""


def init_state(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step.

    >>> init_state(jnp.zeros(2), optax.sgd(0.1)).step
    Array(0, dtype=int32)
    """
    return TrainState(
        params=params, opt_state=optimizer.init(params), step=jnp.zeros([], jnp.int32)
    )


def mean_loss(apply: Apply, loss: Loss) -> Callable[[Params, ArrayLike, ArrayLike], Array]:
    """The cost of parameters, `(1/m) Σᵢ loss(apply(params, xᵢ), yᵢ)` over a batch of m.

    >>> from funcnet.losses import squared_error
    >>> cost = mean_loss(lambda w, x: w * x, squared_error)
    >>> cost(jnp.array(2.0), jnp.array([1.0, 2.0]), jnp.array([2.0, 7.0]))
    Array(4.5, dtype=float32)
    """

    def cost(params: Params, inputs: ArrayLike, targets: ArrayLike) -> Array:
        return loss(apply(params, inputs), targets).mean()

    return cost


def make_train_step(apply: Apply, loss: Loss, optimizer: optax.GradientTransformation) -> TrainStep:
    """A step of gradient descent on the mean loss of a batch, compiled.

    Args:
      apply: `apply(params, inputs) -> logits`.
      loss: `loss(logits, targets) -> one value an example`.
      optimizer: any optax transformation.

    Returns:
      `step(state, batch) -> (state, info)`.

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
    value_and_gradient: ValueAndGradient, optimizer: optax.GradientTransformation
) -> TrainStep:
    """`make_train_step` for a gradient from elsewhere, such as one derived by hand.

    Args:
      value_and_gradient: `(params, inputs, targets) -> (loss, gradient)`.
      optimizer: any optax transformation.

    >>> def value_and_gradient(w, x, y):
    ...     return jnp.square(w * x - y).mean(), (2 * (w * x - y) * x).mean()
    >>> step = make_gradient_step(value_and_gradient, optax.sgd(0.5))
    >>> batch = Examples(inputs=jnp.array([1.0]), targets=jnp.array([3.0]))
    >>> state, info = step(init_state(jnp.array(0.0), optax.sgd(0.5)), batch)
    >>> print(state.params, info.loss)
    3.0 9.0
    """

    @jax.jit
    def step(state: TrainState, batch: Examples) -> tuple[TrainState, StepInfo]:
        loss, gradient = value_and_gradient(state.params, batch.inputs, batch.targets)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = TrainState(params=params, opt_state=opt_state, step=state.step + 1)
        return state, StepInfo(loss=loss)

    return step


def skip_nonfinite(step: TrainStep) -> TrainStep:
    """A step that changes nothing where it would lead to what is not finite.

    The loss, the new parameters and the optimiser's new state are looked at. The step is counted,
    and its loss is NaN.

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
        good = is_finite_step(info.loss, after)
        kept = jax.tree.map(lambda new, old: jnp.where(good, new, old), after, state)
        loss = jnp.where(good, info.loss, jnp.nan)
        return kept._replace(step=after.step), StepInfo(loss=loss)

    return guarded


@jax.jit
def is_finite(tree: Any) -> Bool[Array, ""]:
    """Whether no number in a pytree is infinite or NaN.

    >>> is_finite({"a": jnp.array([1.0, jnp.inf])})
    Array(False, dtype=bool)
    """
    return jnp.array([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def is_finite_step(loss: Any, after: TrainState) -> Bool[Array, ""]:
    """Whether steps were finite: their loss, and the state that they led to, the optimiser's too.

    An optimiser's state that is not finite may leave the parameters as they are, for good: where
    Adam's mean square of the gradients overflows, every update is 0.

    >>> after = TrainState(params=jnp.array(1.0), opt_state=jnp.array(jnp.inf), step=jnp.array(1))
    >>> is_finite_step(jnp.array(0.5), after)
    Array(False, dtype=bool)
    """
    return is_finite((loss, after))


def make_train_epoch(step: TrainStep) -> TrainEpoch:
    """A whole epoch as one compiled program, over examples in the order in which they lie.

    Args:
      step: as `make_train_step` returns it.

    Returns:
      `train_epoch(state, examples, *, batch_size) -> (state, info)`: a step on the first
      `batch_size` examples, one on the next, and so on. Where they do not divide, the last step
      takes what is left; it is part of the same program, so nothing compiles again. `info.loss`
      holds each step's loss.

    >>> from funcnet import losses, models
    >>> model = models.linear(num_features=1, num_outputs=1)
    >>> loss = lambda predictions, y: losses.squared_error(predictions[:, 0], y)
    >>> sgd = optax.sgd(0.1)
    >>> train_epoch = make_train_epoch(make_train_step(model.apply, loss, sgd))
    >>> x = np.linspace(-1, 1, 50, dtype=np.float32)
    >>> examples = Examples(inputs=x[:, None], targets=3 * x + 1)
    >>> state = init_state(model.init(jax.random.key(0)), sgd)
    >>> for epoch in range(20):
    ...     order = epoch_order(seed=0, epoch=epoch, num_examples=50)
    ...     state, info = train_epoch(state, shuffled(examples, order), batch_size=8)
    >>> print(f"{state.params.weight.item():.3f} x + {state.params.bias.item():.3f}")
    3.000 x + 1.000
    >>> info.loss.shape  # 6 batches of 8, and one of the 2 that are left
    (7,)
    """

    def train_epoch(state: State, examples: Examples, *, batch_size: int) -> tuple[State, StepInfo]:
        def step_on(state: State, start: Array) -> tuple[State, StepInfo]:
            return step(state, jax.tree.map(lambda a: slice_of(a, start, batch_size), on_device))

        check_examples(examples, batch_size)
        on_device = jax.tree.map(jnp.asarray, examples)
        batch_size = min(batch_size, len(examples.targets))
        num_full, rest = divmod(len(examples.targets), batch_size)
        state, info = jax.lax.scan(step_on, state, batch_size * jnp.arange(num_full))
        if not rest:
            return state, info
        state, last = step(state, jax.tree.map(lambda a: a[-rest:], on_device))
        return state, StepInfo(loss=jnp.concatenate([info.loss, last.loss[None]]))

    slice_of = jax.lax.dynamic_slice_in_dim
    return jax.jit(train_epoch, static_argnames="batch_size")


def shuffled(examples: Examples, order: Int[ArrayLike, "order"]) -> Examples:
    """`examples[order]`: arrays of NumPy on the host, those of JAX on their device.

    For a loop that puts the next epoch's examples in order while the device works on the last
    ones. A CPU is slow at gathering rows that lie scattered in a large array within each compiled
    step; NumPy copies whole rows, in a thread that would only wait.

    >>> shuffled(Examples(inputs=np.eye(2), targets=np.array([3, 4])), np.array([1, 0])).targets
    array([4, 3])

    Raises:
      ValueError: there are no examples, or not as many inputs as targets.
      IndexError: the order names an example that there isn't.
    """
    check_examples(examples)
    count, indices = len(examples.targets), np.asarray(order)
    if indices.size and not -count <= indices.min() <= indices.max() < count:
        raise IndexError(
            f"order: expected indices of {count} examples; "
            f"got some from {indices.min()} to {indices.max()}."
        )
    return jax.tree.map(
        lambda a: a[indices] if isinstance(a, jax.Array) else _take(a, indices), examples
    )


def make_segments(
    examples: Examples,
    *,
    order: Callable[[int], np.ndarray],
    size: int,
    place: Any = None,
) -> Callable[[int, int], Examples]:
    """`(epoch, start) -> examples`: of an epoch's examples, in its order, those from `start` on.

    Args:
      examples: arrays of NumPy on a CPU, else of JAX.
      order: `epoch -> indices`.
      size: at most so many.
      place: the device or sharding to put them on; by default JAX's default device.

    >>> examples = Examples(inputs=np.eye(3), targets=np.array([3, 4, 5]))
    >>> segments = make_segments(examples, order=lambda epoch: np.array([2, 0, 1]), size=2)
    >>> segments(0, 0).targets.tolist(), segments(0, 2).targets.tolist()
    ([5, 3], [4])
    """

    def segment(epoch: int, start: int) -> Examples:
        return jax.device_put(shuffled(examples, order(epoch)[start : start + size]), place)

    return segment


ALIGNMENT = 64
"""An array of NumPy at a multiple of so many bytes is one of JAX on a CPU without being copied."""


def _take(array: np.ndarray, rows: Int[np.ndarray, "rows"]) -> np.ndarray:
    """`array[rows]`, aligned."""
    shape = (len(rows), *array.shape[1:])
    num_bytes = math.prod(shape) * array.itemsize
    memory = np.empty(num_bytes + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    taken = memory[start : start + num_bytes].view(array.dtype).reshape(shape)
    return np.take(array, rows, axis=0, out=taken, mode="wrap")  # "raise" would copy twice


def epoch_order(*, seed: int, epoch: int, num_examples: int) -> Int[np.ndarray, "examples"]:
    """The order of the examples in an epoch: a permutation, a function of the arguments alone.

    Drawn on the host: `jax.random.permutation` of 60,000 sorts them, which takes a CPU as long as
    half an epoch of softmax regression; NumPy shuffles them in a millisecond.

    >>> epoch_order(seed=0, epoch=1, num_examples=5)
    array([1, 4, 3, 0, 2], dtype=int32)
    """
    generator = np.random.default_rng([seed, epoch])
    return generator.permutation(num_examples).astype(np.int32)


@functools.partial(jax.jit, static_argnames=("apply", "loss", "batch_size"))
def evaluate(
    apply: Apply, loss: Loss, params: Params, examples: Examples, *, batch_size: int = 1000
) -> Evaluation:
    """Loss and right answers of a classifier, over every example, the ragged end included.

    Args:
      apply: `apply(params, inputs) -> logits`, called on one example, without a batch axis.
      loss: `loss(logits, labels) -> one value an example`, called likewise. Both are compiled in,
        as the objects that they are: hand in the same ones again, or it compiles anew.
      params: the parameters.
      examples: inputs and integer labels.
      batch_size: how many examples are taken at once: bounds the memory, changes no count.

    >>> from funcnet.losses import softmax_cross_entropy
    >>> examples = Examples(inputs=jnp.eye(3), targets=jnp.array([0, 1, 1]))
    >>> result = evaluate(lambda w, x: w * x, softmax_cross_entropy, jnp.array(9.0), examples)
    >>> print(f"{result.correct} of {result.examples}, loss {result.loss:.4f}")
    2 of 3, loss 3.0002
    """
    check_examples(examples, batch_size)

    def evaluate_one(example: Examples) -> tuple[Array, Array]:
        logits = apply(params, example.inputs)
        return loss(logits, example.targets), is_correct(logits, example.targets)

    losses, correct = jax.lax.map(evaluate_one, examples, batch_size=batch_size)
    return Evaluation(
        loss_sum=losses.sum(), correct=correct.sum(), examples=jnp.array(len(correct))
    )


def check_examples(examples: Examples, batch_size: int = 1, *, name: str = "examples") -> None:
    """Refuses examples that can't be learnt from in batches of this size.

    >>> check_examples(Examples(inputs=np.eye(3), targets=np.array([0, 1])))
    Traceback (most recent call last):
    ...
    ValueError: examples: expected one target for each input, and some; got 3 inputs and 2 targets.

    Raises:
      ValueError: there are none, or not as many inputs as targets; or the size is not positive.
    """
    num_inputs, num_targets = len(examples.inputs), len(examples.targets)
    if num_inputs != num_targets or not num_inputs:
        raise ValueError(
            f"{name}: expected one target for each input, and some; "
            f"got {num_inputs} inputs and {num_targets} targets."
        )
    if batch_size < 1:
        raise ValueError(f"batch_size: expected a positive integer; got {batch_size}.")
