"""A training run, put together once: from a `TrainConfig` to a trained model and its files."""

import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeAlias

import jax
import numpy as np
import optax
import tyro

from funcnet import artifacts, models
from funcnet.activations import ACTIVATIONS
from funcnet.base import Examples, Model, Params, one_of
from funcnet.chain_rule import value_and_gradient
from funcnet.data import Dataset, load
from funcnet.devices import (
    DEVICES,
    Device,
    describe_device,
    select_device,
    suit_threads,
    use_every_core,
)
from funcnet.files import write_whole
from funcnet.fit import EpochInfo, fit
from funcnet.losses import LOSSES
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
    make_gradient_step,
    make_train_epoch,
    make_train_step,
    shuffled,
)

_MULTICLASS = {"cross_entropy": "softmax_cross_entropy", "squared_error": "softmax_squared_error"}
_BINARY = {"cross_entropy": "binary_cross_entropy", "squared_error": "sigmoid_squared_error"}
MODEL_LOSSES = {"logistic": _BINARY, "softmax": _MULTICLASS, "mlp": _MULTICLASS}
"""The losses of a model: their names on the command line, and in `losses.LOSSES`."""

CONSTRUCTORS = {"logistic": "logistic_regression", "softmax": "softmax_regression", "mlp": "mlp"}
"""The models: their names on the command line, and in `models` and `chain_rule`."""

GRADIENTS = ("jax", "hand")

OPTIMIZERS: dict[str, Callable[[float], optax.GradientTransformation]] = {
    "sgd": optax.sgd,
    "momentum": functools.partial(optax.sgd, momentum=0.9),
    "adam": optax.adam,
}
LEARNING_RATES = {"sgd": 0.3, "momentum": 0.05, "adam": 0.002}
SMALL = 10_000
"""Below this many training examples, batches are smaller and epochs more, by default."""


