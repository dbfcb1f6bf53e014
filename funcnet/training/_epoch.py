"""An epoch: its steps as one compiled scan, and the order of its examples.

A long epoch is cut into segments, between which a run can be saved and stopped.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Int

from funcnet.base import Examples, UsageError
from funcnet.training._step import State, StepInfo, TrainStep

LONGEST = 50_000_000_000  # products of a parameter and an example per segment: 1 or 2 s of a CPU
STEP_COST = 100_000  # products that take as long as the rest of a step
ALIGNMENT = 64  # bytes; JAX takes an array of NumPy that begins at a multiple without copying it


def make_train_epoch(step: TrainStep) -> jax.stages.Wrapped:
    """Return `train_epoch(state, examples, *, batch_size) -> (state, info)`, one compiled program.

    One step learns from the first `batch_size` examples, one from the next, and so on, in the order
    in which they lie. If `batch_size` does not divide the number of examples, the last step takes
    those that are left, within the same program. `info.loss` holds each step's loss.

    >>> import optax
    >>> from funcnet.losses import squared_error
    >>> from funcnet.training import init_state, make_train_step
    >>> sgd = optax.sgd(0.1)
    >>> train_epoch = make_train_epoch(make_train_step(lambda w, x: w * x, squared_error, sgd))
    >>> x = np.linspace(-1, 1, 50, dtype=np.float32)
    >>> state = init_state(jnp.array(0.0), sgd)
    >>> for epoch in range(20):
    ...     order = epoch_order(seed=0, epoch=epoch, num_examples=50)
    ...     examples = shuffled(Examples(inputs=x, targets=3 * x), order)
    ...     state, info = train_epoch(state, examples, batch_size=8)
    >>> print(f"{state.params:.3f}")
    3.000
    >>> info.loss.shape  # 6 batches of 8, and one of the 2 that are left
    (7,)
    """

    def train_epoch(state: State, examples: Examples, *, batch_size: int) -> tuple[State, StepInfo]:
        def step_on(state: State, start: Array) -> tuple[State, StepInfo]:
            return step(state, jax.tree.map(lambda a: slice_of(a, start, batch_size), examples))

        check_examples(examples, batch_size)
        batch_size = min(batch_size, len(examples.targets))
        num_full, rest = divmod(len(examples.targets), batch_size)
        state, info = jax.lax.scan(step_on, state, batch_size * jnp.arange(num_full))
        if not rest:
            return state, info
        state, last = step(state, jax.tree.map(lambda a: a[-rest:], examples))
        return state, StepInfo(loss=jnp.concatenate([info.loss, last.loss[None]]))

    slice_of = jax.lax.dynamic_slice_in_dim
    return jax.jit(train_epoch, static_argnames="batch_size")


def compile_segments(
    train_epoch: jax.stages.Wrapped,
    state: State,
    examples: Examples,
    *,
    batch_size: int,
    num_params: int,
    place: Any = None,
) -> dict[int, jax.stages.Compiled]:
    """Return `train_epoch` compiled for each number of examples that a segment of an epoch has.

    A segment has `segment_size` examples, and the last one those that are left; `place` is its
    device or sharding, as in `Task`. `state`, and the `examples` of the epoch, may be shapes.
    """
    count = len(examples.targets)
    segment = segment_size(num_examples=count, batch_size=batch_size, num_params=num_params)
    sizes = {min(segment, count), count % segment} - {0}
    lower = functools.partial(train_epoch.lower, state, batch_size=batch_size)
    return {n: lower(with_length(examples, n, place)).compile() for n in sizes}


def with_length(arrays: Any, length: int, place: Any) -> Any:
    """Return the shapes of arrays whose first axis has a new length, on some devices."""
    return jax.tree.map(
        lambda a: jax.ShapeDtypeStruct((length, *a.shape[1:]), a.dtype, sharding=place), arrays
    )


def segment_size(*, num_examples: int, batch_size: int, num_params: int) -> int:
    """Return how many examples one call learns from: all, or an equal share of a long epoch.

    It is a function of the arguments alone: a run that was interrupted makes the same calls as one
    that was not.

    >>> segment_size(num_examples=60_000, batch_size=128, num_params=101_770)  # MNIST, an mlp
    60032
    >>> segment_size(num_examples=60_000, batch_size=128, num_params=10_000_000)
    4736
    """
    num_steps = math.ceil(num_examples / batch_size)
    cost = num_examples * num_params + num_steps * STEP_COST
    num_segments = min(math.ceil(cost / LONGEST), num_steps)
    return math.ceil(num_steps / num_segments) * batch_size


def epoch_order(*, seed: int, epoch: int, num_examples: int) -> Int[np.ndarray, "examples"]:
    """Return the order of the examples in an epoch: a permutation.

    It is drawn on the host: `jax.random.permutation` sorts, which takes a CPU as long for 60,000
    examples as half an epoch of softmax regression.

    >>> epoch_order(seed=0, epoch=1, num_examples=5)
    array([1, 4, 3, 0, 2], dtype=int32)
    """
    return np.random.default_rng([seed, epoch]).permutation(num_examples).astype(np.int32)


def shuffled(examples: Examples, order: Int[ArrayLike, "order"]) -> Examples:
    """Return `examples[order]`: arrays of NumPy on the host, arrays of JAX on their device.

    A CPU is slow at gathering scattered rows within each compiled step; NumPy copies whole rows.

    >>> shuffled(Examples(inputs=np.eye(2), targets=np.array([3, 4])), np.array([1, 0])).targets
    array([4, 3])

    Raises:
      UsageError: the inputs and targets differ in number, there are none, or the order names one
        that is not there.
    """
    check_examples(examples)
    count, indices = len(examples.targets), np.asarray(order)
    if indices.size and not -count <= indices.min() <= indices.max() < count:
        raise UsageError(
            f"order: expected indices of {count} examples; "
            f"got some from {indices.min()} to {indices.max()}."
        )
    return jax.tree.map(
        lambda a: a[indices] if isinstance(a, jax.Array) else _take(a, indices), examples
    )


def _take(array: np.ndarray, rows: Int[np.ndarray, "rows"]) -> np.ndarray:
    """Return `array[rows]`, aligned."""
    num_bytes = len(rows) * array[0].nbytes
    memory = np.empty(num_bytes + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    taken = memory[start : start + num_bytes].view(array.dtype).reshape(len(rows), *array.shape[1:])
    return np.take(array, rows, axis=0, out=taken, mode="wrap")  # "raise" would copy twice


def check_examples(examples: Examples, batch_size: int = 1, *, name: str = "examples") -> None:
    """Raise a `UsageError` about examples that no model can learn from in batches of this size."""
    num_inputs, num_targets = len(examples.inputs), len(examples.targets)
    if num_inputs != num_targets or not num_inputs:
        raise UsageError(
            f"{name}: expected one target per input, and some; "
            f"got {num_inputs} inputs and {num_targets} targets."
        )
    if batch_size < 1:
        raise UsageError(f"batch_size: expected a positive integer; got {batch_size}.")
