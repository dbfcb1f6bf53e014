"""From a configuration to a training: device, data, model, loss, and the compiled task."""

import dataclasses
import itertools
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax
import numpy as np
import optax

from funcnet import models, training
from funcnet.base import Model, num_params
from funcnet.chain_rule import value_and_gradient
from funcnet.data import Dataset, load
from funcnet.devices import Device, describe_device, select_device
from funcnet.losses import LOSSES
from funcnet.runs import config as options
from funcnet.runs._process import suit_threads, use_every_core
from funcnet.runs.config import CONSTRUCTORS, MODEL_LOSSES, OPTIMIZERS, FullConfig, TrainConfig

Say: TypeAlias = Callable[[str], None]  # takes a line for the person who runs the program


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """The parts of a run; the targets of `dataset` are those of the model."""

    config: FullConfig
    device: Device
    dataset: Dataset
    model: Model
    loss: training.Loss


def prepare(config: TrainConfig, say: Say) -> Setup:
    """Check a configuration, load its data and make its model."""
    options.check(config)
    folders = {"data_dir": config.data_dir, "manual_dir": config.manual_dir}
    dataset = load(config.dataset, label_column=config.label_column, **folders)
    config = options.with_defaults(config, dataset)
    sizes = [dataset.train.inputs.shape[1], *(config.hidden or ()), dataset.num_classes]
    if config.sweep is not None:
        use_every_core()
    else:
        suit_threads(config.batch_size * max(m * n for m, n in itertools.pairwise(sizes)))
    device = select_device(config.device)
    say(f"device  {describe_device(device)}")
    if config.target is not None:
        parts = (dataset.train, dataset.test)
        train, test = (p._replace(targets=np.int32(p.targets == config.target)) for p in parts)
        dataset = dataclasses.replace(dataset, train=train, test=test)
    model, loss = build_model(config, sizes), LOSSES[MODEL_LOSSES[config.model][config.loss]]
    setup = Setup(config=config, device=device, dataset=dataset, model=model, loss=loss)
    _describe(setup, say)
    return setup


def build_model(config: TrainConfig, sizes: Sequence[int]) -> Model:
    """Return a model whose layers have these sizes, from the features to the classes."""
    if config.model == "logistic":
        return models.logistic_regression(sizes[0])
    if config.model == "softmax":
        return models.softmax_regression(sizes[0], sizes[-1])
    return models.mlp(sizes, activation=config.activation or "relu", pieces=config.pieces or 2)


def build_step(setup: Setup) -> training.TrainStep:
    """Return the train step of a run."""
    config, optimizer = setup.config, _optimizer(setup.config)
    if config.gradients == "jax":
        step = training.make_train_step(setup.model.apply, setup.loss, optimizer)
    else:
        loss, activation = MODEL_LOSSES[config.model][config.loss], config.activation or "relu"
        by_hand = value_and_gradient(CONSTRUCTORS[config.model], loss, activation=activation)
        step = training.make_gradient_step(by_hand, optimizer)
    return training.skip_nonfinite(step) if config.on_nonfinite == "skip" else step


def _optimizer(config: FullConfig) -> optax.GradientTransformation:
    return OPTIMIZERS[config.optimizer](config.learning_rate)


def build(setup: Setup) -> tuple[training.Task, training.Progress, float]:
    """Return the compiled training, its progress before the first step, and the seconds it took."""
    config, train = setup.config, setup.dataset.train
    params = jax.jit(setup.model.init)(jax.random.key(config.seed))
    begun = training.Progress(state=training.init_state(params, _optimizer(config)))
    clock = time.perf_counter()
    train_epoch = training.make_train_epoch(build_step(setup))
    steps = training.compile_segments(
        train_epoch, begun.state, train, batch_size=config.batch_size, num_params=num_params(params)
    )
    test = jax.device_put(setup.dataset.test)
    evaluation = training.evaluate.lower(setup.model.apply, setup.loss, params, test).compile()

    def observe(progress: training.Progress) -> training.EpochInfo:
        return training.epoch_info(task, progress, evaluation(progress.state.params, test))

    compile_seconds = time.perf_counter() - clock
    task = training.Task(
        steps=steps,
        observe=observe,
        examples=train if setup.device.platform == "cpu" else jax.device_put(train),
        batch_size=config.batch_size,
        seed=config.seed,
    )
    return task, begun, compile_seconds


def _describe(setup: Setup, say: Say) -> None:
    """Say a line about the data, and one about the model and how it is trained."""
    config, dataset = setup.config, setup.dataset
    shape = " x ".join(map(str, dataset.image_shape or dataset.train.inputs.shape[1:]))
    classes = f"{dataset.num_classes} classes"
    if config.target is not None:
        classes = f"class {dataset.class_names[config.target]} against the rest"
    say(
        f"data    {config.dataset}: {len(dataset.train.targets):,} training and "
        f"{len(dataset.test.targets):,} test examples of {shape}, {classes}"
    )
    network = filter(None, (config.model, *(config.hidden or ()), config.activation))
    count = num_params(jax.eval_shape(setup.model.init, jax.random.key(0)))
    rate = "" if config.sweep is not None else f" learning rate {config.learning_rate:g},"
    say(
        f"model   {' '.join(map(str, network))}, {count:,} parameters; {config.loss}, "
        f"{config.optimizer},{rate} batch {config.batch_size}"
    )
