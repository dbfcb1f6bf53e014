"""A sweep from the command line: settings are parsed, compared on held-out examples, and chosen.

    python scripts/train.py --sweep learning_rate=0.01,0.03,0.1,0.3 seed=0:8

The models learn from nine tenths of each class of the training examples and are compared on the
tenth that is left. The test examples are seen once, by the model that was chosen.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float

from funcnet._files import write_whole
from funcnet.base import Model, one_of
from funcnet.data import Dataset, split
from funcnet.runs import _artifacts as artifacts
from funcnet.runs import _saving as saving
from funcnet.runs._build import Setup, prepare
from funcnet.runs._divergence import DivergenceError
from funcnet.runs._folder import check_epochs, make_write_checkpoint, occupied
from funcnet.runs._saving import Saved, Saver, form, like_packed, unpack
from funcnet.runs.config import OPTIMIZERS, FullConfig, TrainConfig
from funcnet.training import _checkpoint as checkpoint
from funcnet.training import _sweep as sweep
from funcnet.training._fit import Stopped, begin
from funcnet.training._settings import check_numbers
from funcnet.training._step import evaluate, is_finite
from funcnet.training._sweep import SweepProgress, SweepResult

AXES = {"learning_rate": "learning_rates", "seed": "seeds", "l2": "l2s", "scale": "scales"}
"""What can be swept: its name on the command line, and in `sweep.fit`."""

VALIDATION_SHARE = 0.1
"""How much of each class is held out for the comparison."""

MOST_SEEDS = 100_000
"""How many seeds one range may name: more is a slip, and the list alone would fill the memory."""

HEADER = "learning rate          l2       scale  validation accuracy"


class Setting(NamedTuple):
    """What the models of one row of the table share: all but the seed."""

    learning_rate: float
    l2: float
    scale: float

    def __str__(self) -> str:
        """As a sentence names it."""
        return f"learning rate {self.learning_rate:g}, l2 {self.l2:g}, scale {self.scale:g}"


def parse_sweep(specifications: Sequence[str]) -> dict[str, list[float] | list[int]]:
    """What `--sweep` says, as arguments of `sweep.fit`.

    >>> parse_sweep(["learning_rate=0.1,0.3", "seed=0:4"])
    {'learning_rates': [0.1, 0.3], 'seeds': [0, 1, 2, 3]}

    Raises:
      ValueError: nothing, an unknown name, one that comes twice, or values that are not numbers, or
        not as `sweep.fit` takes them.
    """
    axes: dict[str, Any] = {}
    for specification in specifications or [""]:
        name, _, values = specification.partition("=")
        axis = AXES[one_of("--sweep", name.replace("-", "_"), AXES)]
        if axis in axes:
            raise ValueError(f"--sweep: expected {name} once; got it again in {specification!r}.")
        numbers = _numbers(values, int if axis == "seeds" else float, specification)
        _ = check_numbers(axis, numbers, name=f"--sweep {name}")
        axes[axis] = numbers
    return axes


def tune(
    config: TrainConfig,
    *,
    say: Callable[[str], None] = print,
    watch: Callable[[Iterable[int]], Iterable[int]] = lambda epochs: epochs,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Trains every setting of `config.sweep`, shows them in a table, and keeps the best model.

    The best setting has the highest mean validation accuracy over its seeds; of its models the one
    is kept whose own is the highest. Models that diverged are neither counted nor kept.

    Args:
      config: what to train; where `sweep` names no learning rate or seed, its own is taken.
      say: takes the lines to print.
      watch: wraps the epochs, to show them as they pass.
      stop: whether to stop, asked every few seconds of computing.

    Returns:
      What `summary.json` in `config.out` holds.

    >>> config = TrainConfig(sweep=("learning_rate=0.001,0.3",), epochs=3)
    >>> tune(config, say=lambda line: None)["learning_rate"]
    0.3

    Raises:
      ValueError: the configuration, the settings or the data can't be used.
      OSError: a file, or the network, can't be used.
      DivergenceError: every model diverged; no model is saved.
      Stopped: `stop` said so; what was reached is saved in `config.out`.
    """
    axes = parse_sweep(config.sweep or ())
    if config.gradients != "jax":
        raise ValueError(f"--gradients: expected jax with --sweep; got {config.gradients}.")
    if config.on_nonfinite != "stop":
        raise ValueError(
            f"--on-nonfinite: expected stop with --sweep, whose other models go on; "
            f"got {config.on_nonfinite}."
        )
    setup = prepare(config, say)
    options: FullConfig = setup.config
    axes = {"learning_rates": [options.learning_rate], "seeds": [options.seed], **axes}
    with occupied(options, setup.dataset, say) as saved, jax.default_device(setup.device):
        result = _sweep(setup, axes, saved, say, watch, stop)
        groups, finite = group_by_setting(result), is_finite_model(result)
        for line in as_table(groups, result, finite):
            say(line)
        summary = _keep(setup, result, _without_diverged(groups, finite))
    best = Setting(summary["learning_rate"], summary["l2"], summary["scale"])
    say(f"best: {best}, seed {summary['seed']}")
    return summary


