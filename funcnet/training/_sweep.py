"""Many models at the price of one: every combination of settings, trained in one compiled program.

A train step is a pure function, so `jax.vmap` turns it into the step of many models at once. All
of them learn from the same batches: the products of their weights with a batch become one matrix
product, and the data are read once for all.
"""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from funcnet.base import Examples, Model, Params, num_params
from funcnet.devices import Device, across_devices, free_memory
from funcnet.training._epoch import check_examples, epoch_order, make_train_epoch, segment_size
from funcnet.training._evaluation import Evaluation, evaluate
from funcnet.training._fit import Progress, Task, begin, train_epochs
from funcnet.training._settings import Columns, Numbers, Settings, combinations, cut, first
from funcnet.training._step import (
    Loss,
    StepInfo,
    TrainState,
    TrainStep,
    init_state,
    make_train_step,
)

MakeOptimizer: TypeAlias = Callable[..., optax.GradientTransformation]
"""`learning_rate -> optax transformation`, such as `optax.sgd`."""

MEMORY_SHARE = 0.8
"""How much of the memory that is free a sweep may take, by default."""


class Stopped(Exception):
    """The sweep was asked to stop; it has the progress."""

    def __init__(self, progress: Any) -> None:
        """`progress`: where."""
        super().__init__(f"stopped in epoch {progress.epoch + 1}")
        self.progress = progress


class SweepState(NamedTuple):
    """What the next step of all models needs: their settings, and their states with an axis more.

    Attributes:
      settings: which never change.
      models: the models' states, stacked.
    """

    settings: Settings
    models: TrainState


class SweepRow(NamedTuple):
    """What there is to see of an epoch; an entry a model.

    Attributes:
      train_loss: the mean loss over its examples.
      validation_loss: the mean loss over the validation examples, after it.
      validation_accuracy: the share of them classified right, 0 to 1.
    """

    train_loss: Float[ArrayLike, "*models"]
    validation_loss: Float[ArrayLike, "*models"]
    validation_accuracy: Float[ArrayLike, "*models"]


class SweepProgress(NamedTuple):
    """How far a sweep has come.

    Attributes:
      num_parts: into how many parts it is cut, trained one after another.
      parts: the progress of those that were begun.
    """

    num_parts: int
    parts: tuple[Progress, ...] = ()

    @property
    def epoch(self) -> int:
        """How many epochs are behind all models."""
        return min((p.epoch for p in self.parts), default=0) if self.is_begun else 0

    @property
    def is_begun(self) -> bool:
        """Whether every part was begun."""
        return len(self.parts) == self.num_parts


