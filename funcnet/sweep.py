"""Many models at the price of one: every combination of settings, trained in one compiled program.

A train step is a pure function, so `jax.vmap` turns it into the step of many models at once. All
of them learn from the same batches: the products of their weights with a batch become one matrix
product, and the data are read once for all.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, UInt32

from funcnet.base import Examples, Model, Params
from funcnet.devices import across_devices, free_memory
from funcnet.metrics import Evaluation
from funcnet.training import (
    Apply,
    Loss,
    StepInfo,
    TrainState,
    TrainStep,
    epoch_order,
    evaluate,
    init_state,
    make_train_epoch,
    make_train_step,
    shuffled,
)

MakeOptimizer: TypeAlias = Callable[..., optax.GradientTransformation]
"""`learning_rate -> optax transformation`, such as `optax.sgd`."""

Columns = TypeVar("Columns")
"""A pytree of arrays whose first axis counts the models."""

MEMORY_SHARE = 0.8
"""How much of the memory that is free a sweep may take, by default."""


class Settings(NamedTuple):
    """What distinguishes the models of a sweep: an entry a model.

    Attributes:
      learning_rate: the step size.
      seed: of the first parameters.
      l2: λ, the weight of the penalty `λ/2 ‖params‖²`: PyTorch's `weight_decay`.
      scale: what the first parameters are multiplied by.
    """

    learning_rate: Float[Array, "*models"]
    seed: UInt32[Array, "*models"]
    l2: Float[Array, "*models"]
    scale: Float[Array, "*models"]


class SweepState(NamedTuple):
    """What the next step of all models needs: their settings, and their states with an axis more.

    Attributes:
      settings: which never change.
      models: the models' states, stacked.
    """

    settings: Settings
    models: TrainState


class SweepResult(NamedTuple):
    """How a sweep ended; the first axis counts the models, in the order of `settings`.

    Attributes:
      settings: of each model.
      params: the trained parameters, stacked.
      train_loss: `[models, epochs]`, the mean loss over each epoch's examples.
      validation_loss: `[models, epochs]`, the mean loss over the validation examples.
      validation_accuracy: `[models, epochs]`, the share of them classified right, 0 to 1.
    """

    settings: Settings
    params: Params
    train_loss: Float[Array, "models epochs"]
    validation_loss: Float[Array, "models epochs"]
    validation_accuracy: Float[Array, "models epochs"]


def combinations(
    learning_rates: Iterable[float | int],
    seeds: Iterable[int],
    l2s: Iterable[float | int] = (0.0,),
    scales: Iterable[float | int] = (1.0,),
) -> Settings:
    """Every combination; the seeds of one setting lie side by side.

    >>> settings = combinations(learning_rates=[0.1, 0.3], seeds=range(2))
    >>> settings.learning_rate, settings.seed
    (Array([0.1, 0.1, 0.3, 0.3], dtype=float32), Array([0, 1, 0, 1], dtype=uint32))

    Raises:
      ValueError: one of them is empty; a learning rate or a scale is not positive, an l2 is
        negative, a seed is not a whole number from 0 to 2³² − 1.
    """
    axes = {
        "learning_rates": _checked("learning_rates", learning_rates, "positive", lambda x: x > 0),
        "l2s": _checked("l2s", l2s, "not negative", lambda x: x >= 0),
        "scales": _checked("scales", scales, "positive", lambda x: x > 0),
        "seeds": _checked(
            "seeds", seeds, "whole, 0 to 2^32 - 1", lambda x: x == int(x) and 0 <= x < 2**32
        ),
    }
    rate, l2, scale, seed = zip(*itertools.product(*axes.values()), strict=True)
    return Settings(
        learning_rate=jnp.array(rate, float),
        seed=jnp.array(np.array(seed, np.uint32)),
        l2=jnp.array(l2, float),
        scale=jnp.array(scale, float),
    )


def init_sweep(model: Model, settings: Settings, optimizer: MakeOptimizer) -> SweepState:
    """The state before the first step: a model for each setting.

    >>> from funcnet import models
    >>> settings = combinations(learning_rates=[0.1, 0.3], seeds=range(2))
    >>> state = init_sweep(models.linear(3, 2), settings, optax.sgd)
    >>> jax.tree.map(jnp.shape, state.models.params)
    Linear(weight=(4, 2, 3), bias=(4, 2))
    """

    def init(setting: Settings) -> TrainState:
        params = model.init(jax.random.key(setting.seed))
        params = jax.tree.map(lambda leaf: setting.scale * leaf, params)
        return init_state(params, _optimizer(optimizer, setting))

    return SweepState(settings=settings, models=jax.jit(jax.vmap(init))(settings))


def make_sweep_step(model: Model, loss: Loss, optimizer: MakeOptimizer) -> TrainStep:
    """A train step of all models on one batch, for `training.make_train_epoch`.

    Args:
      model: the network.
      loss: `loss(logits, targets) -> one value an example`.
      optimizer: `learning_rate -> optax transformation`, such as `optax.sgd`.

    >>> from funcnet import losses, models
    >>> model = models.softmax_regression(num_features=2, num_classes=2)
    >>> state = init_sweep(model, combinations(learning_rates=[0.1, 0.5], seeds=[0]), optax.sgd)
    >>> step = make_sweep_step(model, losses.softmax_cross_entropy, optax.sgd)
    >>> batch = Examples(inputs=jnp.eye(2), targets=jnp.array([0, 1]))
    >>> for _ in range(20):
    ...     state, info = step(state, batch)
    >>> print(info.loss.round(1))
    [0.4 0.1]
    """

    def step(state: SweepState, batch: Examples) -> tuple[SweepState, StepInfo]:
        def step_one(setting: Settings, one: TrainState) -> tuple[TrainState, StepInfo]:
            return make_train_step(model.apply, loss, _optimizer(optimizer, setting))(one, batch)

        models, info = jax.vmap(step_one)(state.settings, state.models)
        return SweepState(settings=state.settings, models=models), info

    return step


def fit(
    model: Model,
    loss: Loss,
    data: Examples,
    *,
    validation: Examples,
    learning_rates: Iterable[float | int],
    seeds: Iterable[int],
    l2s: Iterable[float | int] = (0.0,),
    scales: Iterable[float | int] = (1.0,),
    optimizer: MakeOptimizer = optax.sgd,
    epochs: int = 10,
    batch_size: int = 128,
    order_seed: int = 0,
    memory: float | int | None = None,
    watch: Callable[[Iterable[int]], Iterable[int]] = lambda epochs: epochs,
) -> SweepResult:
    """Trains every combination of learning rate, seed, L2 weight and initial scale.

    Each model ends as it would if it were trained alone on the same batches: in epoch e those of
    `epoch_order(seed=order_seed, epoch=e)`.

    Args:
      model: the network.
      loss: `loss(logits, targets) -> one value an example`.
      data: the examples to learn from.
      validation: the examples to compare the models on. A test set is for the one that is chosen.
      learning_rates: step sizes.
      seeds: of the first parameters.
      l2s: weights λ of the penalty `λ/2 ‖params‖²`.
      scales: what the first parameters are multiplied by.
      optimizer: `learning_rate -> optax transformation`.
      epochs: passes over the examples.
      batch_size: examples a step.
      order_seed: of the examples' order.
      memory: how many bytes the sweep may take; by default four fifths of what is free. One that
        needs more, which is known before it starts, is cut into parts, trained one after another.
      watch: wraps the epochs of each part, to show them as they pass.

    >>> from funcnet import data, losses, models
    >>> digits = data.load("digits").train
    >>> train, validation = data.split(digits, share=0.2)
    >>> result = fit(
    ...     models.softmax_regression(64, 10), losses.softmax_cross_entropy, train,
    ...     validation=validation, learning_rates=[0.003, 0.3], seeds=range(3), epochs=5,
    ... )
    >>> result.params.weight.shape
    (6, 10, 64)
    >>> slow, fast = result.validation_accuracy[:, -1].reshape(2, 3).mean(axis=1)
    >>> bool(fast > slow + 0.1)
    True

    Raises:
      ValueError: a setting that can't be trained with; or one model alone needs more memory.
    """
    settings = combinations(learning_rates, seeds, l2s, scales)
    if epochs < 1:
        raise ValueError(f"epochs: expected a positive integer; got {epochs}.")
    divided, whole = across_devices("models")
    validation = jax.device_put(validation, whole)
    train_epoch = make_train_epoch(make_sweep_step(model, loss, optimizer))
    order = functools.partial(epoch_order, seed=order_seed, num_examples=len(data.targets))

    def first_state(part: Settings) -> SweepState:
        return init_sweep(model, _padded(part, divided.num_devices), optimizer)

    @functools.cache
    def program(num_models: int) -> jax.stages.Compiled:
        state = jax.eval_shape(lambda: first_state(_first(settings, num_models)))
        state, examples = _laid_out(state, divided), _laid_out(data, whole)
        return train_epoch.lower(state, examples, batch_size=batch_size).compile()

    def fit_part(part: Settings) -> SweepResult:
        state, rows = jax.device_put(first_state(part), divided), []
        examples = (
            jax.device_put(shuffled(data, order(epoch=epoch)), whole) for epoch in range(epochs)
        )
        now = next(examples)
        for _ in watch(range(epochs)):
            state, info = program(len(part.seed))(state, now)
            now = next(examples, now)  # put in order while the devices work
            judged = _judge(model.apply, loss, state.models.params, validation)
            row = _epoch_loss(info.loss, len(data.targets), batch_size), judged
            rows.append(jax.block_until_ready(row))
        return _first(_as_result(state, rows), len(part.seed))

    memory = MEMORY_SHARE * free_memory() if memory is None else memory
    parts = _parts_that_fit(settings, lambda count: _bytes(program(count)), memory)
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *map(fit_part, parts))


def _checked(
    name: str, values: Iterable[float | int], expected: str, is_right: Callable[[float | int], bool]
) -> list[float | int]:
    """The values, all of them finite and as expected; else a `ValueError`."""
    values = list(values)
    if not values:
        raise ValueError(f"{name}: expected one number or more; got none.")
    for value in values:
        if not (math.isfinite(value) and is_right(value)):
            raise ValueError(f"{name}: expected numbers that are {expected}; got {value}.")
    return values


def _optimizer(make: MakeOptimizer, setting: Settings) -> optax.GradientTransformation:
    """The gradient of the penalty, `λ params`, is added before the optimiser sees a gradient."""
    return optax.chain(optax.add_decayed_weights(setting.l2), make(setting.learning_rate))


def _first(columns: Columns, count: int) -> Columns:
    return jax.tree.map(lambda column: column[:count], columns)


def _padded(settings: Settings, multiple: int) -> Settings:
    """The settings, the last repeated until their number is a multiple of this one."""
    return jax.tree.map(lambda a: jnp.pad(a, (0, -len(a) % multiple), mode="edge"), settings)


def _laid_out(arrays: Any, place: NamedSharding) -> Any:
    """The shapes and dtypes of arrays that are to lie on these devices."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place), arrays)


