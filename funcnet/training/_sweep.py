"""Sweep: every combination of settings, trained together in one compiled program.

    settings = combinations(learning_rates=[0.1, 0.3], seeds=range(8))
    result = fit(model, loss, train, settings, validation=validation)

A train step is a pure function, so `jax.vmap` turns it into the step of many models at once. All
models learn from the same batches: the products of their weights with a batch become one matrix
product, and the data are read once for all models.

1. `combinations` lists the settings, one entry per model.
2. `init_sweep` makes the models, and `make_sweep_step` their common train step.
3. `make_task` compiles an epoch of it for all devices, and refuses more models than fit in memory.
4. `fit` trains the task as any other, by `train_epochs`.
"""

import bisect
import dataclasses
import functools
import itertools
import numbers
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.stages import Compiled
from jax.typing import ArrayLike
from jaxtyping import Array, Float, UInt32

from funcnet.base import Examples, Model, Params, UsageError, num_params
from funcnet.devices import across_devices, free_memory
from funcnet.training._epoch import check_examples, compile_segments, make_train_epoch, with_length
from funcnet.training._evaluation import Evaluation, evaluate
from funcnet.training._fit import Progress, Task, train_epochs
from funcnet.training._step import (
    Loss,
    StepInfo,
    TrainState,
    TrainStep,
    init_state,
    make_train_step,
)

Numbers: TypeAlias = Iterable[ArrayLike]
"""A list, a range or an array of numbers of Python, NumPy or JAX."""

MakeOptimizer: TypeAlias = Callable[..., optax.GradientTransformation]
"""`learning_rate -> optax transformation`, such as `optax.sgd`."""

MEMORY_SHARE = 0.8  # of a device's free memory, which a sweep may take

AXES = {
    "learning_rate": ("positive and finite", float, False),
    "seed": ("whole, 0 to 2^32 - 1", np.uint32, True),
    "l2": ("not negative, and finite", float, True),
    "scale": ("positive and finite", float, False),
}
"""The settings: the numbers that each can be in words, their type, and whether 0 is one of them."""


class Settings(NamedTuple):
    """The settings in which the models of a sweep differ; one entry per model.

    Attributes:
      learning_rate: the step size.
      seed: the random seed of the first parameters.
      l2: λ, the weight of the penalty `λ/2 ‖params‖²`; PyTorch calls λ `weight_decay`.
      scale: the factor of the first parameters.
    """

    learning_rate: Float[Array, "*models"]
    seed: UInt32[Array, "*models"]
    l2: Float[Array, "*models"]
    scale: Float[Array, "*models"]


