"""Models against NumPy and PyTorch, their first weights, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcnet import UsageError, models
from funcnet.activations import ACTIVATIONS


def test_linear_is_the_affine_map():
    model = models.linear(3, 2)
    params = model.init(jax.random.key(0))._replace(bias=jnp.array([1.0, -1.0]))
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    expected = x @ np.asarray(params.weight).T + np.array([1.0, -1.0])
    np.testing.assert_allclose(model.apply(params, x), expected, rtol=1e-5)


def test_maxout_takes_the_largest_of_its_pieces():
    model = models.mlp([3, 4, 2], activation="maxout", pieces=5)
    hidden, last = params = model.init(jax.random.key(0))
    x = np.random.default_rng(0).normal(size=3).astype(np.float32)
    pieces = np.stack(
        [np.asarray(W) @ x + b for W, b in zip(hidden.weight, hidden.bias, strict=True)]
    )
    expected = np.asarray(last.weight) @ pieces.max(axis=0) + last.bias
    np.testing.assert_allclose(model.apply(params, x), expected, rtol=1e-5)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "leaky_relu", "elu"])
def test_an_mlp_is_pytorchs(activation):
    torch = pytest.importorskip("torch", reason="PyTorch is in the extra [peers]")
    layers = {
        "sigmoid": torch.nn.Sigmoid(),
        "tanh": torch.nn.Tanh(),
        "relu": torch.nn.ReLU(),
        "leaky_relu": torch.nn.LeakyReLU(0.1),
        "elu": torch.nn.ELU(),
    }
    model = models.mlp([4, 6, 5, 3], activation=activation)
    params = model.init(jax.random.key(0))
    affine = []
    for layer in params:
        linear = torch.nn.Linear(*layer.weight.shape[::-1])
        linear.load_state_dict(
            {
                "weight": torch.tensor(layer.weight.tolist()),
                "bias": torch.tensor(layer.bias.tolist()),
            }
        )
        affine.append(linear)
    network = torch.nn.Sequential(
        affine[0], layers[activation], affine[1], layers[activation], affine[2]
    )
    x = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    expected = network(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(model.apply(params, x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("activation", "pieces"),
    [
        *((name, 2) for name in ("relu", "leaky_relu", "elu")),
        *(("maxout", k) for k in (1, 2, 3, 8)),
    ],
)
def test_the_first_weights_keep_the_size_of_the_signal(activation, pieces):
    """He's argument: the mean square of a layer's output is that of its input."""
    width = 1000
    model = models.mlp([width, width, width, width], activation=activation, pieces=pieces)
    *hidden, _ = model.init(jax.random.key(0))
    h = jax.random.normal(jax.random.key(1), [100, width])
    for layer in hidden:
        z = jnp.einsum("...oi,bi->b...o", layer.weight, h)
        h = ACTIVATIONS[activation](z)
        np.testing.assert_allclose(jnp.mean(h**2), 1, rtol=0.1)


@pytest.mark.parametrize(
    ("pieces", "mean_square"),
    [(1, 1), (2, 1), (3, 1 + 3**0.5 / (2 * np.pi)), (4, 1 + 3**0.5 / np.pi)],
)
def test_the_scale_of_a_maxout_is_the_closed_form(pieces, mean_square):
    """The second moment of the largest of k normal numbers; of 1 and 2 it is exactly 1."""
    scale = models.maxout_scale(pieces)
    assert scale == pytest.approx(1 / mean_square, rel=1e-11)
    assert (scale == 1) == (pieces <= 2)


@pytest.mark.parametrize("activation", [a for a in models.WEIGHT_SCALES if a != "linear"])
def test_the_first_weights_have_the_variance_of_the_table(activation):
    hidden, last = models.mlp([400, 300, 200], activation=activation).init(jax.random.key(0))
    scale = models.WEIGHT_SCALES[activation]
    np.testing.assert_allclose(hidden.weight.var(), scale / 400, rtol=0.02)
    np.testing.assert_allclose(last.weight.var(), 1 / 300, rtol=0.02)
    assert not hidden.bias.any()
    assert not last.bias.any()


def test_the_deviation_for_sigmoid_is_four_times_that_for_tanh():
    """σ(x) = (1 + tanh(x/2)) / 2: half the input, half the output."""
    scales = models.WEIGHT_SCALES
    assert scales["sigmoid"] == 4**2 * scales["tanh"]


def test_sizes_may_be_numpys():
    model = models.softmax_regression(np.int64(4), np.int32(3))
    assert model.init(jax.random.key(0)).weight.shape == (3, 4)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: models.mlp([3, 2], activation="rleu"), "activation.*'rleu'. Did you mean 'relu'"),
        (lambda: models.mlp([3]), r"sizes: expected \[features, ..., classes\].*got \[3\]"),
        (lambda: models.mlp([3, 0, 2]), r"sizes\[1\]: expected a positive integer; got 0"),
        (lambda: models.mlp([3, 2], activation="maxout", pieces=0), "pieces: .*got 0"),
        (lambda: models.linear(-1, 2), "num_features: expected a positive integer; got -1"),
        (lambda: models.softmax_regression(3, True), "num_classes: .*got True"),
        (lambda: models.linear(3, 0), "num_outputs: .*got 0"),
    ],
)
def test_what_cannot_be_a_model_is_refused(build, message):
    with pytest.raises(UsageError, match=message):
        build()