def _sweep(
    setup: Setup,
    axes: dict[str, Any],
    saved: Saved | None,
    say: Callable[[str], None],
    watch: Callable[[Iterable[int]], Iterable[int]],
    stop: Callable[[], bool],
) -> SweepResult:
    """Trains every combination, and saves what was reached however it ends."""
    options: FullConfig = setup.config
    make_optimizer = OPTIMIZERS[options.optimizer]
    train, validation = split(setup.dataset.train, share=VALIDATION_SHARE, name=options.dataset)
    progress = None
    if saved is not None:
        settings = sweep.combinations(**axes)
        progress = _restore(saved, setup.model, settings, make_optimizer)
        check_epochs(options, progress.epoch, say)
    saver = Saver(_pack, _make_write(options, setup.dataset))
    try:
        return sweep.fit(
            setup.model,
            setup.loss,
            train,
            validation=validation,
            optimizer=make_optimizer,
            epochs=options.epochs,
            batch_size=min(options.batch_size, len(train.targets)),
            order_seed=options.seed,
            watch=watch,
            progress=progress,
            save=saver.offer,
            stop=stop,
            **axes,
        )
    except Stopped as stopped:
        raise Stopped(stopped.progress, options.out) from None
    finally:
        saver.finish()


def _pack(progress: SweepProgress) -> Any:
    return tuple(map(saving.pack, progress.parts))


def _make_write(
    config: FullConfig, dataset: Dataset
) -> Callable[[Any, SweepProgress], None] | None:
    if config.out is None:
        return None
    write_checkpoint = make_write_checkpoint(config, dataset)

    def write(tree: Any, progress: SweepProgress) -> None:
        write_checkpoint(
            tree,
            step=sum(int(part.state.models.step[0]) for part in progress.parts),
            form={"num_parts": progress.num_parts, "parts": list(map(form, progress.parts))},
            is_finished=progress.is_begun and progress.epoch >= config.epochs,
        )

    return write


def _restore(
    saved: Saved, model: Model, settings: sweep.Settings, optimizer: sweep.MakeOptimizer
) -> SweepProgress:
    """The progress of the sweep of these settings that a checkpoint holds."""
    forms, num_parts = saved.record["form"]["parts"], saved.record["form"]["num_parts"]
    parts = sweep.cut(settings, num_parts)[: len(forms)]
    begun = [
        begin(jax.eval_shape(lambda p: sweep.init_sweep(model, p, optimizer), part), len(part.seed))
        for part in parts
    ]
    rows = [sweep.row_of_zeros(len(part.seed)) for part in parts]
    like = tuple(map(like_packed, begun, forms, rows))
    trees = checkpoint.restore(saved.path, like)
    return SweepProgress(num_parts=num_parts, parts=tuple(map(unpack, trees, forms, rows)))


def group_by_setting(result: SweepResult) -> dict[Setting, np.ndarray]:
    """Each setting, and the indices of its models, one a seed."""
    groups: dict[Setting, list[int]] = {}
    rates, _, l2s, scales = (map(_shortest, np.asarray(column)) for column in result.settings)
    for index, values in enumerate(zip(rates, l2s, scales, strict=True)):
        groups.setdefault(Setting(*values), []).append(index)
    return {setting: np.array(indices) for setting, indices in groups.items()}


def is_finite_model(result: SweepResult) -> Bool[np.ndarray, "models"]:
    """Which models did not diverge: their parameters and last validation loss are finite."""
    loss_is_finite = np.isfinite(result.validation_loss[:, -1])
    return np.asarray(jax.vmap(is_finite)(result.params)) & loss_is_finite


def as_table(
    groups: dict[Setting, np.ndarray], result: SweepResult, finite: Bool[np.ndarray, "models"]
) -> Iterator[str]:
    """A row a setting: the last epoch's validation accuracies, mean and standard deviation.

    Models that diverged are counted, and are not part of the mean.
    """
    num_seeds = len(next(iter(groups.values())))
    yield f"{HEADER}, mean ± deviation of {num_seeds} seeds" if num_seeds > 1 else HEADER
    for (rate, l2, scale), models in groups.items():
        accuracies = np.asarray(result.validation_accuracy)[models[finite[models]], -1]
        yield f"{rate:13g}  {l2:10g}  {scale:10g}  {_outcome(accuracies, num_seeds)}"


