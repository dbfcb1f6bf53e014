"""A sweep from the command line: parse the settings, train, compare, choose, test, leave the files.

    python scripts/train.py --sweep learning_rate=0.01,0.03,0.1,0.3 seed=0:8

The models learn from nine tenths of each class of the training examples, and are compared on the
held-out tenth. Only the chosen model sees the test examples, once.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float

from funcnet.base import UsageError, one_of
from funcnet.data import split
from funcnet.runs._artifacts import as_json, as_safetensors, as_sweep_curves
from funcnet.runs._build import Setup, prepare
from funcnet.runs._divergence import DivergenceError
from funcnet.runs._folder import RunFolder, run_folder
from funcnet.runs._run import Watch, stop_if_asked, unseen
from funcnet.runs.config import OPTIMIZERS, TrainConfig
from funcnet.training import evaluate, is_finite, sweep, train_epochs

VALIDATION_SHARE = 0.1  # of each class of the training examples, which is held out

MOST_SEEDS = 100_000  # in one range; the list of a longer one could fill the memory

HEADER = "learning rate          l2       scale  validation accuracy"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """The settings that the models of one row of the table share: all but the seed."""

    learning_rate: float
    l2: float
    scale: float

    def words(self, names: Iterable[str] = ("learning_rate", "l2", "scale")) -> str:
        """Return some of the settings in words."""
        return ", ".join(f"{name.replace('_', ' ')} {getattr(self, name):g}" for name in names)


def parse_sweep(specifications: Sequence[str]) -> dict[str, list[Any]]:
    """Return the values of `--sweep` as arguments of `sweep.combinations`.

    >>> parse_sweep(["learning_rate=0.1,0.3", "seed=0:4"])
    {'learning_rates': [0.1, 0.3], 'seeds': [0, 1, 2, 3]}

    Raises:
      UsageError: if there is none, a name is unknown or comes twice, or the values are not numbers
        that `sweep.combinations` takes.
    """
    lists: dict[str, list[Any]] = {}
    for specification in specifications or [""]:
        name, _, values = specification.partition("=")
        setting = one_of("sweep", name.replace("-", "_"), sweep.AXES)
        if f"{setting}s" in lists:
            raise UsageError(f"sweep: expected {name} once; got it again in {specification!r}.")
        numbers = _numbers(values, int if setting == "seed" else float, specification)
        _ = sweep.check_numbers(setting, numbers, name=f"sweep: {name}")
        lists[f"{setting}s"] = numbers
    return lists


def _numbers(text: str, number: type, specification: str) -> list[Any]:
    """Return the numbers of `0.1,0.3`, or, if they are whole, also of a range, `0:8`."""
    try:
        if number is int and ":" in text:
            first, end = (int(bound) for bound in text.split(":"))
            if not 0 < end - first <= MOST_SEEDS:
                raise ValueError
            return list(range(first, end))
        return [number(value) for value in text.split(",")]
    except ValueError as error:
        raise UsageError(
            "sweep: expected NAME=NUMBER,NUMBER,... as in learning_rate=0.1,0.3, or "
            f"seed=FIRST:END as in seed=0:8, of 1 to {MOST_SEEDS:,} seeds; "
            f"got {specification!r}."
        ) from error


def tune(
    config: TrainConfig,
    *,
    say: Callable[[str], None] = print,
    watch: Watch = unseen,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train every setting of `config.sweep`, show them in a table, and keep the best model.

    The best setting has the highest mean validation accuracy over its seeds; of its models, the one
    with the highest validation accuracy is kept. Models that diverged are not compared.

    Args:
      config: the options; if `sweep` names no learning rate or seed, the option of that name holds.
      say: takes the lines to print.
      watch: shows the epochs as they pass.
      stop: returns whether to stop; it is called every few seconds of computing.

    Returns:
      The content of `summary.json` in `config.out`.

    >>> config = TrainConfig(sweep=("learning_rate=0.001,0.3",), epochs=3)
    >>> tune(config, say=lambda line: None)["learning_rate"]
    0.3

    Raises:
      UsageError: the configuration, the settings, the data or the folder cannot be used.
      OSError: a file, or the network, cannot be used.
      DivergenceError: every model diverged; no model is saved.
      Stopped: `stop()` returned True; `config.out` holds the progress.
    """
    lists = parse_sweep(config.sweep or ())
    _check_options(config, lists)
    setup = prepare(config, say)
    rate, seed = setup.config.learning_rate, setup.config.seed
    with (
        run_folder(setup.config, setup.dataset, say) as folder,
        jax.default_device(setup.device),
    ):
        settings = sweep.combinations(**{"learning_rates": [rate], "seeds": [seed], **lists})
        result = _train(setup, settings, folder, watch, stop)
        groups, finite = group_by_setting(result), is_finite_model(result)
        for line in as_table(groups, result, finite):
            say(line)
        summary = _keep(setup, folder, result, _without_diverged(groups, finite))
    best = Setting(**{name: summary[name] for name in Setting.__dataclass_fields__})
    say(f"best: {best.words()}, seed {summary['seed']}")
    return summary