def _option(metavar: str, default: str | None = None) -> Any:
    """How the help text shows an option, with a default that depends on others in words."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=default and f"(default: {default})")


def _choice(names: Iterable[str], default: str | None = None) -> Any:
    """One of several names; `check` tells a wrong one's nearest, which a parser does not."""
    return _option("{" + ",".join(names) + "}", default)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Train a model on images of digits, or on data of your own, and report its test accuracy."""

    dataset: Annotated[str, _option("NAME|FILE")] = "digits"
    """digits (needs no network), mnist, fashion_mnist, kmnist, another name of
    tensorflow-datasets, or a path to an .npz or .csv file."""
    model: Annotated[str, _choice(MODEL_LOSSES)] = "softmax"
    """logistic: one class against the rest; softmax: all classes; mlp: with hidden layers."""
    hidden: Annotated[tuple[int, ...] | None, _option("UNITS ...", "128")] = None
    """Hidden units of each layer, of an mlp."""
    activation: Annotated[str | None, _choice(ACTIVATIONS, "relu")] = None
    """The activation of the hidden layers, of an mlp."""
    pieces: Annotated[int | None, _option("COUNT", "2")] = None
    """Affine pieces of each hidden unit, of an mlp with maxout."""
    target: Annotated[int | None, _option("CLASS", "0")] = None
    """The class to recognise, of logistic: an index from 0."""
    loss: Annotated[str, _choice(MODEL_LOSSES["softmax"])] = "cross_entropy"
    """What is minimised: the cross entropy, or the squared error of the probabilities."""
    optimizer: Annotated[str | None, _choice(OPTIMIZERS, "momentum for mlp, else sgd")] = None
    """Gradient descent: plain, with momentum 0.9, or Adam."""
    gradients: Annotated[str, _choice(GRADIENTS)] = "jax"
    """Where they come from: jax.grad, or the chain rule by hand."""
    learning_rate: Annotated[
        float | None,
        _option("RATE", ", ".join(f"{rate} for {name}" for name, rate in LEARNING_RATES.items())),
    ] = None
    """The step size."""
    batch_size: Annotated[
        int | None, _option("EXAMPLES", f"128, or 32 below {SMALL:,} training examples")
    ] = None
    """Training examples a step."""
    epochs: Annotated[
        int | None,
        _option("COUNT", f"10, for mlp 20, or 30 below {SMALL:,} training examples"),
    ] = None
    """Passes over the training examples."""
    seed: int = 0
    """Of the first parameters and of the examples' order; the same seed gives the same bits."""
    device: Annotated[str, _choice(DEVICES)] = "auto"
    """Where to compute; auto takes the accelerator where there is one."""
    data_dir: Annotated[
        Path | None, _option("FOLDER", "$TFDS_DATA_DIR or ~/tensorflow_datasets")
    ] = None
    """Where prepared data are kept."""
    manual_dir: Annotated[Path | None, _option("FOLDER", "fetch them")] = None
    """A folder with the original files of the data set, for a machine without a network."""
    label_column: str = "label"
    """The column of the classes, of a .csv file."""
    out: Annotated[Path | None, _option("FOLDER", "write nothing")] = None
    """Where to leave config.json, metrics.jsonl, params.safetensors, curves.png, summary.json."""
    sweep: Annotated[tuple[str, ...] | None, _option("NAME=VALUES ...", "train one model")] = None
    """Train every combination of several settings at once, and keep the best on held-out
    examples: learning_rate, seed, l2 and scale, as learning_rate=0.1,0.3 or seed=0:8."""
    quiet: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print the last line only."""


def check(config: TrainConfig) -> None:
    """Refuses what can be seen to be wrong before any data are loaded.

    >>> check(TrainConfig(device="gpo"))
    Traceback (most recent call last):
    ...
    ValueError: --device: expected one of auto, cpu, gpu; got 'gpo'. Did you mean 'gpu'?

    Raises:
      ValueError: the option, what was expected, what came.
    """
    model = one_of("--model", config.model, MODEL_LOSSES)
    _ = one_of("--loss", config.loss, MODEL_LOSSES[model])
    _ = one_of("--device", config.device, DEVICES)
    _ = one_of("--gradients", config.gradients, GRADIENTS)
    if config.optimizer is not None:
        _ = one_of("--optimizer", config.optimizer, OPTIMIZERS)
    if config.activation is not None:
        _ = one_of("--activation", config.activation, ACTIVATIONS)
    counts = {"pieces": config.pieces, "batch-size": config.batch_size, "epochs": config.epochs}
    for name, count in [*counts.items(), *(("hidden", units) for units in config.hidden or ())]:
        if count is not None and count < 1:
            raise ValueError(f"--{name}: expected a positive whole number; got {count}.")
    rate = config.learning_rate
    if rate is not None and not (rate > 0 and math.isfinite(rate)):
        raise ValueError(f"--learning-rate: expected a positive number; got {rate}.")
    if not 0 <= config.seed < 2**32:
        raise ValueError(f"--seed: expected a whole number from 0 to 2^32 - 1; got {config.seed}.")
    owners = {"hidden": "mlp", "activation": "mlp", "pieces": "mlp", "target": "logistic"}
    for option, owner in owners.items():
        if getattr(config, option) is not None and model != owner:
            raise ValueError(
                f"--{option}: expected only with --model {owner}; got --model {model}, which has "
                f"no use for it. Leave it out, or choose --model {owner}."
            )
    if config.hidden == ():
        raise ValueError("--hidden: expected the units of each hidden layer; got none.")
    if config.pieces is not None and config.activation != "maxout":
        raise ValueError("--pieces: expected only with --activation maxout.")


FullConfig: TypeAlias = Any
"""A `TrainConfig` after `with_defaults`: what its model needs is there, and not `None`."""


def with_defaults(config: TrainConfig, dataset: Dataset) -> FullConfig:
    """The configuration with every default filled in that depends on the model and the data.

    >>> config = with_defaults(TrainConfig(model="mlp"), load("digits"))
    >>> config.hidden, config.activation, config.optimizer, config.batch_size, config.epochs
    ((128,), 'relu', 'momentum', 32, 30)

    Raises:
      ValueError: the target is no class, or a batch is larger than the training set.
    """
    num_examples = len(dataset.train.targets)
    small, is_mlp = num_examples < SMALL, config.model == "mlp"
    optimizer = config.optimizer or ("momentum" if is_mlp else "sgd")
    defaults = {
        "hidden": (128,) if is_mlp else None,
        "activation": "relu" if is_mlp else None,
        "pieces": 2 if config.activation == "maxout" else None,
        "target": 0 if config.model == "logistic" else None,
        "optimizer": optimizer,
        "learning_rate": LEARNING_RATES[optimizer],
        "batch_size": min(num_examples, 32) if small else 128,
        "epochs": 30 if small else 20 if is_mlp else 10,
    }
    given = {k: v for k, v in vars(config).items() if v is not None}
    full: FullConfig = TrainConfig(**{**defaults, **given})
    if full.target is not None and not 0 <= full.target < dataset.num_classes:
        raise ValueError(
            f"--target: expected a class from 0 to {dataset.num_classes - 1} of {full.dataset}; "
            f"got {full.target}."
        )
    if full.batch_size > num_examples:
        raise ValueError(
            f"--batch-size: expected at most the {num_examples:,} training examples of "
            f"{full.dataset}; got {full.batch_size:,}."
        )
    return full


def build_model(config: TrainConfig, num_features: int, num_classes: int) -> Model:
    """The model of a configuration with its defaults filled in.

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
    """The examples of one class as class 1, all others as class 0.

    >>> one_against_the_rest(Examples(inputs=np.eye(3), targets=np.array([2, 0, 2])), 2).targets
    array([1, 0, 1], dtype=int32)
    """
    return examples._replace(targets=np.asarray(examples.targets == target, np.int32))


