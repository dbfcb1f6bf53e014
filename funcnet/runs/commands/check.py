"""The command `check`: every gradient of funcnet, by hand, by `jax.grad`, and numerically.

The cases are every activation, every loss, and every model with each of its losses and activations,
in float64 and in float32, on a random batch and on a batch of real data.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcnet import chain_rule, data, models, training
from funcnet._files import write_whole
from funcnet.activations import ACTIVATIONS
from funcnet.base import UsageError, to_float
from funcnet.gradcheck import GradientReport, check_gradients
from funcnet.losses import LOSSES
from funcnet.runs import _artifacts as artifacts
from funcnet.runs._console import check_out, run_program, watch_count

TOLERANCES = {"float64": 1e-9, "float32": 1e-4}
"""How far two roads may be apart, relative to the largest gradient of a leaf."""
HIDDEN = (16, 12)  # units of the hidden layers of the perceptrons
CLASSES = 10


@dataclasses.dataclass(frozen=True)
class Options:
    """Check every gradient of funcnet by hand, by jax.grad, and numerically."""

    dataset: str = "digits"
    """The data set of the real batch: digits, mnist, or any other that `train` takes."""
    manual_dir: Path | None = None
    """A folder with the original files of the data set, for a machine without a network."""
    data_dir: Path | None = None
    """Where prepared data are kept."""
    batch_size: int = 8
    """Examples per batch."""
    seed: int = 0
    """The seed of the parameters, of the random batch, and of the checker's directions."""
    out: Path | None = None
    """A .json file for the table and the record of every leaf."""


class Case(NamedTuple):
    """A function, its gradient by hand with respect to the first argument, and the arguments."""

    name: str
    batch: str
    dtype: str
    function: Callable[..., Any]
    hand: Callable[..., Any]
    args: tuple[Any, ...]


def command() -> None:
    """Read the command line and check."""
    run_program(Options, main)


def main(options: Options) -> None:
    """Check, print the table, and fail unless every verdict is "pass"."""
    if options.batch_size < 1:
        raise UsageError(f"batch_size: expected at least 1; got {options.batch_size}.")
    check_out(options.out, [".json"])
    batches = load_batches(options)
    rows = []
    for dtype in TOLERANCES:
        with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("float32"):
            cases = watch_count(list(all_cases(batches, options.seed, dtype)), f"cases in {dtype}")
            rows += [(case, check(case, options.seed)) for case in cases]
    failed = [f"{case.name}, {case.dtype}: {row}" for case, row in rows if row.verdict != "pass"]
    print(as_table(rows), f"{len(rows) - len(failed)} of {len(rows)} pass", sep="\n")
    if options.out is not None:
        write_whole(options.out, as_json(rows, options))
    if failed:
        sys.exit("\n".join(["error: expected every gradient to pass; these do not:", *failed]))


