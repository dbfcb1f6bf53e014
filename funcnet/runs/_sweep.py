"""A sweep from the command line: parse the settings, train, compare, choose, test, leave the files.

    python scripts/train.py --sweep learning_rate=0.01,0.03,0.1,0.3 seed=0:8

The models learn from nine tenths of each class of the training examples, and are compared on the
held-out tenth. Only the chosen model sees the test examples, once.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from funcnet._files import write_whole
from funcnet.base import Size, UsageError, one_of
from funcnet.data import split
from funcnet.runs._artifacts import as_json, as_sweep_curves, write_results
from funcnet.runs._build import Say, Setup, prepare
from funcnet.runs._divergence import DivergenceError
from funcnet.runs._folder import run_folder
from funcnet.runs._run import Stop, Watch, train, unseen
from funcnet.runs.config import OPTIMIZERS, TrainConfig
from funcnet.training import Progress, Task, evaluate, is_finite, sweep

VALIDATION_SHARE = 0.1  # of each class of the training examples, which is held out
MOST_SEEDS = 100_000  # in one range; the list of a longer one could fill the memory
SHOWN = ("learning_rate", "l2", "scale")  # in a row of the table, whose models differ in the seed


def parse_sweep(specifications: Sequence[str]) -> dict[str, list[Any]]:
    """Return the values of `--sweep` as arguments of `sweep.combinations`.

    >>> parse_sweep(["learning_rate=0.1,0.3", "seed=0:4"])
    {'learning_rates': [0.1, 0.3], 'seeds': [0, 1, 2, 3]}
    """
    lists: dict[str, list[Any]] = {}
    if not specifications:
        raise UsageError("sweep: expected settings, as learning_rate=0.1,0.3 seed=0:8; got none.")
    for specification in specifications:
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
    config: TrainConfig, *, say: Say = print, watch: Watch = unseen, stop: Stop = lambda: False
) -> dict[str, Any]:
    """Train every setting of `config.sweep`, show them in a table, and keep the best model.

    The best setting has the highest mean validation accuracy over its seeds; of its models, the one
    with the highest validation accuracy is kept. Models that diverged are not compared.

    The arguments are those of `run`; if `config.sweep` names no learning rate or seed, the option
    of that name holds. The result is the content of `summary.json` in `config.out`.

    >>> config = TrainConfig(sweep=("learning_rate=0.001,0.3",), epochs=3)
    >>> tune(config, say=lambda line: None)["learning_rate"]
    0.3

    Raises:
      The errors of `run`; `DivergenceError` if every model diverged, and then none is saved.
    """
    lists = parse_sweep(config.sweep or ())
    _check_options(config, lists)
    setup = prepare(config, say)
    alone = {"learning_rates": [setup.config.learning_rate], "seeds": [setup.config.seed]}
    with run_folder(setup.config, setup.dataset, say) as folder, jax.default_device(setup.device):
        settings = sweep.combinations(**{**alone, **lists})
        task, begun = _build(setup, settings)
        row = sweep.SweepRow(*np.zeros([3, len(settings.seed)], np.float32))
        progress = train(setup, task, folder.latest(begun, row), folder, watch, stop)
        result = sweep.as_result(settings, progress)
        groups = finite_models(result)
        for line in as_table(result, groups):
            say(line)
        return _keep(setup, result, groups, say)


def _check_options(config: TrainConfig, lists: dict[str, list[Any]]) -> None:
    if config.gradients != "jax":
        raise UsageError(f"gradients: expected jax with --sweep; got {config.gradients}.")
    if config.on_nonfinite != "stop":
        raise UsageError(
            f"on_nonfinite: expected stop with --sweep, whose other models go on; "
            f"got {config.on_nonfinite}."
        )
    rate = config.learning_rate if config.resume is None else None  # a resumed run always has one
    if rate is not None and "learning_rates" in lists:
        raise UsageError(
            f"learning_rate: expected none beside --sweep learning_rate=...; got {rate:g}. "
            "Leave it out, or add it to the sweep."
        )


def _build(setup: Setup, settings: sweep.Settings) -> tuple[Task, Progress]:
    """Return the compiled training of one model per setting, and its first progress."""
    options = setup.config
    seen, validation = split(setup.dataset.train, share=VALIDATION_SHARE, name=options.dataset)
    return sweep.make_task(
        setup.model,
        setup.loss,
        seen,
        settings,
        validation=validation,
        optimizer=OPTIMIZERS[options.optimizer],
        batch_size=min(options.batch_size, len(seen.targets)),
        order_seed=options.seed,
    )


def finite_models(result: sweep.SweepResult) -> list[np.ndarray]:
    """Return the indices of each setting's models whose parameters and last loss are finite."""
    loss_is_finite = np.isfinite(result.validation_loss[:, -1])
    finite = np.asarray(jax.vmap(is_finite)(result.params)) & loss_is_finite
    num_seeds = len(np.unique(result.settings.seed))  # which `sweep.combinations` puts side by side
    return [models[finite[models]] for models in np.arange(len(finite)).reshape(-1, num_seeds)]