def build_step(config: FullConfig, apply: Apply) -> TrainStep:
    """The train step of a configuration with its defaults filled in."""
    optimizer = build_optimizer(config)
    loss = MODEL_LOSSES[config.model][config.loss]
    if config.gradients == "jax":
        return make_train_step(apply, LOSSES[loss], optimizer)
    activation = config.activation or "relu"
    by_hand = value_and_gradient(CONSTRUCTORS[config.model], loss, activation=activation)
    return make_gradient_step(by_hand, optimizer)


def build_optimizer(config: FullConfig) -> optax.GradientTransformation:
    """The optimiser of a configuration with its defaults filled in."""
    return OPTIMIZERS[config.optimizer](config.learning_rate)


class Program(NamedTuple):
    """A run's compiled functions.

    Attributes:
      train_epoch: `(state, examples) -> (state, info)`, of examples in the order of an epoch.
      evaluate: `params -> Evaluation`, of the test examples.
      compile_seconds: how long they took to compile.
    """

    train_epoch: Callable[[TrainState, Examples], tuple[TrainState, StepInfo]]
    evaluate: Callable[[Params], Evaluation]
    compile_seconds: float


def compile_program(
    step: TrainStep, apply: Apply, loss: Loss, state: TrainState, data: Dataset, batch_size: int
) -> Program:
    """Compiles an epoch and an evaluation ahead of their first call, and times that apart."""
    test = jax.device_put(data.test)
    start = time.perf_counter()
    train_epoch = make_train_epoch(step)
    train_epoch = train_epoch.lower(state, data.train, batch_size=batch_size).compile()
    evaluation = evaluate.lower(apply, loss, state.params, test).compile()
    return Program(
        train_epoch=train_epoch,
        evaluate=lambda params: evaluation(params, test),
        compile_seconds=time.perf_counter() - start,
    )


class Result(NamedTuple):
    """How a run ended.

    Attributes:
      model: the model.
      params: its trained parameters.
      history: what there is to see of each epoch.
      summary: what `summary.json` holds.
    """

    model: Model
    params: Params
    history: Sequence[EpochInfo]
    summary: dict[str, Any]


Epochs: TypeAlias = Iterator[tuple[TrainState, EpochInfo]]


class Setup(NamedTuple):
    """What a run begins with.

    Attributes:
      config: with its defaults filled in.
      device: where to compute.
      dataset: with the targets that the model has.
      model: the network.
      loss: what it minimises, one value an example.
    """

    config: FullConfig
    device: Device
    dataset: Dataset
    model: Model
    loss: Loss


def prepare(config: TrainConfig, say: Callable[[str], None]) -> Setup:
    """Checks a configuration, loads its data and builds its model.

    Raises:
      ValueError: the configuration, or the data, can't be used.
      OSError: a file, or the network, can't be used.
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
    if config.out is not None:
        artifacts.prepare_folder(config.out)
    model = build_model(config, dataset.train.inputs.shape[1], dataset.num_classes)
    loss = LOSSES[MODEL_LOSSES[config.model][config.loss]]
    say(f"data    {_describe_data(config, dataset)}")
    say(f"model   {_describe_model(config, model)}")
    return Setup(config=config, device=device, dataset=dataset, model=model, loss=loss)


def _spread_work(config: FullConfig, dataset: Dataset) -> None:
    """Decides how the work is spread over a CPU's cores, before JAX is used."""
    sizes = [dataset.train.inputs.shape[1], *(config.hidden or ()), dataset.num_classes]
    if config.sweep is not None:
        use_every_core()
    else:
        suit_threads(config.batch_size * max(m * n for m, n in itertools.pairwise(sizes)))