def _check_options(config: TrainConfig, lists: dict[str, list[Any]]) -> None:
    """Refuse options that a sweep has no use for; a resumed run has its defaults filled in."""
    if config.gradients != "jax":
        raise UsageError(f"gradients: expected jax with --sweep; got {config.gradients}.")
    if config.on_nonfinite != "stop":
        raise UsageError(
            f"on_nonfinite: expected stop with --sweep, whose other models go on; "
            f"got {config.on_nonfinite}."
        )
    rate = config.learning_rate
    if rate is not None and config.resume is None and "learning_rates" in lists:
        raise UsageError(
            f"learning_rate: expected none beside --sweep learning_rate=...; got {rate:g}. "
            "Leave it out, or add it to the sweep."
        )


def _train(
    setup: Setup,
    settings: sweep.Settings,
    folder: RunFolder,
    watch: Watch,
    stop: Callable[[], bool],
) -> sweep.SweepResult:
    """Train one model per setting, and save the progress however the training ends."""
    options, zeros = setup.config, np.zeros(len(settings.seed), np.float32)
    train, validation = split(setup.dataset.train, share=VALIDATION_SHARE, name=options.dataset)
    task, begun = sweep.make_task(
        setup.model,
        setup.loss,
        train,
        settings,
        validation=validation,
        optimizer=OPTIMIZERS[options.optimizer],
        batch_size=min(options.batch_size, len(train.targets)),
        order_seed=options.seed,
    )
    row = sweep.SweepRow(train_loss=zeros, validation_loss=zeros, validation_accuracy=zeros)
    progress = folder.latest(begun, row)
    try:
        with watch(options.epochs) as show:
            stop_if_asked(stop, setup, progress)
            for after, _ in train_epochs(task, progress, epochs=options.epochs):
                progress = after
                folder.save(progress)
                if progress.is_between_epochs:
                    show(progress)
                stop_if_asked(stop, setup, progress)
    finally:
        folder.save(progress, now=True)
    return sweep.as_result(progress)


def group_by_setting(result: sweep.SweepResult) -> dict[Setting, np.ndarray]:
    """Return each setting with the indices of its models, one per seed."""
    groups: dict[Setting, list[int]] = {}
    rates, _, l2s, scales = map(_as_written, result.settings)
    for index, (rate, l2, scale) in enumerate(zip(rates, l2s, scales, strict=True)):
        groups.setdefault(Setting(learning_rate=rate, l2=l2, scale=scale), []).append(index)
    return {setting: np.array(indices) for setting, indices in groups.items()}


def is_finite_model(result: sweep.SweepResult) -> Bool[np.ndarray, "models"]:
    """Return which models did not diverge: parameters and last validation loss are finite."""
    loss_is_finite = np.isfinite(result.validation_loss[:, -1])
    return np.asarray(jax.vmap(is_finite)(result.params)) & loss_is_finite