def as_table(result: sweep.SweepResult, groups: list[np.ndarray]) -> Iterator[str]:
    """Yield a row per setting: how many models diverged, and the last accuracies of all others."""
    columns, accuracy = _as_columns(result.settings), np.asarray(result.validation_accuracy)[:, -1]
    num_seeds = len(accuracy) // len(groups)
    note = f", mean ± deviation of {num_seeds} seeds" if num_seeds > 1 else ""
    yield f"learning rate          l2       scale  validation accuracy{note}"
    for index, models in enumerate(groups):
        rate, l2, scale = (columns[name][index * num_seeds] for name in SHOWN)
        kept, outcome = accuracy[models], "diverged"
        if len(kept):
            spread = f" ± {kept.std():.4f}" if num_seeds > 1 else ""
            diverged = f", {num_seeds - len(kept)} of {num_seeds} diverged"
            outcome = f"{kept.mean():.4f}{spread}{diverged if len(kept) < num_seeds else ''}"
        yield f"{rate:13g}  {l2:10g}  {scale:10g}  {outcome}"


def _keep(
    setup: Setup, result: sweep.SweepResult, groups: list[np.ndarray], say: Say
) -> dict[str, Any]:
    """Choose the best model, test it, and leave its files; return the summary."""
    config, columns = setup.config, _as_columns(result.settings)
    accuracy, groups = np.asarray(result.validation_accuracy), [g for g in groups if len(g)]
    if not groups:
        raise DivergenceError(
            f"all {len(accuracy)} models diverged: no validation loss is finite. "
            "Try smaller learning rates or l2 weights."
        )
    group = max(groups, key=lambda models: accuracy[models, -1].mean())
    best = max(group, key=lambda model: accuracy[model, -1])
    params = jax.tree.map(lambda leaf: leaf[best], result.params)
    test = evaluate(setup.model.apply, setup.loss, params, setup.dataset.test)
    summary = {
        "test_accuracy": test.accuracy,
        "test_correct": int(test.correct),
        "test_examples": int(test.examples),
        "test_loss": test.loss,
        "validation_accuracy": accuracy[best, -1].item(),
        **{name: columns[name][best] for name in (*SHOWN, "seed")},
        "models": len(accuracy),
    }
    if config.out is not None:
        rows = {name: getattr(result, name).tolist() for name in sweep.SweepRow._fields}
        write_whole(config.out / "sweep.json", as_json({**columns, **rows}))
        names = [name for name in SHOWN if len({*columns[name]}) > 1] or SHOWN[:1]
        shown = {_words(names, columns, models[0]): accuracy[models] for models in groups}
        curves = as_sweep_curves(shown, title=f"{config.dataset}, {config.model}")
        write_results(config.out, params, curves, summary)
    say(f"best: {_words(SHOWN, columns, best)}, seed {summary['seed']}")
    return summary


def _as_columns(settings: sweep.Settings) -> dict[str, list[Any]]:
    """Return the settings as a person writes them: 0.3, not 0.30000001192092896."""
    return {
        name: [json.loads(str(number)) for number in np.asarray(column)]
        for name, column in settings._asdict().items()
    }


def _words(names: Iterable[str], columns: dict[str, list[Any]], model: Size) -> str:
    """Return some settings of a model in words: `learning rate 0.3, l2 0`."""
    return ", ".join(f"{name.replace('_', ' ')} {columns[name][model]:g}" for name in names)
