"""From a configuration to a training: device, data, model, loss, and the compiled task."""

import dataclasses
import itertools
import time
from collections.abc import Callable

import jax
import numpy as np
import optax

from funcnet import models
from funcnet.base import Examples, Model, num_params
from funcnet.chain_rule import value_and_gradient
from funcnet.data import Dataset, load
from funcnet.devices import Device, describe_device, select_device
from funcnet.losses import LOSSES
from funcnet.runs._process import suit_threads, use_every_core
from funcnet.runs.config import (
    CONSTRUCTORS,
    MODEL_LOSSES,
    OPTIMIZERS,
    FullConfig,
    TrainConfig,
    check,
    with_defaults,
)
from funcnet.training import (
    EpochInfo,
    Loss,
    Progress,
    Task,
    TrainStep,
    begin,
    compile_segments,
    epoch_info,
    evaluate,
    init_state,
    make_gradient_step,
    make_train_epoch,
    make_train_step,
    segment_size,
    skip_nonfinite,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """The parts of a run.

    Attributes:
      config: the options, with their defaults filled in.
      device: where to compute.
      dataset: the data, with the targets that the model has.
      model: the network.
      loss: the loss to minimise, one value per example.
    """

    config: FullConfig
    device: Device
    dataset: Dataset
    model: Model
    loss: Loss


def prepare(config: TrainConfig, say: Callable[[str], None]) -> Setup:
    """Check a configuration, load its data and make its model.

    Raises:
      UsageError: the configuration, or the data, cannot be used.
      OSError: a file, or the network, cannot be used.
    """
    check(config)
    dataset = load(
        config.dataset,
        data_dir=config.data_dir,
        manual_dir=config.manual_dir,
        label_column=config.label_column,
    )
    config = with_defaults(config, dataset)
    _spread_work(config, dataset)
    device = select_device(config.device)
    say(f"device  {describe_device(device)}")
    if config.target is not None:
        dataset = dataset._replace(
            train=one_against_the_rest(dataset.train, config.target),
            test=one_against_the_rest(dataset.test, config.target),
        )
    model = build_model(config, dataset.train.inputs.shape[1], dataset.num_classes)
    loss = LOSSES[MODEL_LOSSES[config.model][config.loss]]
    say(f"data    {_describe_data(config, dataset)}")
    say(f"model   {_describe_model(config, model)}")
    return Setup(config=config, device=device, dataset=dataset, model=model, loss=loss)


def build_model(config: TrainConfig, num_features: int, num_classes: int) -> Model:
    """Return the model of a configuration with its defaults filled in.

    >>> config = TrainConfig(model="mlp", hidden=(32,), activation="tanh")
    >>> jax.tree.map(jax.numpy.shape, build_model(config, 64, 10).init(jax.random.key(0)))
    (Linear(weight=(32, 64), bias=(32,)), Linear(weight=(10, 32), bias=(10,)))
    """
    if config.model == "logistic":
        return models.logistic_regression(num_features)
    if config.model == "softmax":
        return models.softmax_regression(num_features, num_classes)
    sizes = [num_features, *(config.hidden or ()), num_classes]
    return models.mlp(sizes, activation=config.activation or "relu", pieces=config.pieces or 2)


def one_against_the_rest(examples: Examples, target: int) -> Examples:
    """Return the examples with one class as class 1 and all others as class 0.

    >>> one_against_the_rest(Examples(inputs=np.eye(3), targets=np.array([2, 0, 2])), 2).targets
    array([1, 0, 1], dtype=int32)
    """
    return examples._replace(targets=np.asarray(examples.targets == target, np.int32))


def build_step(setup: Setup) -> TrainStep:
    """Return the train step of a run."""
    step = _build_step(setup, build_optimizer(setup.config))
    return skip_nonfinite(step) if setup.config.on_nonfinite == "skip" else step


def _build_step(setup: Setup, optimizer: optax.GradientTransformation) -> TrainStep:
    config = setup.config
    if config.gradients == "jax":
        return make_train_step(setup.model.apply, setup.loss, optimizer)
    loss, activation = MODEL_LOSSES[config.model][config.loss], config.activation or "relu"
    by_hand = value_and_gradient(CONSTRUCTORS[config.model], loss, activation=activation)
    return make_gradient_step(by_hand, optimizer)


def build_optimizer(config: FullConfig) -> optax.GradientTransformation:
    """Return the optimiser of a configuration with its defaults filled in."""
    return OPTIMIZERS[config.optimizer](config.learning_rate)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """A run, ready to train.

    Attributes:
      task: the compiled steps and their examples.
      begun: the progress before the first step.
      compile_seconds: how long compiling took.
    """

    task: Task
    begun: Progress
    compile_seconds: float


def build(setup: Setup) -> Training:
    """Make the first parameters, and compile the steps and the evaluation."""
    config, train = setup.config, setup.dataset.train
    params = jax.jit(setup.model.init)(jax.random.key(config.seed))
    begun = begin(init_state(params, build_optimizer(config)))
    sizes = {"batch_size": config.batch_size, "num_examples": len(train.targets)}
    segment = segment_size(num_params=num_params(params), **sizes)
    clock = time.perf_counter()
    train_epoch = make_train_epoch(build_step(setup))
    steps = compile_segments(
        train_epoch, begun.state, train, batch_size=config.batch_size, segment=segment
    )
    test = jax.device_put(setup.dataset.test)
    evaluation = evaluate.lower(setup.model.apply, setup.loss, params, test).compile()

    def observe(progress: Progress) -> EpochInfo:
        return epoch_info(progress, evaluation(progress.state.params, test), **sizes)

    compile_seconds = time.perf_counter() - clock
    task = Task(
        train=lambda state, some: steps[len(some.targets)](state, some),
        observe=observe,
        examples=train if setup.device.platform == "cpu" else jax.device_put(train),
        batch_size=config.batch_size,
        seed=config.seed,
        segment=segment,
    )
    return Training(task=task, begun=begun, compile_seconds=compile_seconds)


def _spread_work(config: FullConfig, dataset: Dataset) -> None:
    """Decide how the work is spread over a CPU's cores, before JAX is used."""
    sizes = [dataset.train.inputs.shape[1], *(config.hidden or ()), dataset.num_classes]
    if config.sweep is not None:
        use_every_core()
    else:
        suit_threads(config.batch_size * max(m * n for m, n in itertools.pairwise(sizes)))


def _describe_data(config: FullConfig, dataset: Dataset) -> str:
    num_train, num_features = dataset.train.inputs.shape
    shape = " x ".join(map(str, dataset.image_shape or (num_features,)))
    classes = (
        f"{dataset.num_classes} classes"
        if config.target is None
        else f"class {dataset.class_names[config.target]} against the rest"
    )
    return (
        f"{config.dataset}: {num_train:,} training and {len(dataset.test.targets):,} test "
        f"examples of {shape}, {classes}"
    )


def _describe_model(config: FullConfig, model: Model) -> str:
    count = num_params(jax.eval_shape(model.init, jax.random.key(0)))
    layers = "".join(f" {units}" for units in config.hidden or ())
    activation = f" {config.activation}" if config.activation else ""
    rate = "" if config.sweep is not None else f" learning rate {config.learning_rate:g},"
    return (
        f"{config.model}{layers}{activation}, {count:,} parameters; {config.loss}, "
        f"{config.optimizer},{rate} batch {config.batch_size}"
    )
