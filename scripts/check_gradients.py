"""python scripts/check_gradients.py --out report.json

Checks every gradient of funcnet by three roads: derived by hand (chain_rule.py), `jax.grad`, and
numerical differentiation. Every activation, every loss, and every model with each of its losses and
activations, in float64 and float32, on a random batch and on one of real data.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import funcnet as fn
from funcnet import chain_rule
from funcnet._files import write_whole
from funcnet.base import to_float
from funcnet.runs import _artifacts as artifacts
from funcnet.runs._console import check_out, run_program, watch_count

TOLERANCES = {"float64": 1e-9, "float32": 1e-4}
"""How far two roads may be apart, relative to the largest gradient of a leaf."""
HIDDEN = (16, 12)
"""The hidden layers of the perceptrons."""
CLASSES = 10


@dataclasses.dataclass(frozen=True)
class Options:
    """Checks every gradient of funcnet by hand, by jax.grad, and numerically."""

    dataset: str = "digits"
    """Where the real batch comes from: digits, mnist, any that scripts/train.py takes."""
    manual_dir: Path | None = None
    """The folder of a data set's files, where they were downloaded by hand."""
    data_dir: Path | None = None
    """Where prepared data sets are kept."""
    batch_size: int = 8
    """How many examples a gradient is of."""
    seed: int = 0
    """Of the parameters, the random batch, and the checker's directions."""
    out: Path | None = None
    """Write the table and every leaf's record to this .json file as well."""


class Batch(NamedTuple):
    """Inputs with a class each; `name` says where they come from."""

    name: str
    inputs: np.ndarray
    labels: np.ndarray


class Case(NamedTuple):
    """A function of one argument, its gradient by hand, and where to compare them."""

    name: str
    batch: str
    dtype: str
    function: Callable[[Any], Any]
    hand: Callable[[Any], Any]
    argument: Any


class Row(NamedTuple):
    """A case, its largest relative error, and its verdict."""

    name: str
    batch: str
    dtype: str
    error: float
    verdict: str
    report: fn.GradientReport


def activation_cases(batch_size: int, seed: int, dtype: str) -> Iterator[Case]:
    """Every activation on normal numbers: `Σ g(x)`, whose gradient is `g'(x)`."""
    x = np.random.default_rng(seed).normal(size=(batch_size, 2, 8), scale=3).astype(dtype)
    for name, g in fn.activations.ACTIVATIONS.items():
        derivative = chain_rule.DERIVATIVES[name]
        yield Case(name, "random", dtype, lambda x, g=g: jnp.sum(g(x)), derivative, jnp.asarray(x))


def loss_cases(batch_size: int, seed: int, dtype: str) -> Iterator[Case]:
    """Every loss, summed over the examples, with respect to its logits."""
    for name, loss in fn.losses.LOSSES.items():
        rng = np.random.default_rng(seed)
        classes = (CLASSES,) if name.startswith("softmax") else ()
        z = jnp.asarray(rng.normal(size=(batch_size, *classes), scale=3).astype(dtype))
        y = jnp.asarray(rng.integers(CLASSES if classes else 2, size=batch_size))
        y = y.astype(dtype) if name == "squared_error" else y
        gradient = chain_rule.LOSS_GRADIENTS[name]
        yield Case(
            name,
            "random",
            dtype,
            lambda z, loss=loss, y=y: jnp.sum(loss(z, y)),
            lambda z, gradient=gradient, y=y: gradient(z, y),
            z,
        )


def model_cases(batch: Batch, seed: int, dtype: str) -> Iterator[Case]:
    """Every model with each of its losses and activations: the mean loss of its parameters."""
    features = batch.inputs.shape[-1]
    models: list[tuple[str, str, fn.Model]] = [
        ("linear", "relu", fn.models.linear(features, CLASSES)),
        ("logistic_regression", "relu", fn.models.logistic_regression(features)),
        ("softmax_regression", "relu", fn.models.softmax_regression(features, CLASSES)),
        *(
            ("mlp", name, fn.models.mlp([features, *HIDDEN, CLASSES], activation=name))
            for name in fn.activations.ACTIVATIONS
        ),
    ]
    for name, activation, model in models:
        params = jax.tree.map(lambda p: p.astype(dtype), model.init(jax.random.key(seed)))
        x, y = to_float(batch.inputs, dtype).astype(dtype), _targets(name, batch.labels, dtype)
        for loss in fn.models.FITTING_LOSSES[name].values():
            by_hand = chain_rule.value_and_gradient(name, loss, activation=activation)
            title = f"{name} {activation}, {loss}" if name == "mlp" else f"{name}, {loss}"
            yield Case(
                title,
                batch.name,
                dtype,
                lambda params, loss=loss, model=model, x=x, y=y: jnp.mean(
                    fn.losses.LOSSES[loss](model.apply(params, x), y)
                ),
                lambda params, by_hand=by_hand, x=x, y=y: by_hand(params, x, y)[1],
                params,
            )


