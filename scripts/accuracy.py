"""How far float32 results lie from the truth: references, contestants and the ruler.

The error is measured in ULP of the true result r, `|y − r| / 2^(exponent of r − 23)`: 0.5 at most
is a correctly rounded y. Of subnormal numbers, below 2⁻¹²⁶, which XLA flushes to zero:

- a result y among them, zero included, stands for any of them: its error is the distance of r
  from the nearest;
- an input among them is a zero, and a derivative that jumps at 0 is not judged there.

NaNs among the inputs are not judged either.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Float64, UInt32

from funcnet.activations import ACTIVATIONS
from funcnet.chain_rule import DERIVATIVES

TINY = 2.0**-126
"""The least normal number of float32."""

STRATA = 512
"""The combinations of a float32's sign and exponent: its upper nine bits."""

Contestant: TypeAlias = Callable[[Float32[np.ndarray, "inputs"]], Any]


class Quantity(NamedTuple):
    """What is verified: a function, or its derivative.

    Attributes:
      truth: in float64, by a formula that cancels nothing.
      low: no result lies below.
      high: no result lies above.
      jumps: whether there is a jump at 0, where several results are right.
    """

    truth: Callable[[Float64[Array, "inputs"]], Float64[Array, "inputs"]]
    low: float
    high: float
    jumps: bool = False


class Tally(NamedTuple):
    """How a contestant did on inputs so far.

    Attributes:
      ulp: the largest error.
      at: the input that has it.
      nans: results that are NaN.
      outside: results outside the range of the quantity.
    """

    ulp: float
    at: float
    nans: int
    outside: int


NOTHING = Tally(ulp=-1.0, at=0.0, nans=0, outside=0)
"""How a contestant did on no input."""


def _decay(x: Float64[Array, "inputs"]) -> Float64[Array, "inputs"]:
    """`e^−|x|`, which never overflows."""
    return jnp.exp(-jnp.abs(x))


def _step(x: Float64[Array, "inputs"], *, low: float) -> Float64[Array, "inputs"]:
    return jnp.where(x > 0, 1.0, low)


QUANTITIES: Mapping[str, Quantity] = {
    "sigmoid": Quantity(lambda x: jnp.where(x < 0, _decay(x), 1) / (1 + _decay(x)), 0, 1),
    "sigmoid'": Quantity(lambda x: _decay(x) / (1 + _decay(x)) ** 2, 0, 0.25),
    "tanh": Quantity(
        lambda x: -jnp.sign(x) * jnp.expm1(-2 * jnp.abs(x)) / (1 + _decay(2 * x)), -1, 1
    ),
    "tanh'": Quantity(lambda x: 4 * _decay(2 * x) / (1 + _decay(2 * x)) ** 2, 0, 1),
    "relu": Quantity(lambda x: jnp.maximum(x, 0), 0, math.inf),
    "relu'": Quantity(functools.partial(_step, low=0.0), 0, 1, jumps=True),
    "leaky_relu": Quantity(lambda x: jnp.maximum(0.1 * x, x), -math.inf, math.inf),
    "leaky_relu'": Quantity(functools.partial(_step, low=0.1), 0.1, 1, jumps=True),
    "elu": Quantity(lambda x: jnp.where(x > 0, x, jnp.expm1(jnp.minimum(x, 0))), -1, math.inf),
    "elu'": Quantity(lambda x: jnp.exp(jnp.minimum(x, 0)), 0, 1),
}
"""The activations of one number, with their default options, and their derivatives."""

JAX_NN: Mapping[str, Callable[..., Array]] = {
    "sigmoid": jax.nn.sigmoid,
    "tanh": jax.nn.tanh,
    "relu": jax.nn.relu,
    "leaky_relu": functools.partial(jax.nn.leaky_relu, negative_slope=0.1),
    "elu": jax.nn.elu,
}


@functools.cache
def contestants(name: str) -> Mapping[str, Contestant]:
    """Who computes a quantity, by name: those of funcnet, jax.nn's, PyTorch's where it is."""
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
    """The derivative at each input, by jax.grad."""
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
    """The derivative at each input, by PyTorch's autograd."""
    x = x.requires_grad_()
    function(x).sum().backward()
    return x.grad


def verify(name: str, bits: UInt32[np.ndarray, "inputs"]) -> Iterator[tuple[str, Tally]]:
    """How each contestant does with the inputs of these bits; needs JAX in double precision."""
    x = bits.view(np.float32)
    truth = _truth(name, x)
    for contestant, function in contestants(name).items():
        worst, nans, outside = _judge(name, x, function(x), truth)
        ulp, at = (np.array([int(worst) >> 32, int(worst) & 0xFFFFFFFF], np.uint32)).view(
            np.float32
        )
        yield contestant, Tally(ulp=float(ulp), at=float(at), nans=int(nans), outside=int(outside))


def merge(a: Tally, b: Tally) -> Tally:
    """How a contestant did on both."""
    worse = max(a, b, key=lambda tally: tally.ulp)
    return worse._replace(nans=a.nans + b.nans, outside=a.outside + b.outside)


@functools.partial(jax.jit, static_argnums=0)
def _truth(name: str, x: Float32[Array, "inputs"]) -> Float64[Array, "inputs"]:
    return QUANTITIES[name].truth(x.astype(jnp.float64))


@functools.partial(jax.jit, static_argnums=0)
def _judge(
    name: str,
    x: Float32[Array, "inputs"],
    y: Float32[Array, "inputs"],
    truth: Float64[Array, "inputs"],
) -> tuple[Array, Array, Array]:
    """The largest error, above the bits of its input in one number; NaNs; results out of range."""
    quantity = QUANTITIES[name]
    judged = ~jnp.isnan(x) & ~(quantity.jumps & (jnp.abs(x) < TINY))
    error = jnp.where(judged & ~jnp.isnan(y), ulps(y, truth), 0).astype(jnp.float32)
    # The bits of numbers ≥ 0 are ordered as the numbers are.
    error_bits, x_bits = (jax.lax.bitcast_convert_type(a, jnp.uint32) for a in (error, x))
    worst = jnp.max((error_bits.astype(jnp.uint64) << 32) | x_bits.astype(jnp.uint64))
    outside = (y < quantity.low) | (y > quantity.high)
    return worst, jnp.sum(jnp.isnan(y) & ~jnp.isnan(x)), jnp.sum(outside)


def ulps(y: Float32[Array, "inputs"], truth: Float64[Array, "inputs"]) -> Float64[Array, "inputs"]:
    """How many ULP of the truth a result is off.

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
    """The bits of as many inputs of each sign and exponent, the ends of each among them.

    >>> len(stratified(100_000, seed=0))
    99840
    """
    rng = np.random.default_rng(seed)
    mantissas = rng.integers(2**23, size=(STRATA, count // STRATA), dtype=np.uint32)
    mantissas[:, :2] = 0, 2**23 - 1
    return (np.arange(STRATA, dtype=np.uint32)[:, np.newaxis] << 23 | mantissas).ravel()