def _outcome(accuracies: Float[np.ndarray, "finite"], num_seeds: int) -> str:
    """What a row says of the models that did not diverge, and how many others there are.

    >>> _outcome(np.array([0.5, 0.7]), num_seeds=3)
    '0.6000 ± 0.1000, 1 of 3 diverged'
    """
    diverged = num_seeds - len(accuracies)
    if diverged == num_seeds:
        return "diverged"
    spread = f" ± {accuracies.std():.4f}" if num_seeds > 1 else ""
    note = f", {diverged} of {num_seeds} diverged" if diverged else ""
    return f"{accuracies.mean():.4f}{spread}{note}"


def _without_diverged(
    groups: dict[Setting, np.ndarray], finite: Bool[np.ndarray, "models"]
) -> dict[Setting, np.ndarray]:
    """The settings with models to choose from, and these."""
    if not finite.any():
        raise DivergenceError(
            f"all {len(finite)} models diverged: no validation loss is finite. "
            "Try smaller learning rates or l2 weights."
        )
    return {s: models[finite[models]] for s, models in groups.items() if finite[models].any()}


def _keep(setup: Setup, result: SweepResult, groups: dict[Setting, np.ndarray]) -> dict[str, Any]:
    """Chooses the best model, tests it, and leaves its files; what `summary.json` holds."""
    accuracies = np.asarray(result.validation_accuracy)[:, -1]
    setting = max(groups, key=lambda setting: accuracies[groups[setting]].mean())
    best = max(groups[setting], key=lambda model: accuracies[model])
    params = jax.tree.map(lambda leaf: leaf[best], result.params)
    test = evaluate(setup.model.apply, setup.loss, params, setup.dataset.test)
    summary = {
        "test_accuracy": test.accuracy,
        "test_correct": int(test.correct),
        "test_examples": int(test.examples),
        "test_loss": test.loss,
        "validation_accuracy": accuracies[best].item(),
        **setting._asdict(),
        "seed": result.settings.seed[best].item(),
        "models": len(accuracies),
    }
    folder = setup.config.out
    if folder is not None:
        accuracy = np.asarray(result.validation_accuracy)
        curves = {_label(setting, groups): accuracy[models] for setting, models in groups.items()}
        contents = {
            "sweep.json": artifacts.as_json(_as_record(result)),
            "params.safetensors": artifacts.as_safetensors(params),
            "curves.png": artifacts.as_sweep_curves(curves, title=_title(setup.config)),
            "summary.json": artifacts.as_json(summary, indent=2),
        }
        for name, content in contents.items():
            write_whole(folder / name, content)
    return summary


def _label(setting: Setting, settings: Iterable[Setting]) -> str:
    """What distinguishes a setting from the others, for a legend.

    >>> settings = [Setting(0.1, 0, 1), Setting(0.3, 0, 1)]
    >>> _label(settings[1], settings)
    'learning rate 0.3'
    """
    columns = zip(Setting._fields, setting, zip(*settings, strict=True), strict=True)
    differing = [(name, value) for name, value, column in columns if len(set(column)) > 1]
    parts = differing or [("learning_rate", setting.learning_rate)]
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in parts)


def _as_record(result: SweepResult) -> dict[str, Any]:
    """The settings, and each model's losses and accuracies, an entry a model."""
    rates, seeds, l2s, scales = map(np.asarray, result.settings)
    return {
        "learning_rate": list(map(_shortest, rates)),
        "seed": seeds.tolist(),
        "l2": list(map(_shortest, l2s)),
        "scale": list(map(_shortest, scales)),
        "train_loss": result.train_loss.tolist(),
        "validation_loss": result.validation_loss.tolist(),
        "validation_accuracy": result.validation_accuracy.tolist(),
    }


def _title(config: FullConfig) -> str:
    return f"{config.dataset}, {config.model}"


def _numbers(text: str, number: type, specification: str) -> list[Any]:
    """`0.1,0.3`, or for whole numbers also `0:8`, a range."""
    try:
        if number is int and ":" in text:
            first, end = (int(bound) for bound in text.split(":"))
            if not 0 < end - first <= MOST_SEEDS:
                raise ValueError
            return list(range(first, end))
        return [number(value) for value in text.split(",")]
    except ValueError as error:
        raise ValueError(
            "--sweep: expected NAME=NUMBER,NUMBER,... as in learning_rate=0.1,0.3, or "
            f"seed=FIRST:END as in seed=0:8, of 1 to {MOST_SEEDS:,} seeds; "
            f"got {specification!r}."
        ) from error


def _shortest(number: np.floating) -> float:
    """0.3 for the float32 that is nearest to it, not 0.30000001192092896."""
    return float(str(number))