class SweepRow(NamedTuple):
    """The mean losses of an epoch and the accuracy after it, 0 to 1; one entry per model."""

    train_loss: Float[ArrayLike, "*models"]
    validation_loss: Float[ArrayLike, "*models"]
    validation_accuracy: Float[ArrayLike, "*models"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepResult:
    """The trained models; the first axis of every array counts them, in the order of `settings`.

    Its losses and accuracies are those of each epoch's `SweepRow`. The losses of a model that
    diverged are not finite. Its accuracy means nothing: NaN logits count as the first class.
    """

    settings: Settings
    params: Params
    train_loss: Float[Array, "models epochs"]
    validation_loss: Float[Array, "models epochs"]
    validation_accuracy: Float[Array, "models epochs"]


def combinations(
    learning_rates: Numbers, seeds: Numbers, l2s: Numbers = (0.0,), scales: Numbers = (1.0,)
) -> Settings:
    """Return every combination; the seeds of one learning rate, l2 and scale lie side by side.

    >>> settings = combinations(learning_rates=[0.1, 0.3], seeds=range(2))
    >>> settings.learning_rate, settings.seed
    (Array([0.1, 0.1, 0.3, 0.3], dtype=float32), Array([0, 1, 0, 1], dtype=uint32))

    Raises:
      UsageError: if a list is empty, holds a number twice or one that `AXES` does not allow, or is
        no list of numbers. As float32, 1e-50 is not positive, and 0.3 is 0.30000000000000004.
    """
    lists = {"learning_rate": learning_rates, "l2": l2s, "scale": scales, "seed": seeds}
    axes = itertools.starmap(check_numbers, lists.items())
    rate, l2, scale, seed = (jnp.array(grid.ravel()) for grid in np.meshgrid(*axes, indexing="ij"))
    return Settings(learning_rate=rate, seed=seed, l2=l2, scale=scale)


def check_numbers(setting: str, values: Numbers, *, name: str | None = None) -> np.ndarray:
    """Return the values of one of `AXES` as an array; an error about them begins with `name`.

    >>> check_numbers("seed", range(3))
    array([0, 1, 2], dtype=uint32)
    """
    (expected, kind, may_be_zero), name = AXES[setting], name or f"{setting}s"
    dtype, given = np.dtype(jnp.result_type(kind)), _as_list(name, values)
    largest = float((np.finfo if kind is float else np.iinfo)(dtype).max)
    for number in given:
        fits = 0 <= number <= largest and (kind is float or number % 1 == 0)
        if not fits or not (may_be_zero or dtype.type(number) > 0):
            raise UsageError(
                f"{name}: expected numbers that are {expected}, as {dtype}; got {number!r}."
            )
    column = np.array(given, dtype)
    different, counts = np.unique(column, return_counts=True)
    if counts.max() > 1:
        again = f"{different[counts.argmax()]!s} {counts.max()} times"
        raise UsageError(f"{name}: expected each number once, as {dtype}; got {again}.")
    return column


def _as_list(name: str, values: Any) -> list[Any]:
    """Return the entries of a list or an array, one or more, as numbers of Python."""
    if not isinstance(values, Iterable) or getattr(values, "ndim", 1) == 0:
        raise UsageError(f"{name}: expected a list of numbers; got {values!r}. Try [{values!r}].")
    entries = [v.item() if getattr(v, "shape", None) == () else v for v in values]
    if not entries:
        raise UsageError(f"{name}: expected one number or more; got none.")
    for entry in entries:
        if isinstance(entry, bool) or not isinstance(entry, numbers.Real):
            raise UsageError(f"{name}: expected real numbers; got {entry!r}.")
    return entries


def init_sweep(model: Model, settings: Settings, optimizer: MakeOptimizer) -> TrainState:
    """Return the state before the first step: one model per setting, along a new first axis.

    >>> from funcnet import models
    >>> settings = combinations(learning_rates=[0.1, 0.3], seeds=range(2))
    >>> state = init_sweep(models.linear(3, 2), settings, optax.sgd)
    >>> jax.tree.map(jnp.shape, state.params)
    Linear(weight=(4, 2, 3), bias=(4, 2))
    """

    def init(setting: Settings) -> TrainState:
        params = model.init(jax.random.key(setting.seed))
        params = jax.tree.map(lambda leaf: setting.scale.astype(leaf.dtype) * leaf, params)
        dtype = jnp.result_type(*jax.tree.leaves(params))  # which the parameters keep
        rate, l2 = setting.learning_rate.astype(dtype), setting.l2.astype(dtype)
        return init_state(params, _penalised(optimizer)(rate, l2))

    return jax.jit(jax.vmap(init))(settings)


def make_sweep_step(model: Model, loss: Loss, optimizer: MakeOptimizer) -> TrainStep:
    """Return the train step of all models on one batch, for `make_train_epoch`.

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
    step = make_train_step(model.apply, loss, _penalised(optimizer)(0.0, 0.0))
    return jax.vmap(step, in_axes=(0, None))


def _penalised(make: MakeOptimizer) -> MakeOptimizer:
    """Return `learning_rate, l2 -> optimiser`, which adds the penalty's gradient `λ params` first.

    The optimiser's state holds both numbers, and a step reads them there.
    """

    @optax.inject_hyperparams
    def optimizer(learning_rate: Any, l2: Any) -> optax.GradientTransformation:
        return optax.chain(optax.add_decayed_weights(l2), make(learning_rate))

    return optimizer


def fit(
    model: Model,
    loss: Loss,
    data: Examples,
    settings: Settings,
    *,
    validation: Examples,
    optimizer: MakeOptimizer = optax.sgd,
    epochs: int = 10,
    batch_size: int = 128,
    order_seed: int = 0,
) -> SweepResult:
    """Train one model per setting.

    Each model ends as it would if it were trained alone on the same batches, up to rounding: in
    epoch e those of `epoch_order(seed=order_seed, epoch=e)`.

    Args:
      model: the network.
      loss: `loss(logits, targets) -> one value per example`.
      data: the examples to learn from.
      settings: the settings of each model, as `combinations` lists them.
      validation: the examples to compare the models on. Keep a test set for the one you choose.
      optimizer: `learning_rate -> optax transformation`, such as `optax.sgd`.
      epochs: passes over the examples.
      batch_size: examples per step.
      order_seed: the random seed of the examples' order, which all models share.

    >>> from funcnet import data, losses, models
    >>> train, validation = data.split(data.load("digits").train, share=0.2)
    >>> result = fit(
    ...     models.softmax_regression(64, 10), losses.softmax_cross_entropy, train,
    ...     combinations(learning_rates=[0.003, 0.3], seeds=range(3)),
    ...     validation=validation, epochs=5,
    ... )
    >>> result.params.weight.shape
    (6, 10, 64)
    >>> slow, fast = result.validation_accuracy[:, -1].reshape(2, 3).mean(axis=1)
    >>> bool(fast > slow + 0.1)
    True

    Raises:
      UsageError: if the examples or the options cannot be trained with, or the models do not fit in
        memory.
    """
    if epochs < 1:
        raise UsageError(f"epochs: expected a positive integer; got {epochs}.")
    task, progress = make_task(
        model, loss, data, settings, validation=validation, optimizer=optimizer,
        batch_size=batch_size, order_seed=order_seed,
    )  # fmt: skip
    for reached, _ in train_epochs(task, progress, epochs=epochs):
        progress = reached
    return as_result(settings, progress)


def make_task(
    model: Model,
    loss: Loss,
    data: Examples,
    settings: Settings,
    *,
    validation: Examples,
    optimizer: MakeOptimizer = optax.sgd,
    batch_size: int = 128,
    order_seed: int = 0,
) -> tuple[Task, Progress]:
    """Return what `fit` trains, compiled, and the progress before its first step.

    Its arguments and errors are those of `fit`; memory is predicted before any model is made. The
    progress that `train_epochs` yields has the state of all models, losses of shape
    `[steps, models]`, and one `SweepRow` per epoch. The models are divided among the devices of the
    kind that JAX computes on by default; a progress does not depend on how many there are.
    """
    _check_arguments(data, validation, settings, optimizer, batch_size)
    divided, whole = across_devices("models")
    if next(iter(divided.device_set)).platform != "cpu":
        data = jax.device_put(data, whole)
    validation, count = jax.device_put(validation, whole), len(settings.seed)
    first: TrainState = jax.eval_shape(lambda: init_sweep(model, settings, optimizer))
    train_epoch = make_train_epoch(make_sweep_step(model, loss, optimizer))
    evaluate_one = functools.partial(evaluate, model.apply, loss, batch_size=batch_size)
    evaluate_each = jax.jit(jax.vmap(evaluate_one, in_axes=(0, None)))

    def compile_models(num_models: int) -> tuple[dict[int, Compiled], Compiled]:
        state = with_length(first, num_models + -num_models % divided.num_devices, divided)
        size = num_models * num_params(first.params) // count
        steps = compile_segments(
            train_epoch, state, data, batch_size=batch_size, num_params=size, place=whole
        )
        return steps, evaluate_each.lower(state.params, validation).compile()

    def divide(models: Any) -> Any:
        return jax.device_put(_resized(models, count + -count % divided.num_devices), divided)

    def train(run: Compiled, state: TrainState, examples: Examples) -> tuple[TrainState, StepInfo]:
        state, info = run(divide(state), examples)
        return _resized(state, count), StepInfo(loss=info.loss[:, :count])

    def observe(progress: Progress) -> SweepRow:
        evaluations = evaluation(divide(progress.state.params), validation)
        return _as_row(task, progress, _resized(evaluations, count))

    segments, evaluation = _compile_what_fits(compile_models, count, data, divided)
    task = Task(
        steps={size: functools.partial(train, steps) for size, steps in segments.items()},
        observe=observe,
        examples=data,
        batch_size=batch_size,
        seed=order_seed,
        place=whole,
    )
    losses = np.zeros([0, count], np.float32)
    return task, Progress(state=init_sweep(model, settings, optimizer), losses=losses)


def _as_row(task: Task, progress: Progress, evaluation: Evaluation) -> SweepRow:
    mean_losses = np.average(progress.losses, axis=0, weights=task.batch_sizes)
    row = SweepRow(
        train_loss=mean_losses.astype(np.float32),
        validation_loss=evaluation.loss_sum / evaluation.examples,
        validation_accuracy=evaluation.correct / evaluation.examples,
    )
    return jax.tree.map(np.asarray, row)


def as_result(settings: Settings, progress: Progress) -> SweepResult:
    """Return the models and the losses of a progress with one epoch or more behind it."""
    rows: SweepRow = jax.tree.map(lambda *epochs: jnp.stack(epochs, axis=1), *progress.rows)
    params = jax.tree.map(jnp.asarray, progress.state.params)
    return SweepResult(settings=settings, params=params, **rows._asdict())


def _check_arguments(
    data: Examples, validation: Examples, settings: Any, optimizer: Any, batch_size: int
) -> None:
    check_examples(data, batch_size, name="data")
    check_examples(validation, name="validation")
    if not isinstance(settings, Settings):
        raise UsageError(
            "settings: expected what combinations(learning_rates=..., seeds=...) returns; "
            f"got {type(settings).__name__}."
        )
    if not callable(optimizer):
        raise UsageError(
            "optimizer: expected a function of the learning rate, such as optax.sgd; "
            f"got {type(optimizer).__name__}. Each model has its own rate: lambda rate: ..."
        )


def _compile_what_fits(
    compile_models: Callable[[int], Any], count: int, data: Examples, divided: NamedSharding
) -> Any:
    """Compile the programs of all models, if they fit in the memory of the first device."""
    device = min(divided.device_set, key=lambda device: device.id)
    sharing = divided.num_devices if device.platform == "cpu" else 1  # devices in this memory

    def needed(programs: Any) -> int:
        stats = [program.memory_analysis() for program in jax.tree.leaves(programs)]
        running = max(
            s.argument_size_in_bytes + s.output_size_in_bytes + s.temp_size_in_bytes for s in stats
        )
        upcoming = sum(a[: max(programs[0])].nbytes for a in data)  # put in place in the meantime
        return sharing * (running + upcoming)

    programs, memory = compile_models(count), int(MEMORY_SHARE * free_memory(device))
    if needed(programs) <= memory:
        return programs
    fitting = bisect.bisect_right(range(1, count), memory, key=lambda n: needed(compile_models(n)))
    expected = f"at most {fitting:,} models" if fitting else "a smaller model"
    raise UsageError(
        f"settings: expected {expected}, as a sweep may take {memory:,} bytes of memory; "
        f"got {count:,} models, which need {needed(programs):,}. "
        f"Try {'fewer settings' if fitting else 'fewer hidden units'} or a smaller batch."
    )


def _resized(models: Any, count: int) -> Any:
    """Return this number of models: the first ones, or all, with the last one repeated."""
    indices = np.minimum(np.arange(count), len(jax.tree.leaves(models)[0]) - 1)
    return jax.tree.map(lambda a: a if len(a) == count else a[indices], models)