class SweepResult(NamedTuple):
    """How a sweep ended; the first axis counts the models, in the order of `settings`.

    The losses of a model that diverged are not finite; its accuracy says nothing then, as NaN
    logits are the first class's.

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


def row_of_zeros(num_models: int) -> SweepRow:
    """The form of an epoch's row.

    >>> row_of_zeros(2).train_loss
    array([0., 0.], dtype=float32)
    """
    zeros = np.zeros(num_models, np.float32)
    return SweepRow(train_loss=zeros, validation_loss=zeros, validation_accuracy=zeros)


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
        params = jax.tree.map(lambda leaf: setting.scale.astype(leaf.dtype) * leaf, params)
        return init_state(params, _optimizer(optimizer, setting, params))

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
            transformation = _optimizer(optimizer, setting, one.params)
            return make_train_step(model.apply, loss, transformation)(one, batch)

        models, info = jax.vmap(step_one)(state.settings, state.models)
        return SweepState(settings=state.settings, models=models), info

    return step


def fit(
    model: Model,
    loss: Loss,
    data: Examples,
    *,
    validation: Examples,
    learning_rates: Numbers,
    seeds: Numbers,
    l2s: Numbers = (0.0,),
    scales: Numbers = (1.0,),
    optimizer: MakeOptimizer = optax.sgd,
    epochs: int = 10,
    batch_size: int = 128,
    order_seed: int = 0,
    memory: float | int | None = None,
    watch: Callable[[Iterable[int]], Iterable[int]] = lambda epochs: epochs,
    progress: SweepProgress | None = None,
    save: Callable[[SweepProgress], None] = lambda progress: None,
    stop: Callable[[], bool] = lambda: False,
) -> SweepResult:
    """Trains every combination of learning rate, seed, L2 weight and initial scale.

    Each model ends as it would if it were trained alone on the same batches: in epoch e those of
    `epoch_order(seed=order_seed, epoch=e)`.

    Args:
      model: the network.
      loss: `loss(logits, targets) -> one value an example`.
      data: the examples to learn from.
      validation: the examples to compare the models on. A test set is for the one that is chosen.
      learning_rates: step sizes, each once, as float32 has them.
      seeds: of the first parameters. The order of the examples is the same for all models.
      l2s: weights λ of the penalty `λ/2 ‖params‖²`.
      scales: what the first parameters are multiplied by.
      optimizer: `learning_rate -> optax transformation`.
      epochs: passes over the examples.
      batch_size: examples a step.
      order_seed: of the examples' order.
      memory: how many bytes the sweep may take; by default four fifths of what is free. One that
        needs more, which is known before it starts, is cut into parts, trained one after another.
      watch: wraps the epochs of each part, to show them as they pass.
      progress: where to go on from, which was handed to `save`; by default from the beginning.
      save: takes the progress after each epoch, and within long ones.
      stop: whether to stop, asked as often.

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
      ValueError: settings or examples that can't be trained with; a progress of other settings,
        or of more epochs; or one model alone needs more memory.
      TypeError: one of the settings is a number, not a list; the optimizer is one already made.
      Stopped: `stop` said so; it has the progress.
    """
    settings = combinations(learning_rates, seeds, l2s, scales)
    check_examples(data, batch_size, name="data")
    check_examples(validation, name="validation")
    _check_training(optimizer, epochs)
    divided, whole = across_devices("models")
    task = _Task(
        model=model,
        loss=loss,
        optimizer=optimizer,
        data=data,
        validation=jax.device_put(validation, whole),
        epochs=epochs,
        batch_size=batch_size,
        order_seed=order_seed,
        divided=divided,
        whole=whole,
    )
    programs = _make_programs(task, settings)
    if progress is None:
        memory = MEMORY_SHARE * free_memory(task.device) if memory is None else memory
        parts = _parts_that_fit(settings, functools.partial(_bytes, task, programs), memory)
        progress = SweepProgress(num_parts=len(parts))
    parts = cut(settings, progress.num_parts)
    _check_progress(progress, parts, epochs)
    reached = list(progress.parts)
    for index, part in enumerate(parts):
        if index == len(reached):
            reached.append(begin(init_sweep(model, part, optimizer), len(part.seed)))

        def keep(now: Progress, index: int = index) -> None:
            reached[index] = now
            save(progress._replace(parts=tuple(reached)))

        try:
            reached[index] = _train_part(task, programs, reached[index], watch, keep, stop)
        except Stopped:
            raise Stopped(progress._replace(parts=tuple(reached))) from None
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *map(_as_result, reached))


def _check_progress(progress: SweepProgress, parts: Sequence[Settings], epochs: int) -> None:
    """Refuses to go on from the progress of other settings, or from beyond the last epoch."""
    for part, reached in zip(parts, progress.parts, strict=False):
        if not all(map(np.array_equal, part, reached.state.settings)):
            raise ValueError(
                "progress: expected that of the same learning_rates, seeds, l2s and scales; "
                "got that of others."
            )
        if reached.epoch > epochs:
            raise ValueError(
                f"epochs: expected at least the {reached.epoch} of the progress; got {epochs}."
            )


def _check_training(optimizer: MakeOptimizer, epochs: int) -> None:
    if not callable(optimizer):
        raise TypeError(
            "optimizer: expected a function of the learning rate, such as optax.sgd; "
            f"got {type(optimizer).__name__}. Each model has its own rate: lambda rate: ..."
        )
    if epochs < 1:
        raise ValueError(f"epochs: expected a positive integer; got {epochs}.")


class _Task(NamedTuple):
    """What all parts of a sweep share: the arguments of `fit`, and how arrays lie on devices."""

    model: Model
    loss: Loss
    optimizer: MakeOptimizer
    data: Examples
    validation: Examples
    epochs: int
    batch_size: int
    order_seed: int
    divided: NamedSharding
    whole: NamedSharding

    @property
    def device(self) -> Device:
        return min(self.divided.device_set, key=lambda device: device.id)

    @property
    def is_on_host(self) -> bool:
        return self.device.platform == "cpu"

    @property
    def num_examples(self) -> int:
        return len(self.data.targets)

    def order(self, epoch: int) -> np.ndarray:
        return epoch_order(seed=self.order_seed, epoch=epoch, num_examples=self.num_examples)

    def segment(self, num_models: int) -> int:
        params = jax.eval_shape(self.model.init, jax.random.key(0))
        return segment_size(
            num_examples=self.num_examples,
            batch_size=self.batch_size,
            num_params=num_models * num_params(params),
        )


class _Programs(NamedTuple):
    """What is compiled for a sweep, each once.

    Attributes:
      train: `(models, examples) -> program`: the steps of so many models over so many examples.
      judge: `models -> program`: their evaluation on the validation examples.
    """

    train: Callable[[int, int], jax.stages.Compiled]
    judge: Callable[[int], jax.stages.Compiled]


def _make_programs(task: _Task, settings: Settings) -> _Programs:
    train_epoch = make_train_epoch(make_sweep_step(task.model, task.loss, task.optimizer))

    def state_of(num_models: int) -> SweepState:
        some = _padded(first(settings, num_models), task.divided.num_devices)
        state = jax.eval_shape(lambda: init_sweep(task.model, some, task.optimizer))
        return _laid_out(state, task.divided)

    @functools.cache
    def train(num_models: int, num_examples: int) -> jax.stages.Compiled:
        examples = _laid_out(first(task.data, num_examples), task.whole)
        lowered = train_epoch.lower(state_of(num_models), examples, batch_size=task.batch_size)
        return lowered.compile()

    @jax.jit
    def evaluate_each(params: Params, examples: Examples) -> Evaluation:
        apply, loss, batch_size = task.model.apply, task.loss, task.batch_size
        return jax.vmap(lambda p: evaluate(apply, loss, p, examples, batch_size=batch_size))(params)

    @functools.cache
    def judge(num_models: int) -> jax.stages.Compiled:
        params = state_of(num_models).models.params
        return evaluate_each.lower(params, _laid_out(task.validation, task.whole)).compile()

    return _Programs(train=train, judge=judge)


def _train_part(
    task: _Task,
    programs: _Programs,
    begun: Progress,
    watch: Callable[[Iterable[int]], Iterable[int]],
    save: Callable[[Progress], None],
    stop: Callable[[], bool],
) -> Progress:
    """Trains the models of a part to the last epoch; their state is then the host's."""
    num_models = begun.losses.shape[1]

    def on_devices(models: Any) -> Any:
        return jax.device_put(_padded(models, task.divided.num_devices), task.divided)

    def see(progress: Progress) -> SweepRow:
        params = on_devices(progress.state.models.params)
        judged = first(programs.judge(num_models)(params, task.validation), num_models)
        row = SweepRow(
            train_loss=_epoch_loss(progress.losses, task.num_examples, task.batch_size),
            validation_loss=judged.loss_sum / judged.examples,
            validation_accuracy=judged.correct / judged.examples,
        )
        return jax.tree.map(np.asarray, row)

    def train(state: SweepState, examples: Examples) -> tuple[SweepState, StepInfo]:
        program = programs.train(num_models, len(examples.targets))
        state, info = program(on_devices(state), examples)
        return first(state, num_models), StepInfo(loss=info.loss[:, :num_models])

    portions = Task(
        train=train,
        observe=see,
        examples=task.data if task.is_on_host else jax.device_put(task.data, task.whole),
        batch_size=task.batch_size,
        seed=task.order_seed,
        segment=task.segment(num_models),
        place=task.whole,
    )
    reached, epochs = begun, iter(watch(range(begun.epoch, task.epochs)))
    if begun.epoch < task.epochs and stop():
        raise Stopped(begun)
    for reached, _ in train_epochs(portions, begun, epochs=task.epochs):
        save(reached)
        if reached.is_between_epochs:
            _ = next(epochs)
        if reached.epoch < task.epochs and stop():
            raise Stopped(reached)
    _ = next(epochs, None)
    return reached._replace(state=jax.tree.map(np.asarray, reached.state))


