"""How far float32 results lie from the truth: references, contestants and the measure.

The error of a result y is counted in ULP of the true result r, `|y − r| / 2^(exponent of r − 23)`;
a correctly rounded y has an error of 0.5 at most. XLA flushes subnormal numbers, those below 2⁻¹²⁶,
to zero. Therefore:

- a result that is subnormal or zero stands for any subnormal number: its error is the distance of r
  from the nearest one;
- a subnormal input is a zero, and a derivative that jumps at 0 is not tested there.

Inputs that are NaN are not tested either.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Float64, UInt32

from funcnet.activations import ACTIVATIONS
from funcnet.chain_rule import DERIVATIVES

TINY = 2.0**-126
"""The smallest normal number of float32."""

STRATA = 512
"""How many combinations of sign and exponent float32 has: they are its upper nine bits."""

Contestant: TypeAlias = Callable[[Float32[np.ndarray, "inputs"]], Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantity:
    """A function, or its derivative.

    Attributes:
      truth: computes it in float64, by a formula in which no digits cancel.
      low: the smallest value.
      high: the largest value.
      jumps: whether it jumps at 0, where several results are right.
    """

    truth: Callable[[Float64[Array, "inputs"]], Float64[Array, "inputs"]]
    low: float = -math.inf
    high: float = math.inf
    jumps: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tally:
    """The errors of a contestant on the inputs so far.

    Attributes:
      ulp: the largest error.
      at: the input with the largest error.
      nans: how many results are NaN.
      outside: how many results lie outside the range of the quantity.
    """

    ulp: float
    at: float
    nans: int
    outside: int


NOTHING = Tally(ulp=-1.0, at=0.0, nans=0, outside=0)
"""The errors on no input."""


def _decay(x: Float64[Array, "inputs"]) -> Float64[Array, "inputs"]:
    """`e^−|x|`, which never overflows."""
    return jnp.exp(-jnp.abs(x))


def _step(x: Float64[Array, "inputs"], *, low: float) -> Float64[Array, "inputs"]:
    return jnp.where(x > 0, 1.0, low)


QUANTITIES: Mapping[str, Quantity] = {
    "sigmoid": Quantity(
        truth=lambda x: jnp.where(x < 0, _decay(x), 1) / (1 + _decay(x)), low=0, high=1
    ),
    "sigmoid'": Quantity(truth=lambda x: _decay(x) / (1 + _decay(x)) ** 2, low=0, high=0.25),
    "tanh": Quantity(
        truth=lambda x: -jnp.sign(x) * jnp.expm1(-2 * jnp.abs(x)) / (1 + _decay(2 * x)),
        low=-1,
        high=1,
    ),
    "tanh'": Quantity(truth=lambda x: 4 * _decay(2 * x) / (1 + _decay(2 * x)) ** 2, low=0, high=1),
    "relu": Quantity(truth=lambda x: jnp.maximum(x, 0), low=0),
    "relu'": Quantity(truth=functools.partial(_step, low=0.0), low=0, high=1, jumps=True),
    "leaky_relu": Quantity(truth=lambda x: jnp.maximum(0.1 * x, x)),
    "leaky_relu'": Quantity(truth=functools.partial(_step, low=0.1), low=0.1, high=1, jumps=True),
    "elu": Quantity(truth=lambda x: jnp.where(x > 0, x, jnp.expm1(jnp.minimum(x, 0))), low=-1),
    "elu'": Quantity(truth=lambda x: jnp.exp(jnp.minimum(x, 0)), low=0, high=1),
}
"""The activations of one number, with their default options, and their derivatives."""

JAX_NN: Mapping[str, Callable[..., Array]] = {
    "sigmoid": jax.nn.sigmoid,
    "tanh": jax.nn.tanh,
    "relu": jax.nn.relu,
    "leaky_relu": functools.partial(jax.nn.leaky_relu, negative_slope=0.1),
    "elu": jax.nn.elu,
}


def contestants(name: str) -> Mapping[str, Contestant]:
    """Return who computes a quantity: funcnet, jax.nn, and PyTorch where it is installed."""
    function, derivative = name.removesuffix("'"), name.endswith("'")
    ours, theirs = ACTIVATIONS[function], JAX_NN[function]
    if not derivative:
        return {"funcnet": jax.jit(ours), "jax.nn": jax.jit(theirs), **_pytorch(function, _value)}
    return {
        "by hand": jax.jit(DERIVATIVES[function]),
        "funcnet": _gradient(ours),
        "jax.nn": _gradient(theirs),
        **_pytorch(function, _backward),
    }


def _gradient(function: Callable[..., Array]) -> Contestant:
    """By jax.grad."""
    return jax.jit(jax.grad(lambda x: function(x).sum()))


def _pytorch(name: str, use: Callable[[Any, Any], Any]) -> dict[str, Contestant]:
    try:
        import torch
    except ImportError:
        return {}
    functional = torch.nn.functional
    functions = {
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "relu": torch.relu,
        "leaky_relu": functools.partial(functional.leaky_relu, negative_slope=0.1),
        "elu": functional.elu,
    }
    return {"PyTorch": lambda x: use(functions[name], torch.from_numpy(x)).numpy()}


def _value(function: Any, x: Any) -> Any:
    return function(x)


def _backward(function: Any, x: Any) -> Any:
    """By PyTorch's autograd."""
    x = x.requires_grad_()
    function(x).sum().backward()
    return x.grad


