"""What a run can be told: every option, its default, and what is refused."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import optax
import tyro

from funcnet.activations import ACTIVATIONS
from funcnet.base import one_of
from funcnet.data import Dataset
from funcnet.devices import DEVICES
from funcnet.models import FITTING_LOSSES

CONSTRUCTORS = {"logistic": "logistic_regression", "softmax": "softmax_regression", "mlp": "mlp"}
"""The models: their names on the command line, and in `models` and `chain_rule`."""

MODEL_LOSSES = {name: FITTING_LOSSES[constructor] for name, constructor in CONSTRUCTORS.items()}
"""The losses that fit each model of the command line."""

GRADIENTS = ("jax", "hand")

ON_NONFINITE = ("stop", "skip", "rollback")

MAY_CHANGE = (
    "epochs", "device", "data_dir", "manual_dir", "quiet", "out", "resume", "keep", "on_nonfinite",
)  # fmt: skip
"""The options that may be others when a run goes on."""

PATHS = ("data_dir", "manual_dir", "out", "resume")

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
    """Of the first parameters and of the examples' order; on a CPU the same gives the same bits."""
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
    """Where to leave config.json, metrics.jsonl, params.safetensors, curves.png, summary.json, and
    checkpoints to go on from."""
    resume: Annotated[Path | None, _option("FOLDER", "begin anew")] = None
    """Go on with the run that was stopped there, as configured there; more epochs may be asked."""
    keep: Annotated[int, _option("COUNT")] = 3
    """How many checkpoints to keep."""
    on_nonfinite: Annotated[str, _choice(ON_NONFINITE)] = "stop"
    """Where a loss is not finite: stop and say where it was born; skip such steps; or roll back,
    and go on with half the learning rate."""
    sweep: Annotated[tuple[str, ...] | None, _option("NAME=VALUES ...", "train one model")] = None
    """Train every combination of several settings at once, and keep the best on held-out
    examples: learning_rate, seed, l2 and scale, as learning_rate=0.1,0.3 or seed=0:8. A seed here
    is of the first parameters alone; the order of the examples is by --seed. Leaves sweep.json."""
    quiet: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print the last line only."""


def check(config: TrainConfig) -> None:
    """Refuses what can be seen to be wrong before any data are loaded.

    >>> check(TrainConfig(device="gpo"))
    Traceback (most recent call last):
    ...
    funcnet.UsageError: --device: expected one of auto, cpu, gpu; got 'gpo'. Did you mean 'gpu'?

    Raises:
      ValueError: the option, what was expected, what came.
    """
    model = one_of("--model", config.model, MODEL_LOSSES)
    _ = one_of("--loss", config.loss, MODEL_LOSSES[model])
    _ = one_of("--device", config.device, DEVICES)
    _ = one_of("--gradients", config.gradients, GRADIENTS)
    _ = one_of("--on-nonfinite", config.on_nonfinite, ON_NONFINITE)
    if config.optimizer is not None:
        _ = one_of("--optimizer", config.optimizer, OPTIMIZERS)
    if config.activation is not None:
        _ = one_of("--activation", config.activation, ACTIVATIONS)
    counts = {
        "pieces": config.pieces,
        "batch-size": config.batch_size,
        "epochs": config.epochs,
        "keep": config.keep,
    }
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
    if config.resume not in (None, config.out):
        raise ValueError(
            f"--out: expected the folder of --resume, or nothing; got {config.out}. "
            "In Python, workplace.stored_config(folder) is the configuration to go on with."
        )
    if config.hidden == ():
        raise ValueError("--hidden: expected the units of each hidden layer; got none.")
    if config.pieces is not None and config.activation != "maxout":
        raise ValueError("--pieces: expected only with --activation maxout.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FullConfig(TrainConfig):
    """A `TrainConfig` after `with_defaults`: what every model needs is there."""

    optimizer: str = dataclasses.field()
    learning_rate: float = dataclasses.field()
    batch_size: int = dataclasses.field()
    epochs: int = dataclasses.field()


def with_defaults(config: TrainConfig, dataset: Dataset) -> FullConfig:
    """The configuration with every default filled in that depends on the model and the data.

    >>> from funcnet.data import load
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
    full = FullConfig(**{**defaults, **given})
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


def as_options(config: TrainConfig) -> dict[str, Any]:
    """What `config.json` holds."""
    return {k: str(v) if isinstance(v, Path) else v for k, v in vars(config).items()}


def from_options(options: Mapping[str, Any]) -> TrainConfig:
    """The configuration that `as_options` wrote.

    >>> from_options(as_options(TrainConfig(model="mlp", hidden=(32,), out=Path("a")))).hidden
    (32,)

    Raises:
      ValueError: these are not the options of a run.
    """
    try:
        values: dict[str, Any] = {name: _as_value(name, v) for name, v in options.items()}
        config = TrainConfig(**values)
        check(config)
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"expected the options of a run; got {error}") from error
    return config


def _as_value(name: str, value: Any) -> Any:
    if name in PATHS:
        return None if value is None else Path(value)
    return tuple(value) if isinstance(value, list) else value


def check_unchanged(stored: TrainConfig, config: TrainConfig) -> None:
    """Refuses a run that goes on with other options than it began with.

    >>> check_unchanged(TrainConfig(seed=1), TrainConfig(seed=2))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: --resume: expected the options that the run began with; got --seed 2 (was 1). ...

    Raises:
      ValueError: an option differs that may not.
    """
    changed = [
        f"--{name.replace('_', '-')} {_words(value)} (was {_words(getattr(stored, name))})"
        for name, value in vars(config).items()
        if name not in MAY_CHANGE and value != getattr(stored, name)
    ]
    if changed:
        raise ValueError(
            f"--resume: expected the options that the run began with; got {', '.join(changed)}. "
            "Leave them out, or begin a run of its own in another --out."
        )


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
