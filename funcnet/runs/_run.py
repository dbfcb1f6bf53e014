"""A training run, put together once: from a `TrainConfig` to a trained model and its files."""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from funcnet._files import write_whole
from funcnet.base import Examples, Model, Params, num_params
from funcnet.data import Dataset
from funcnet.devices import Device, describe_device
from funcnet.runs import _artifacts as artifacts
from funcnet.runs import _saving as saving
from funcnet.runs._build import Setup, build_optimizer, build_step, prepare
from funcnet.runs._divergence import make_judge
from funcnet.runs._folder import check_epochs, make_write_checkpoint, occupied
from funcnet.runs._saving import Saved, Saver
from funcnet.runs.config import FullConfig, TrainConfig
from funcnet.training._evaluation import Evaluation
from funcnet.training._fit import EpochInfo, Progress, Stopped, begin, epoch_info, fit, segment_size
from funcnet.training._step import (
    Apply,
    Loss,
    StepInfo,
    TrainState,
    TrainStep,
    epoch_order,
    evaluate,
    init_state,
    make_segments,
    make_train_epoch,
)


class Program(NamedTuple):
    """A run's compiled functions.

    Attributes:
      train: `(state, examples) -> (state, info)`, of examples in the order of an epoch.
      evaluate: `params -> Evaluation`, of the test examples.
      compile_seconds: how long they took to compile.
    """

    train: Callable[[TrainState, Examples], tuple[TrainState, StepInfo]]
    evaluate: Callable[[Params], Evaluation]
    compile_seconds: float


def compile_program(
    step: TrainStep,
    apply: Apply,
    loss: Loss,
    state: TrainState,
    data: Dataset,
    *,
    batch_size: int,
    segment: int,
) -> Program:
    """Compiles an epoch and an evaluation ahead of their first call, and times that apart.

    Where an epoch is several calls of `segment` examples, the last one may be shorter, and is a
    program of its own.
    """
    test, num_examples = jax.device_put(data.test), len(data.train.targets)
    start = time.perf_counter()
    train_epoch = make_train_epoch(step)
    programs = {
        size: train_epoch.lower(state, _first(data.train, size), batch_size=batch_size).compile()
        for size in {min(segment, num_examples), num_examples % segment} - {0}
    }
    evaluation = evaluate.lower(apply, loss, state.params, test).compile()
    return Program(
        train=lambda state, examples: programs[len(examples.targets)](state, examples),
        evaluate=lambda params: evaluation(params, test),
        compile_seconds=time.perf_counter() - start,
    )


def _first(examples: Examples, count: int) -> Examples:
    return jax.tree.map(lambda a: a[:count], examples)


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


Epochs: TypeAlias = Iterator[Progress]

ROW = EpochInfo(
    epoch=0,
    train_loss=0.0,
    test_loss=0.0,
    test_accuracy=0.0,
    test_correct=0,
    test_examples=0,
    seconds=0.0,
    examples_per_second=0.0,
)
"""The form of what there is to see of an epoch."""


def run(
    config: TrainConfig,
    *,
    say: Callable[[str], None] = print,
    watch: Callable[[Epochs, int], Epochs] = lambda epochs, total: epochs,
    stop: Callable[[], bool] = lambda: False,
) -> Result:
    """Trains as configured, and leaves the files of `artifacts`, and checkpoints, in `config.out`.

    Args:
      config: what to train, and how; with `resume`, as `workplace.stored_config(folder)` gives it,
        the run in that folder goes on, on a CPU to the bits of an undisturbed one.
      say: takes the lines about the device, the data and the model.
      watch: wraps the epochs, to show them as they pass; called with their number.
      stop: whether to stop, asked every few seconds of computing.

    >>> result = run(TrainConfig(epochs=5), say=lambda line: None)
    >>> result.summary["test_accuracy"] > 0.9
    True

    Raises:
      ValueError: the configuration, or the data, can't be used.
      OSError: a file, or the network, can't be used.
      DivergenceError: the loss stopped being finite; `config.out` has the epochs before.
      Stopped: `stop` said so; what was reached is saved in `config.out`.
    """
    setup = prepare(config, say)
    with occupied(setup.config, setup.dataset, say) as saved, jax.default_device(setup.device):
        return _train(setup, saved, say, watch, stop)


def _train(
    setup: Setup,
    saved: Saved | None,
    say: Callable[[str], None],
    watch: Callable[[Epochs, int], Epochs],
    stop: Callable[[], bool],
) -> Result:
    """Trains, and leaves what was reached in files however it ends."""
    config = setup.config
    whole = start = _start(setup, saved, say)
    program = _compile_on_demand(setup, start.state)
    seconds = program(start.halvings).compile_seconds
    saver = Saver(saving.pack, _make_write(config, setup.dataset))
    try:
        epochs = _fit(setup, start, program, saver.offer, say, stop)
        for whole in watch(epochs, config.epochs):  # noqa: B007
            pass
    except Stopped as stopped:
        _ = _leave(setup, saver, whole, seconds)
        raise Stopped(stopped.progress, config.out) from None
    except BaseException:
        _ = _leave(setup, saver, whole, seconds)
        raise
    summary = _leave(setup, saver, whole, seconds)
    params = whole.state.params
    return Result(model=setup.model, params=params, history=whole.rows, summary=summary)