def verify(
    name: str, rivals: Mapping[str, Contestant], bits: UInt32[np.ndarray, "inputs"]
) -> Iterator[tuple[str, Tally]]:
    """Yield the errors of each contestant on the inputs of these bits.

    Args:
      name: the quantity.
      rivals: `contestants(name)`; they are compiled once, if they are made once.
      bits: the inputs' bits. JAX must be in double precision.
    """
    x = bits.view(np.float32)
    truth = _truth(name, x)
    for contestant, function in rivals.items():
        worst, nans, outside = _compare(name, x, function(x), truth)
        pair = np.array([int(worst) >> 32, int(worst) & 0xFFFFFFFF], np.uint32)
        ulp, at = pair.view(np.float32).tolist()
        yield contestant, Tally(ulp=ulp, at=at, nans=int(nans), outside=int(outside))


def merge(a: Tally, b: Tally) -> Tally:
    """Return the errors on the inputs of both."""
    worse = max(a, b, key=lambda tally: tally.ulp)
    return dataclasses.replace(worse, nans=a.nans + b.nans, outside=a.outside + b.outside)


@functools.partial(jax.jit, static_argnums=0)
def _truth(name: str, x: Float32[Array, "inputs"]) -> Float64[Array, "inputs"]:
    return QUANTITIES[name].truth(x.astype(jnp.float64))


@functools.partial(jax.jit, static_argnums=0)
def _compare(
    name: str,
    x: Float32[Array, "inputs"],
    y: Float32[Array, "inputs"],
    truth: Float64[Array, "inputs"],
) -> tuple[Array, Array, Array]:
    """`(worst, nans, outside)`: `worst` holds the largest error above the bits of its input."""
    quantity = QUANTITIES[name]
    tested = ~jnp.isnan(x) & ~(quantity.jumps & (jnp.abs(x) < TINY))
    error = jnp.where(tested & ~jnp.isnan(y), ulps(y, truth), 0).astype(jnp.float32)
    # The bits of numbers ≥ 0 are ordered as the numbers are.
    error_bits, x_bits = (jax.lax.bitcast_convert_type(a, jnp.uint32) for a in (error, x))
    worst = jnp.max((error_bits.astype(jnp.uint64) << 32) | x_bits.astype(jnp.uint64))
    outside = (y < quantity.low) | (y > quantity.high)
    return worst, jnp.sum(jnp.isnan(y) & ~jnp.isnan(x)), jnp.sum(outside)


def ulps(y: Float32[Array, "inputs"], truth: Float64[Array, "inputs"]) -> Float64[Array, "inputs"]:
    """Return the errors of results, in ULP of the truth.

    >>> with jax.enable_x64(True):
    ...     print(ulps(jnp.float32([1.0, 1.0, 0.0]), jnp.array([1.0, 1 + 2.0**-23, 2.0**-130])))
    [0. 1. 0.]
    """
    result = y.astype(jnp.float64)
    result = jnp.where(jnp.abs(result) < TINY, jnp.clip(truth, -TINY, TINY), result)
    exponent = jax.lax.bitcast_convert_type(truth, jnp.int64) & (0x7FF << 52)
    power = jax.lax.bitcast_convert_type(exponent, jnp.float64)
    distance = jnp.abs(result - truth) / (jnp.maximum(power, TINY) * 2.0**-23)
    return jnp.where(result == truth, 0, distance)  # ∞ − ∞ too


def stratified(count: int, *, seed: int) -> UInt32[np.ndarray, "inputs"]:
    """Return the bits of as many inputs of each sign and exponent, the ends of each among them.

    >>> len(stratified(100_000, seed=0))
    99840
    """
    rng = np.random.default_rng(seed)
    mantissas = rng.integers(2**23, size=(STRATA, count // STRATA), dtype=np.uint32)
    mantissas[:, :2] = 0, 2**23 - 1
    return (np.arange(STRATA, dtype=np.uint32)[:, np.newaxis] << 23 | mantissas).ravel()