def run(
    config: TrainConfig,
    *,
    say: Callable[[str], None] = print,
    watch: Callable[[Epochs, int], Epochs] = lambda epochs, total: epochs,
) -> Result:
    """Trains as configured, and leaves the files of `artifacts` in `config.out`.

    Args:
      config: what to train, and how.
      say: takes the lines about the device, the data and the model.
      watch: wraps the epochs, to show them as they pass; called with their number.

    >>> result = run(TrainConfig(epochs=5), say=lambda line: None)
    >>> result.summary["test_accuracy"] > 0.9
    True

    Raises:
      ValueError: the configuration, or the data, can't be used.
      OSError: a file, or the network, can't be used.
      DivergenceError: the loss stopped being finite; `config.out` has the epochs before.
    """
    setup = prepare(config, say)
    with jax.default_device(setup.device):
        return _train(setup, watch)


def _train(setup: Setup, watch: Callable[[Epochs, int], Epochs]) -> Result:
    """Puts the parts together, and takes them apart again into files however it ends."""
    config, device, dataset, model, loss = setup
    params = jax.jit(model.init)(jax.random.key(config.seed))
    state = init_state(params, build_optimizer(config))
    program = compile_program(
        build_step(config, model.apply), model.apply, loss, state, dataset, config.batch_size
    )
    train = dataset.train if device.platform == "cpu" else jax.device_put(dataset.train)
    order = functools.partial(epoch_order, seed=config.seed, num_examples=len(train.targets))
    examples = (shuffled(train, order(epoch=epoch)) for epoch in range(config.epochs))
    epochs = fit(
        state,
        train_epoch=program.train_epoch,
        evaluate=program.evaluate,
        examples=map(jax.device_put, examples),
        epochs=config.epochs,
        batch_size=config.batch_size,
    )
    history: list[EpochInfo] = []
    try:
        for state, info in watch(epochs, config.epochs):  # noqa: B007
            history.append(info)
    finally:
        summary = {}
        if history:
            summary = summarise(config, device, history, program.compile_seconds)
            if config.out is not None:
                save(config.out, config, state.params, history, summary)
    return Result(model=model, params=state.params, history=history, summary=summary)


def summarise(
    config: FullConfig, device: Device, history: Sequence[EpochInfo], compile_seconds: float
) -> dict[str, Any]:
    """How a run ended, and on what, for `summary.json`.

    The speed is that of the steady epochs: all but the first, where there are more.
    """
    last, steady = history[-1], history[1:] or history
    examples = sum(info.seconds * info.examples_per_second for info in steady)
    return {
        "test_accuracy": last.test_accuracy,
        "test_correct": last.test_correct,
        "test_examples": last.test_examples,
        "test_loss": last.test_loss,
        "train_loss": last.train_loss,
        "epochs": last.epoch,
        "compile_seconds": compile_seconds,
        "train_seconds": sum(info.seconds for info in history),
        "examples_per_second": examples / sum(info.seconds for info in steady),
        "device": describe_device(device),
        "dataset": config.dataset,
        "model": config.model,
        "seed": config.seed,
        "jax_version": jax.__version__,
    }


def as_options(config: TrainConfig) -> dict[str, Any]:
    """What `config.json` holds."""
    return {k: str(v) if isinstance(v, Path) else v for k, v in vars(config).items()}


def save(
    folder: Path,
    config: FullConfig,
    params: Params,
    history: Sequence[EpochInfo],
    summary: dict[str, Any],
) -> None:
    """Writes the files that a run leaves behind, once all of them could be made."""
    title = f"{config.dataset}, {config.model}"
    lines = [artifacts.as_json(info._asdict()) for info in history]
    contents = {
        "config.json": artifacts.as_json(as_options(config), indent=2),
        "metrics.jsonl": b"".join(lines),
        "params.safetensors": artifacts.as_safetensors(params),
        "curves.png": artifacts.as_curves(history, title=title),
        "summary.json": artifacts.as_json(summary, indent=2),
    }
    for name, content in contents.items():
        write_whole(folder / name, content)


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
    params = jax.eval_shape(model.init, jax.random.key(0))
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    layers = "".join(f" {units}" for units in config.hidden or ())
    activation = f" {config.activation}" if config.activation else ""
    return (
        f"{config.model}{layers}{activation}, {count:,} parameters; {config.loss}, "
        f"{config.optimizer}, learning rate {config.learning_rate:g}, batch {config.batch_size}"
    )
