"""The options of a training: what there is, what is refused, and what is filled in.

To add an option, add a field to `TrainConfig`; its docstring is the help text. `check` refuses
a wrong value, `with_defaults` fills in a missing one, and `MAY_CHANGE` bounds `--resume`.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

import optax
import tyro

from funcnet.activations import ACTIVATIONS
from funcnet.base import UsageError, one_of
from funcnet.data import Dataset
from funcnet.devices import DEVICES
from funcnet.models import FITTING_LOSSES

CONSTRUCTORS = {"logistic": "logistic_regression", "softmax": "softmax_regression", "mlp": "mlp"}
"""The models: the name of each on the command line, and in `models` and `chain_rule`."""
MODEL_LOSSES = {name: FITTING_LOSSES[constructor] for name, constructor in CONSTRUCTORS.items()}

OPTIMIZERS: dict[str, Callable[[float], optax.GradientTransformation]] = {
    "sgd": optax.sgd,
    "momentum": functools.partial(optax.sgd, momentum=0.9),
    "adam": optax.adam,
}
LEARNING_RATES = {"sgd": 0.3, "momentum": 0.05, "adam": 0.002}
RATES = ", ".join(f"{rate} for {name}" for name, rate in LEARNING_RATES.items())

SMALL = 10_000  # training examples: with fewer, a default batch is smaller and epochs are more
FEW = f"below {SMALL:,} training examples"
MOST = 2**30  # the largest count that an option takes: XLA ends the process above 2^62 bytes

CHOICES: dict[str, Collection[str]] = {
    "model": CONSTRUCTORS,
    "activation": ACTIVATIONS,
    "loss": MODEL_LOSSES["softmax"],
    "optimizer": OPTIMIZERS,
    "gradients": ("jax", "hand"),
    "device": DEVICES,
    "on_nonfinite": ("stop", "skip"),
}

OWNERS = {  # the options that belong to one value of a different option, and their defaults
    "hidden": ("model", "mlp", (128,)),
    "activation": ("model", "mlp", "relu"),
    "pieces": ("activation", "maxout", 2),
    "target": ("model", "logistic", 0),
}

PATHS = ("data_dir", "manual_dir", "out", "resume")
MAY_CHANGE = (*PATHS, "epochs", "device", "quiet", "keep", "on_nonfinite")  # when a run is resumed


def _option(values: str, default: str | None = None) -> Any:
    """Describe its values, or name the list of `CHOICES`; say a default that depends on others."""
    metavar = f"{{{','.join(CHOICES[values])}}}" if values in CHOICES else values
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=default and f"(default: {default})")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Train a model on images of digits, or on data of your own, and report its test accuracy."""

    dataset: Annotated[str, _option("NAME|FILE")] = "digits"
    """digits (needs no network), mnist, fashion_mnist, kmnist, a different name of
    tensorflow-datasets, or a path to an .npz or .csv file."""
    model: Annotated[str, _option("model")] = "softmax"
    """logistic: one class against the rest; softmax: all classes; mlp: with hidden layers."""
    hidden: Annotated[tuple[int, ...] | None, _option("UNITS ...", "128")] = None
    """Hidden units of each layer of an mlp."""
    activation: Annotated[str | None, _option("activation", "relu")] = None
    """The activation of the hidden layers of an mlp."""
    pieces: Annotated[int | None, _option("COUNT", "2")] = None
    """Affine pieces of each hidden unit of an mlp with maxout."""
    target: Annotated[int | None, _option("CLASS", "0")] = None
    """The class that logistic recognises: an index from 0."""
    loss: Annotated[str, _option("loss")] = "cross_entropy"
    """The loss to minimise: the cross entropy, or the squared error of the probabilities."""
    optimizer: Annotated[str | None, _option("optimizer", "momentum for mlp, else sgd")] = None
    """Gradient descent: plain, with momentum 0.9, or Adam."""
    gradients: Annotated[str, _option("gradients")] = "jax"
    """How gradients are computed: by jax.grad, or by the chain rule by hand."""
    learning_rate: Annotated[float | None, _option("RATE", RATES)] = None
    """The step size."""
    batch_size: Annotated[int | None, _option("EXAMPLES", f"128, or 32 {FEW}")] = None
    """Training examples per step."""
    epochs: Annotated[int | None, _option("COUNT", f"10, for mlp 20, or 30 {FEW}")] = None
    """Passes over the training examples."""
    seed: int = 0
    """The seed of the first parameters and of the order of the examples. On a CPU, the same seed
    gives the same bits."""
    device: Annotated[str, _option("device")] = "auto"
    """Where to compute. auto takes the accelerator where there is one."""
    data_dir: Annotated[
        Path | None, _option("FOLDER", "$TFDS_DATA_DIR or ~/tensorflow_datasets")
    ] = None
    """Where prepared data are kept."""
    manual_dir: Annotated[Path | None, _option("FOLDER", "fetch them")] = None
    """A folder with the original files of the data set, for a machine without a network."""
    label_column: str = "label"
    """The column of the classes in a .csv file."""
    out: Annotated[Path | None, _option("FOLDER", "write nothing")] = None
    """Where to leave config.json, metrics.jsonl, params.safetensors, curves.png, summary.json, and
    checkpoints to resume from."""
    resume: Annotated[Path | None, _option("FOLDER", "begin anew")] = None
    """Go on with the run that was stopped there, with its options. --epochs may ask for more."""
    keep: Annotated[int, _option("COUNT")] = 3
    """How many checkpoints to keep."""
    on_nonfinite: Annotated[str, _option("on_nonfinite")] = "stop"
    """When a loss is not finite: stop and say which operation made it so, or skip such steps."""
    sweep: Annotated[tuple[str, ...] | None, _option("NAME=VALUES ...", "train one model")] = None
    """Train every combination of several settings at once, and keep the best on held-out
    examples: learning_rate, seed, l2 and scale, as learning_rate=0.1,0.3 or seed=0:8. A seed here
    is of the first parameters alone; the order of the examples is by --seed. Leaves sweep.json."""
    quiet: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print the last line only."""


def check(config: TrainConfig) -> None:
    """Refuse what is wrong before any data are loaded."""
    for name, names in CHOICES.items():
        if getattr(config, name) is not None:
            _ = one_of(name, getattr(config, name), names)
    _check_numbers(config)
    for name, (owner, value, _) in OWNERS.items():
        got = getattr(config, owner)
        if getattr(config, name) is not None and got != value:
            came = "" if got is None else f"; got --{owner} {got}, which has no use for it"
            raise UsageError(
                f"{name}: expected only with --{owner} {value}{came}. "
                f"Leave it out, or choose --{owner} {value}."
            )
    if config.resume not in (None, config.out):
        raise UsageError(
            f"out: expected the folder of --resume, or nothing; got {config.out}. "
            "In Python, runs.stored_config(folder) is the configuration to go on with."
        )


def _check_numbers(config: TrainConfig) -> None:
    if config.hidden == ():
        raise UsageError("hidden: expected the units of each hidden layer; got none.")
    for name in ("hidden", "pieces", "batch_size", "epochs", "keep"):
        value = getattr(config, name)
        for count in value if isinstance(value, tuple) else (value,):
            if count is not None and not 1 <= count <= MOST:
                limit = f" up to {MOST:,}" if count > MOST else ""
                raise UsageError(f"{name}: expected a positive whole number{limit}; got {count}.")
    rate = config.learning_rate
    if rate is not None and not (rate > 0 and math.isfinite(rate)):
        raise UsageError(f"learning_rate: expected a positive number; got {rate}.")
    if not 0 <= config.seed < 2**32:
        raise UsageError(f"seed: expected a whole number from 0 to 2^32 - 1; got {config.seed}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FullConfig(TrainConfig):
    """A `TrainConfig` after `with_defaults`: every option that its model needs has a value."""

    optimizer: str = dataclasses.field()
    learning_rate: float = dataclasses.field()
    batch_size: int = dataclasses.field()
    epochs: int = dataclasses.field()


def with_defaults(config: TrainConfig, dataset: Dataset) -> FullConfig:
    """Fill in every default that depends on the model and the data.

    >>> from funcnet.data import load
    >>> config = with_defaults(TrainConfig(model="mlp"), load("digits"))
    >>> config.hidden, config.activation, config.optimizer, config.batch_size, config.epochs
    ((128,), 'relu', 'momentum', 32, 30)
    """
    num_examples = len(dataset.train.targets)
    small, is_mlp = num_examples < SMALL, config.model == "mlp"
    owned = {name: own for name, (at, value, own) in OWNERS.items() if getattr(config, at) == value}
    optimizer = config.optimizer or ("momentum" if is_mlp else "sgd")
    defaults = {
        **owned,
        "optimizer": optimizer,
        "learning_rate": LEARNING_RATES[optimizer],
        "batch_size": min(num_examples, 32) if small else 128,
        "epochs": 30 if small else 20 if is_mlp else 10,
    }
    given = {name: value for name, value in vars(config).items() if value is not None}
    full = FullConfig(**{**defaults, **given})
    if full.target is not None and not 0 <= full.target < dataset.num_classes:
        raise UsageError(
            f"target: expected a class from 0 to {dataset.num_classes - 1} of {full.dataset}; "
            f"got {full.target}."
        )
    if full.batch_size > num_examples:
        raise UsageError(
            f"batch_size: expected at most the {num_examples:,} training examples of "
            f"{full.dataset}; got {full.batch_size:,}."
        )
    return full


def as_options(config: TrainConfig) -> dict[str, Any]:
    """Return the options as JSON can hold them."""
    return {k: str(v) if isinstance(v, Path) else v for k, v in vars(config).items()}


def from_options(options: Mapping[str, Any]) -> TrainConfig:
    """Return the configuration that `as_options` wrote."""
    try:  # a damaged file may hold any name and any type
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
        paths = {k: Path(v) for k, v in options.items() if k in PATHS and v is not None}
        config = TrainConfig(**{**values, **paths})
        check(config)
    except (TypeError, AttributeError, UsageError) as error:
        raise UsageError(f"expected the options of a run; got {error}") from error
    return config


def check_unchanged(stored: TrainConfig, config: TrainConfig) -> None:
    """Refuse to resume a run with different options, those in `MAY_CHANGE` apart."""
    changed = [
        f"--{name.replace('_', '-')} {_words(value)} (was {_words(getattr(stored, name))})"
        for name, value in vars(config).items()
        if name not in MAY_CHANGE and value != getattr(stored, name)
    ]
    if changed:
        raise UsageError(
            f"resume: expected the options that the run began with; got {', '.join(changed)}. "
            "Leave them out, or begin a new run in a different --out."
        )


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