def _targets(model: str, labels: np.ndarray, dtype: str) -> jax.Array:
    """What a model is held to: classes, whether they are 0, or one-hot numbers."""
    if model == "linear":
        return jax.nn.one_hot(labels, CLASSES, dtype=dtype)
    return jnp.asarray(labels == 0 if model == "logistic_regression" else labels, int)


def batches(options: Options) -> list[Batch]:
    """The first examples of the data set, and as many of random numbers of the same shape."""
    n = options.batch_size
    dataset = fn.data.load(
        options.dataset, data_dir=options.data_dir, manual_dir=options.manual_dir
    )
    inputs, labels = map(np.asarray, dataset.train)
    real = Batch(options.dataset, inputs[:n], labels[:n])
    rng = np.random.default_rng(options.seed)
    shape = real.inputs.shape
    return [Batch("random", rng.uniform(size=shape), rng.integers(CLASSES, size=n)), real]


def cases(loaded: Sequence[Batch], seed: int, dtype: str) -> Iterator[Case]:
    """Everything that is checked, in one dtype."""
    batch_size = len(loaded[0].labels)
    yield from activation_cases(batch_size, seed, dtype)
    yield from loss_cases(batch_size, seed, dtype)
    for batch in loaded:
        yield from model_cases(batch, seed, dtype)


def check(case: Case, seed: int) -> Row:
    """The verdict on a case: the checker's, and that the roads are as close as promised."""
    tolerance = TOLERANCES[case.dtype]
    largest = max(float(jnp.max(abs(leaf))) for leaf in jax.tree.leaves(case.hand(case.argument)))
    report = fn.check_gradients(
        case.function,
        case.argument,
        hand=case.hand,
        seed=seed,
        rtol=tolerance,
        atol=tolerance * largest,
    )
    far = report.verdict == "pass" and not report.error <= tolerance
    verdict = "fail" if far else report.verdict
    return Row(case.name, case.batch, case.dtype, report.error, verdict, report)


def table(rows: Sequence[Row]) -> str:
    """A line a case, the largest relative error of both dtypes side by side."""
    found = {(row.name, row.batch, row.dtype): row for row in rows}
    names = dict.fromkeys((row.name, row.batch) for row in rows)
    header = "".join(f"  {dtype:>8}  verdict  " for dtype in TOLERANCES)
    lines = [f"{'hand = jax.grad = numerical':<42}  {'batch':<8}{header.rstrip()}"]
    for name, batch in names:
        both = [found[name, batch, dtype] for dtype in TOLERANCES]
        cells = "".join(f"  {row.error:8.1e}  {row.verdict:<9}" for row in both)
        lines.append(f"{name:<42}  {batch:<8}{cells.rstrip()}")
    return "\n".join(lines)


def as_json(rows: Sequence[Row], options: Options) -> bytes:
    """The rows with every leaf's record, and what they were computed with."""
    report = {
        "jax_version": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "seed": options.seed,
        "batch_size": options.batch_size,
        "tolerances": TOLERANCES,
        "rows": [
            {
                **row._asdict(),
                "report": {
                    "leaves": [
                        {
                            **vars(leaf),
                            "dtype": str(leaf.dtype),
                            "findings": [*map(dataclasses.asdict, leaf.findings)],
                        }
                        for leaf in row.report.leaves
                    ],
                    "remarks": row.report.remarks,
                },
            }
            for row in rows
        ],
    }
    return artifacts.as_json(report, indent=1)


def main(options: Options) -> None:
    """Checks, prints the table, and fails unless every verdict is "pass"."""
    if options.batch_size < 1:
        raise ValueError(f"--batch-size: expected at least 1; got {options.batch_size}.")
    check_out(options.out, [".json"])
    loaded = batches(options)
    rows = []
    for dtype in TOLERANCES:
        with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("float32"):
            todo = list(cases(loaded, options.seed, dtype))
            watched = watch_count(todo, f"cases in {dtype}")
            rows += [check(case, options.seed) for case in watched]
    print(table(rows))
    failed = [row for row in rows if row.verdict != "pass"]
    print(f"{len(rows) - len(failed)} of {len(rows)} pass")
    if options.out is not None:
        write_whole(options.out, as_json(rows, options))
    if failed:
        reports = "\n".join(f"{row.name}, {row.dtype}: {row.report}" for row in failed)
        raise ArithmeticError(f"expected every gradient to pass; these do not:\n{reports}")


if __name__ == "__main__":
    run_program(Options, main)
