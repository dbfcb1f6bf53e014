"""The host's loop: the same bits wherever it is left and taken up again."""

import chex
import numpy as np
import optax
import pytest
from small import LOSS, MODEL, examples, first_state

from funcnet.training import (
    Progress,
    Task,
    compile_segments,
    epoch_order,
    make_train_epoch,
    make_train_step,
    shuffled,
    train_epochs,
)


@pytest.fixture
def task(monkeypatch):
    """Epochs of 23 examples in segments of 10, 10 and 3."""
    momentum, data = optax.sgd(0.1, momentum=0.9), examples(23)
    epoch = make_train_epoch(make_train_step(MODEL.apply, LOSS, momentum))
    first = first_state(momentum)
    monkeypatch.setattr("funcnet.training._epoch.segment_size", lambda **sizes: 10)
    steps = compile_segments(epoch, first, data, batch_size=5, num_params=1)
    task = Task(
        steps=steps,
        observe=lambda progress: progress.losses.tolist(),
        examples=data,
        batch_size=5,
        seed=3,
    )
    return task, Progress(state=first)


def test_epochs_are_those_of_the_compiled_epoch(task):
    task, progress = task
    *_, (last, info) = train_epochs(task, progress, epochs=2)
    state, rows = progress.state, []
    train_epoch = make_train_epoch(make_train_step(MODEL.apply, LOSS, optax.sgd(0.1, momentum=0.9)))
    for epoch in range(2):
        order = epoch_order(seed=3, epoch=epoch, num_examples=23)
        state, losses_ = train_epoch(state, shuffled(task.examples, order), batch_size=5)
        rows.append(losses_.loss)
    chex.assert_trees_all_close(last.state, state, rtol=1e-6)
    np.testing.assert_allclose(last.rows, rows, rtol=1e-6)
    assert info.loss.shape == (1,)
    assert (last.step, last.epoch, last.is_between_epochs) == (10, 2, True)


def test_a_training_goes_on_from_any_progress_to_the_same_bits(task):
    task, begun = task
    reached = [progress for progress, _ in train_epochs(task, begun, epochs=3)]
    assert [p.step for p in reached] == [2, 4, 5, 7, 9, 10, 12, 14, 15]
    assert [p.is_between_epochs for p in reached] == [False, False, True] * 3
    for progress in reached[:-1]:
        *_, (last, _) = train_epochs(task, progress, epochs=3)
        chex.assert_trees_all_equal(last.state, reached[-1].state)
        assert last.rows == reached[-1].rows
    assert not list(train_epochs(task, reached[-1], epochs=3))