def _start(setup: Setup, saved: Saved | None, say: Callable[[str], None]) -> Progress:
    """The progress to go on from."""
    config = setup.config
    params = jax.jit(setup.model.init)(jax.random.key(config.seed))
    start = begin(init_state(params, build_optimizer(config)))
    if saved is None:
        return start
    progress = saving.restore(saved, start, ROW)
    check_epochs(config, progress.epoch, say)
    return progress


def _compile_on_demand(setup: Setup, state: TrainState) -> Callable[[int], Program]:
    """`halvings -> Program`: another learning rate is another program."""
    config, _, dataset, model, loss = setup
    segment = _segment(setup, state.params)

    @functools.cache
    def program(halvings: int) -> Program:
        step = build_step(config, model.apply, halvings)
        return compile_program(
            step, model.apply, loss, state, dataset, batch_size=config.batch_size, segment=segment
        )

    return program


def _fit(
    setup: Setup,
    start: Progress,
    program: Callable[[int], Program],
    save: Callable[[Progress], None],
    say: Callable[[str], None],
    stop: Callable[[], bool],
) -> Epochs:
    config, device, dataset, model, loss = setup
    train, batch_size = dataset.train, config.batch_size
    num_examples = len(train.targets)
    order = functools.partial(_order, config.seed, num_examples)

    def see(progress: Progress) -> EpochInfo:
        test = program(start.halvings).evaluate(progress.state.params)
        return epoch_info(progress, test, num_examples=num_examples, batch_size=batch_size)

    judge = make_judge(
        config.on_nonfinite,
        step=functools.partial(build_step, config, model.apply),
        apply=model.apply,
        loss=loss,
        examples=train,
        order=order,
        batch_size=batch_size,
        say=say,
    )
    return fit(
        start,
        train=lambda progress, some: program(progress.halvings).train(progress.state, some),
        see=see,
        examples=make_segments(
            train if device.platform == "cpu" else jax.device_put(train),
            order=order,
            size=_segment(setup, start.state.params),
        ),
        num_examples=num_examples,
        epochs=config.epochs,
        batch_size=batch_size,
        judge=judge,
        save=save,
        stop=stop,
    )


def _order(seed: int, num_examples: int, epoch: int) -> np.ndarray:
    return epoch_order(seed=seed, epoch=epoch, num_examples=num_examples)


def _segment(setup: Setup, params: Params) -> int:
    return segment_size(
        num_examples=len(setup.dataset.train.targets),
        batch_size=setup.config.batch_size,
        num_params=num_params(params),
    )


def _make_write(config: FullConfig, dataset: Dataset) -> Callable[..., None] | None:
    """What the saver writes: a checkpoint, and the metrics of the epochs behind it."""
    folder = config.out
    if folder is None:
        return None
    write_checkpoint = make_write_checkpoint(config, dataset)

    def write(tree: Any, progress: Progress) -> None:
        write_checkpoint(
            tree,
            step=int(progress.state.step),
            form=saving.form(progress),
            is_finished=progress.epoch >= config.epochs,
        )
        write_whole(folder / "metrics.jsonl", _as_lines(progress.rows))

    return write


def _leave(setup: Setup, saver: Saver, whole: Progress, compile_seconds: float) -> dict[str, Any]:
    """Saves what was reached, and leaves the files of the whole epochs; their summary."""
    saver.finish()
    if len(whole.losses) or not whole.rows:  # it was resumed within an epoch, or has none behind
        return {}
    config, folder = setup.config, setup.config.out
    summary = summarise(config, setup.device, whole.rows, compile_seconds)
    if folder is not None and not saver.failed:
        save(folder, config, whole.state.params, whole.rows, summary)
    return summary


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


def save(
    folder: Path,
    config: FullConfig,
    params: Params,
    history: Sequence[EpochInfo],
    summary: dict[str, Any],
) -> None:
    """Writes the files that a run leaves behind, once all of them could be made."""
    title = f"{config.dataset}, {config.model}"
    contents = {
        "metrics.jsonl": _as_lines(history),
        "params.safetensors": artifacts.as_safetensors(params),
        "curves.png": artifacts.as_curves(history, title=title),
        "summary.json": artifacts.as_json(summary, indent=2),
    }
    for name, content in contents.items():
        write_whole(folder / name, content)


def _as_lines(history: Sequence[EpochInfo]) -> bytes:
    return b"".join(artifacts.as_json(info._asdict()) for info in history)