def as_table(
    groups: dict[Setting, np.ndarray], result: sweep.SweepResult, finite: Bool[np.ndarray, "models"]
) -> Iterator[str]:
    """Yield one row per setting: the mean and deviation of the last validation accuracies.

    Models that diverged are counted, and are not part of the mean.
    """
    num_seeds = len(next(iter(groups.values())))
    yield f"{HEADER}, mean ± deviation of {num_seeds} seeds" if num_seeds > 1 else HEADER
    for setting, models in groups.items():
        accuracies = np.asarray(result.validation_accuracy)[models[finite[models]], -1]
        numbers = f"{setting.learning_rate:13g}  {setting.l2:10g}  {setting.scale:10g}"
        yield f"{numbers}  {_outcome(accuracies, num_seeds)}"


def _outcome(accuracies: Float[np.ndarray, "finite"], num_seeds: int) -> str:
    """Return the end of a row, from the accuracies of the models that did not diverge.

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
    """Return the settings that have models to choose from, with these models."""
    if not finite.any():
        raise DivergenceError(
            f"all {len(finite)} models diverged: no validation loss is finite. "
            "Try smaller learning rates or l2 weights."
        )
    return {s: models[finite[models]] for s, models in groups.items() if finite[models].any()}


def _keep(
    setup: Setup, folder: RunFolder, result: sweep.SweepResult, groups: dict[Setting, np.ndarray]
) -> dict[str, Any]:
    """Choose the best model, test it, and leave its files; return the summary."""
    accuracy = np.asarray(result.validation_accuracy)
    setting = max(groups, key=lambda setting: accuracy[groups[setting], -1].mean())
    best = max(groups[setting], key=lambda model: accuracy[model, -1])
    params = jax.tree.map(lambda leaf: leaf[best], result.params)
    test = evaluate(setup.model.apply, setup.loss, params, setup.dataset.test)
    summary = {
        "test_accuracy": test.accuracy,
        "test_correct": int(test.correct),
        "test_examples": int(test.examples),
        "test_loss": test.loss,
        "validation_accuracy": accuracy[best, -1].item(),
        **vars(setting),
        "seed": result.settings.seed[best].item(),
        "models": len(accuracy),
    }
    if setup.config.out is not None:
        title = f"{setup.config.dataset}, {setup.config.model}"
        curves = {_label(setting, groups): accuracy[models] for setting, models in groups.items()}
        contents = {
            "sweep.json": as_json(_as_record(result)),
            "params.safetensors": as_safetensors(params),
            "curves.png": as_sweep_curves(curves, title=title),
            "summary.json": as_json(summary, indent=2),
        }
        folder.write(contents)
    return summary


def _label(setting: Setting, settings: Iterable[Setting]) -> str:
    """Return the part of a setting in which it differs from the others, for a legend.

    >>> one, other = (Setting(learning_rate=rate, l2=0, scale=1) for rate in (0.1, 0.3))
    >>> _label(other, [one, other])
    'learning rate 0.3'
    """
    names = [name for name in vars(setting) if len({getattr(s, name) for s in settings}) > 1]
    return setting.words(names or ["learning_rate"])


def _as_record(result: sweep.SweepResult) -> dict[str, Any]:
    """Return the settings, the losses and the accuracies; each is a list of one entry per model."""
    columns = result.settings._asdict().items()
    return {
        **{name: _as_written(column) for name, column in columns},
        "train_loss": result.train_loss.tolist(),
        "validation_loss": result.validation_loss.tolist(),
        "validation_accuracy": result.validation_accuracy.tolist(),
    }


def _as_written(column: Any) -> list[Any]:
    """Return numbers as a person writes them: 0.3 for the nearest float32, 0.30000001192092896."""
    return [json.loads(str(number)) for number in np.asarray(column)]