def _bytes(program: jax.stages.Compiled) -> int:
    """What a compiled program needs: its arguments, its results, and what lies between.

    Each device needs as much; those of a CPU share its memory.
    """
    stats: Any = program.memory_analysis()
    devices = {
        device for place in jax.tree.leaves(program.input_shardings) for device in place.device_set
    }
    sharing = len(devices) if jax.default_backend() == "cpu" else 1
    each = stats.argument_size_in_bytes + stats.output_size_in_bytes + stats.temp_size_in_bytes
    return sharing * each


def _parts_that_fit(
    settings: Settings, needed: Callable[[int], int], memory: float | int
) -> list[Settings]:
    """The settings in as few equal parts, halved and halved again, as the memory allows.

    >>> settings = combinations(learning_rates=[0.1], seeds=range(5))
    >>> parts = _parts_that_fit(settings, lambda count: 100 + 10 * count, memory=125)
    >>> [len(part.seed) for part in parts]
    [2, 1, 1, 1]
    """
    num_models = len(settings.seed)
    for num_parts in _doublings(num_models):
        largest = math.ceil(num_models / num_parts)
        if needed(largest) <= memory:
            columns = (jnp.array_split(column, num_parts) for column in settings)
            return list(itertools.starmap(Settings, zip(*columns, strict=True)))
    raise ValueError(
        f"memory: expected {needed(1):,} bytes or more, which one model of the sweep needs; "
        f"{int(memory):,} may be taken. Try a smaller batch or a smaller model."
    )


def _doublings(last: int) -> list[int]:
    """1, 2, 4 ... up to the last number, and that."""
    return [*(2**i for i in range((last - 1).bit_length())), last]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _judge(apply: Apply, loss: Loss, params: Params, validation: Examples) -> Evaluation:
    return jax.vmap(lambda p: evaluate(apply, loss, p, validation))(params)


def _epoch_loss(
    losses: Float[Array, "steps models"], num_examples: int, batch_size: int
) -> Float[Array, "models"]:
    """The mean over an epoch's examples of the losses of its steps, the last of which is ragged."""
    batch_sizes = np.diff([*range(0, num_examples, batch_size), num_examples])
    return jnp.average(losses, axis=0, weights=jnp.array(batch_sizes, losses.dtype))


def _as_result(state: SweepState, rows: list) -> SweepResult:
    losses, evaluations = zip(*rows, strict=True)
    counts = jax.tree.map(lambda *epochs: jnp.stack(epochs, axis=1), *evaluations)
    return SweepResult(
        settings=state.settings,
        params=state.models.params,
        train_loss=jnp.stack(losses, axis=1),
        validation_loss=counts.loss_sum / counts.examples,
        validation_accuracy=counts.correct / counts.examples,
    )