def load_batches(options: Options) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return inputs and labels: random numbers, and the first examples of the data set."""
    dataset = data.load(options.dataset, data_dir=options.data_dir, manual_dir=options.manual_dir)
    inputs, labels = (np.asarray(array)[: options.batch_size] for array in dataset.train)
    rng = np.random.default_rng(options.seed)
    random = rng.uniform(size=inputs.shape), rng.integers(CLASSES, size=len(labels))
    return {"random": random, options.dataset: (inputs, labels)}


def all_cases(
    batches: Mapping[str, tuple[np.ndarray, np.ndarray]], seed: int, dtype: str
) -> Iterator[Case]:
    """Yield every case in one dtype."""
    batch_size = len(batches["random"][0])
    yield from activation_cases(batch_size, seed, dtype)
    yield from loss_cases(batch_size, seed, dtype)
    for name, (inputs, labels) in batches.items():
        yield from model_cases(name, inputs, labels, seed, dtype)


def activation_cases(batch_size: int, seed: int, dtype: str) -> Iterator[Case]:
    """Yield a case per activation g: `Σ g(x)` of normal x, whose gradient is `g'(x)`."""
    x = _normal([batch_size, 2, 8], seed, dtype)
    for name, g in ACTIVATIONS.items():
        hand = chain_rule.DERIVATIVES[name]
        yield Case(name, "random", dtype, lambda x, g=g: jnp.sum(g(x)), hand, (x,))


def loss_cases(batch_size: int, seed: int, dtype: str) -> Iterator[Case]:
    """Yield a case per loss: its sum over the examples, with respect to normal logits."""
    rng = np.random.default_rng(seed)
    for name, loss in LOSSES.items():
        classes = [CLASSES] if name.startswith("softmax") else []
        z = _normal([batch_size, *classes], seed, dtype)
        y = jnp.asarray(rng.integers(CLASSES if classes else 2, size=batch_size))
        y = y.astype(dtype) if name == "squared_error" else y
        hand = chain_rule.LOSS_GRADIENTS[name]
        yield Case(name, "random", dtype, lambda z, y, f=loss: jnp.sum(f(z, y)), hand, (z, y))


def model_cases(
    batch: str, inputs: np.ndarray, labels: np.ndarray, seed: int, dtype: str
) -> Iterator[Case]:
    """Yield a case per model, loss and activation: the mean loss of the parameters."""
    x = to_float(inputs, dtype).astype(dtype)
    features, classes = x.shape[-1], jnp.asarray(labels, int)
    table = {
        "linear": (models.linear(features, CLASSES), jax.nn.one_hot(labels, CLASSES, dtype=dtype)),
        "logistic_regression": (models.logistic_regression(features), (classes == 0).astype(int)),
        "softmax_regression": (models.softmax_regression(features, CLASSES), classes),
    }
    for g in ACTIVATIONS:
        table[f"mlp {g}"] = models.mlp([features, *HIDDEN, CLASSES], activation=g), classes
    for name, (model, y) in table.items():
        params = jax.tree.map(lambda p: p.astype(dtype), model.init(jax.random.key(seed)))
        constructor, _, g = name.partition(" ")
        for loss in models.FITTING_LOSSES[constructor].values():
            by_hand = chain_rule.value_and_gradient(constructor, loss, activation=g or "relu")
            yield Case(
                name=f"{name}, {loss}",
                batch=batch,
                dtype=dtype,
                function=training.mean_loss(model.apply, LOSSES[loss]),
                hand=lambda params, x, y, by_hand=by_hand: by_hand(params, x, y)[1],
                args=(params, x, y),
            )


def _normal(shape: Sequence[int], seed: int, dtype: str) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape, scale=3).astype(dtype))


def check(case: Case, seed: int) -> GradientReport:
    """Return the checker's report on a case; it fails too if the roads are too far apart."""
    tolerance = TOLERANCES[case.dtype]
    largest = max(float(jnp.max(abs(leaf))) for leaf in jax.tree.leaves(case.hand(*case.args)))
    options = {"seed": seed, "rtol": tolerance, "atol": tolerance * largest}
    report = check_gradients(case.function, *case.args, hand=case.hand, **options)
    too_far = report.verdict == "pass" and not report.error <= tolerance
    return dataclasses.replace(report, verdict="fail") if too_far else report


def as_table(rows: Sequence[tuple[Case, GradientReport]]) -> str:
    """Return a line per case, with the largest relative error in both dtypes side by side."""
    header = "".join(f"  {dtype:>8}  verdict  " for dtype in TOLERANCES)
    lines = {("hand = jax.grad = numerical", "batch"): header}
    for case, report in rows:
        line = lines.setdefault((case.name, case.batch), "")
        lines[case.name, case.batch] = f"{line}  {report.error:8.1e}  {report.verdict:<9}"
    table = [f"{name:<42}  {batch:<8}{cells}".rstrip() for (name, batch), cells in lines.items()]
    return "\n".join(table)


def as_json(rows: Sequence[tuple[Case, GradientReport]], options: Options) -> bytes:
    """Return the rows with the record of every leaf, and what they were computed with."""
    record = {
        "jax_version": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "seed": options.seed,
        "batch_size": options.batch_size,
        "tolerances": TOLERANCES,
        "rows": [_record(*row) for row in rows],
    }
    return artifacts.as_json(record, indent=1)


def _record(case: Case, report: GradientReport) -> dict[str, Any]:
    of_case = {"name": case.name, "batch": case.batch, "dtype": case.dtype}
    leaves = [{**dataclasses.asdict(leaf), "dtype": str(leaf.dtype)} for leaf in report.leaves]
    whole = {"leaves": leaves, "remarks": report.remarks}
    return {**of_case, "error": report.error, "verdict": report.verdict, "report": whole}
