"""A loss that is not finite: where it was born is said, or such steps are skipped."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from funcnet import Examples, losses
from funcnet.runs import DivergenceError, TrainConfig, run
from funcnet.runs import _folder as folders
from funcnet.training import (
    epoch_order,
    init_state,
    is_finite,
    make_train_epoch,
    make_train_step,
    skip_nonfinite,
)

POISON = 17
"""The example whose input is too large."""


@pytest.fixture
def data(tmp_path):
    """Two classes of normal vectors, `good.npz`; in `bad.npz` one example is huge."""
    x = np.random.default_rng(0).normal(size=(60, 2)) + 2 * (np.arange(60) % 2)[:, None]
    bad, y = x.copy(), np.arange(60) % 2
    bad[POISON] = 3e38
    for name, inputs in {"good": x, "bad": bad, "large": 1e24 * x}.items():
        np.savez(tmp_path / f"{name}.npz", x_train=inputs, y_train=y, x_test=x, y_test=y)
    return tmp_path


def config(data, **options):
    return TrainConfig(
        **{"dataset": str(data / "bad.npz"), "batch_size": 8, "epochs": 3, **options}
    )


def quietly(config, **options):
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam needs it
        return run(config, **{"say": lambda line: None, **options})


def poisoned_step(batch_size=8):
    order = epoch_order(seed=0, epoch=0, num_examples=60)
    step = int(np.flatnonzero(order == POISON)[0]) // batch_size
    return step, order[step * batch_size : (step + 1) * batch_size]


def test_a_divergence_names_step_examples_leaf_operation_and_line(data):
    """A product with 3e38 overflows, in the layer, at the very step that sees the example."""
    step, batch = poisoned_step()
    with pytest.raises(DivergenceError) as error:
        quietly(config(data, model="softmax", learning_rate=0.1))
    headline, examples, leaf, operation = str(error.value).splitlines()
    assert headline == (
        f"the loss became nan at step {step + 1} of epoch 1 (step {step + 1} in all). "
        "Try a smaller learning rate, or --on-nonfinite skip."
    )
    assert examples == f"  batch: the examples {', '.join(map(str, batch))}"
    assert leaf == "  parameters after it: weight, 4 of 4 elements not finite"
    assert re.match(r"  first operation: the value of \w+ = params.weight @ inputs, mo", operation)
    assert "jnp.tensordot(W, x" in operation


def test_an_mlp_that_diverges_in_training_is_traced_to_a_layer(data):
    with pytest.raises(DivergenceError) as error:
        quietly(
            config(
                data,
                dataset=str(data / "good.npz"),
                model="mlp",
                hidden=(4,),
                optimizer="sgd",
                learning_rate=1e25,
            )
        )
    _, _, leaf, operation = str(error.value).splitlines()
    assert re.match(r"  parameters after it: \d\.(weight|bias), \d+ of \d+ elements not", leaf)
    assert re.search(r"operation: the value of \w+ = .*, models\.py:\d+ in _affine: ", operation)


def test_an_optimiser_that_overflows_is_named(data):
    """Adam's mean square of gradients of 1e24: the loss and the parameters stay finite, and fixed.

    No learning rate mends it.
    """
    options = {"dataset": str(data / "large.npz"), "optimizer": "adam"}
    with pytest.raises(DivergenceError) as error:
        quietly(config(data, **options))
    headline, _, leaf, operation = str(error.value).splitlines()
    assert headline.startswith("the optimiser's state became infinite or nan at step 1 of epoch 1")
    assert leaf == "  optimiser's state after it: 0.nu.weight, 4 of 4 elements not finite"
    assert operation == "  first operation: the update; the loss and its gradient are finite"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "the loss became nan at step {step} of epoch 1 "),
        ({"dataset": "large.npz", "optimizer": "adam"}, "the optimiser's state became infinite or"),
    ],
)
def test_a_divergence_that_single_steps_do_not_repeat(data, options, message, monkeypatch):
    """They round differently; the losses and the state of the compiled epoch say what they can."""
    monkeypatch.setattr("funcnet.runs._divergence._replay", lambda *arguments: ())
    name = data / options.get("dataset", "bad.npz")
    step, _ = poisoned_step()
    with pytest.raises(DivergenceError, match=message.format(step=step + 1)) as error:
        quietly(config(data, **{**options, "dataset": str(name)}))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("segment", [8, 24, 64])
def test_the_step_is_the_same_however_an_epoch_is_cut(data, segment, monkeypatch):
    monkeypatch.setattr("funcnet.training._epoch.segment_size", lambda **sizes: segment)
    step, batch = poisoned_step()
    with pytest.raises(DivergenceError, match=f"at step {step + 1} of epoch 1") as error:
        quietly(config(data))
    assert f"the examples {', '.join(map(str, batch))}\n" in str(error.value)


def test_the_epochs_before_a_divergence_are_kept(data, monkeypatch):
    """A check that finds the third epoch's loss not finite."""
    out = data / "out"

    def check_finite(setup, before, after, info):
        if after.epoch == 3:
            raise DivergenceError("the loss became nan")

    monkeypatch.setattr("funcnet.runs._run.check_finite", check_finite)
    with pytest.raises(DivergenceError):
        quietly(config(data, dataset="digits", batch_size=32, epochs=5, out=out))
    assert folders.newest(out).record["epochs"] == 2
    assert json.loads((out / "summary.json").read_text())["epochs"] == 2
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_skipped_steps_change_nothing_and_are_counted(data, optimizer):
    result = quietly(config(data, on_nonfinite="skip", optimizer=optimizer))
    assert [info.skipped_steps for info in result.history] == [1, 1, 1]
    assert is_finite(result.params)
    assert all(np.isfinite(info.train_loss) for info in result.history)
    assert result.history[-1].train_loss < result.history[0].train_loss


@pytest.mark.parametrize("make", [optax.sgd, optax.adam, lambda r: optax.sgd(r, momentum=0.9)])
def test_an_epoch_with_skips_is_one_over_the_other_steps(make):
    """The oracle: a Python loop that leaves the poisoned batch out."""
    rng = np.random.default_rng(0)
    data = Examples(
        inputs=rng.normal(size=(12, 3)).astype(np.float32),
        targets=rng.normal(size=12).astype(np.float32),
    )
    data.inputs[5] = np.float32(3e38)
    with jax.numpy_dtype_promotion("standard"):
        step = make_train_step(lambda w, x: x @ w, losses.squared_error, make(0.1))
        first = init_state(jnp.ones(3), make(0.1))
        train_epoch = make_train_epoch(skip_nonfinite(step))
        state, info = train_epoch(first, data, batch_size=4)
        expected = first
        for batch in (slice(0, 4), slice(8, 12)):
            expected, _ = step(expected, jax.tree.map(lambda a, b=batch: a[b], data))
    np.testing.assert_array_equal(np.isnan(info.loss), [False, True, False])
    np.testing.assert_allclose(state.params, expected.params, rtol=1e-6)
    assert state.step == 3