def _optimizer(
    make: MakeOptimizer, setting: Settings, params: Params
) -> optax.GradientTransformation:
    """The gradient of the penalty, `λ params`, is added before the optimiser sees a gradient.

    The settings are taken in the parameters' dtype, so that what they are multiplied by keeps it.
    """
    dtype = jnp.result_type(*jax.tree.leaves(params))
    l2, learning_rate = setting.l2.astype(dtype), setting.learning_rate.astype(dtype)
    return optax.chain(optax.add_decayed_weights(l2), make(learning_rate))


def _padded(columns: Columns, multiple: int) -> Columns:
    """The models, the last repeated until their number is a multiple of this one."""
    count = len(jax.tree.leaves(columns)[0])
    places = np.minimum(np.arange(count + -count % multiple), count - 1)
    return jax.tree.map(lambda column: column[places], columns) if count % multiple else columns


def _laid_out(arrays: Any, place: NamedSharding) -> Any:
    """The shapes and dtypes of arrays that are to lie on these devices."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place), arrays)


def _bytes(task: _Task, programs: _Programs, num_models: int) -> int:
    """What so many models need: their training or their evaluation, whichever is the larger.

    And the next examples, which are put in place meanwhile. Each device needs as much; those of a
    CPU share its memory.
    """
    size = min(task.segment(num_models), task.num_examples)
    compiled = programs.train(num_models, size), programs.judge(num_models)
    waiting = sum(array.nbytes for array in first(task.data, size))
    sharing = task.divided.num_devices if task.is_on_host else 1
    return sharing * (max(map(_bytes_of, compiled)) + waiting)


def _bytes_of(program: jax.stages.Compiled) -> int:
    """Its arguments, its results, and what lies between."""
    stats: Any = program.memory_analysis()
    return stats.argument_size_in_bytes + stats.output_size_in_bytes + stats.temp_size_in_bytes


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
            return cut(settings, num_parts)
    raise ValueError(
        f"memory: expected {needed(1):,} bytes or more, which one model of the sweep needs; "
        f"{int(memory):,} may be taken. Try a smaller batch or a smaller model."
    )


def _doublings(last: int) -> list[int]:
    """1, 2, 4 ... up to the last number, and that."""
    return [*(2**i for i in range((last - 1).bit_length())), last]


def _epoch_loss(
    losses: Float[np.ndarray, "steps models"], num_examples: int, batch_size: int
) -> Float[Array, "models"]:
    """The mean over an epoch's examples of the losses of its steps, the last of which is ragged."""
    batch_sizes = np.diff([*range(0, num_examples, batch_size), num_examples])
    return jnp.average(losses, axis=0, weights=jnp.array(batch_sizes, losses.dtype))


def _as_result(progress: Progress) -> SweepResult:
    rows = jax.tree.map(lambda *epochs: jnp.stack(epochs, axis=1), *progress.rows)
    return SweepResult(
        settings=progress.state.settings, params=progress.state.models.params, **rows._asdict()
    )
