"""A sweep's models against the same models, trained alone."""

import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import funcnet as fn
from funcnet.training import _sweep as sweep
from funcnet.training import (
    epoch_order,
    evaluate,
    init_state,
    make_train_epoch,
    make_train_step,
    shuffled,
    train_epochs,
)

LOSS = fn.losses.softmax_cross_entropy
MODELS = {
    "softmax": fn.models.softmax_regression(64, 10),
    "mlp": fn.models.mlp([64, 16, 10], activation="tanh"),
    "maxout": fn.models.mlp([64, 12, 10], activation="maxout"),
}
OPTIMIZERS = {"sgd": optax.sgd, "momentum": lambda rate: optax.sgd(rate, momentum=0.9)}


@pytest.fixture(scope="module")
def examples():
    return fn.data.split(fn.data.load("digits").train, share=0.2)


def make_oracle(model, optimizer, train, *, epochs, batch_size):
    """`setting -> (params, losses)`: the ordinary step and epoch of one model, compiled once."""

    @jax.jit
    def train_alone(setting):
        transformation = optax.chain(
            optax.add_decayed_weights(setting.l2), optimizer(setting.learning_rate)
        )
        params = jax.tree.map(lambda p: setting.scale * p, model.init(jax.random.key(setting.seed)))
        state = init_state(params, transformation)
        train_epoch = make_train_epoch(make_train_step(model.apply, LOSS, transformation))
        for epoch in range(epochs):
            order = epoch_order(seed=5, epoch=epoch, num_examples=len(train.targets))
            state, info = train_epoch(state, shuffled(train, order), batch_size=batch_size)
        return state.params, info.loss

    return train_alone


def relative_error(actual, expected):
    """Of the worst leaf: the largest difference over the leaf's largest entry."""
    errors = jax.tree.map(lambda a, e: np.abs(a - e).max() / np.abs(e).max(), actual, expected)
    return max(jax.tree.leaves(errors))


@pytest.mark.parametrize(
    ("optimizer", "name"),
    [
        ("sgd", "softmax"),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in (
                ("momentum", "mlp"),
                ("sgd", "mlp"),
                ("sgd", "maxout"),
                ("momentum", "softmax"),
                ("momentum", "maxout"),
            )
        ),
    ],
)
def test_each_model_is_that_of_its_own_training(name, optimizer, examples):
    model, (train, validation) = MODELS[name], examples
    options = {"epochs": 3, "batch_size": 100}  # 1,149 examples: the last batch is ragged
    settings = sweep.combinations([0.02, 0.1], [0, 7], l2s=[0.0, 0.01], scales=[1.0, 0.5])
    result = sweep.fit(
        model, LOSS, train, settings, validation=validation, optimizer=OPTIMIZERS[optimizer],
        order_seed=5, **options,
    )  # fmt: skip
    assert len(result.settings.seed) == 16
    train_alone = make_oracle(model, OPTIMIZERS[optimizer], train, **options)
    for index in (0, 3, 6, 9, 15):
        setting = jax.tree.map(lambda column, i=index: column[i], result.settings)
        params, step_losses = train_alone(setting)
        swept = jax.tree.map(lambda leaf, i=index: leaf[i], result.params)
        assert relative_error(swept, params) < 1e-5
        alone = evaluate(model.apply, LOSS, params, validation)
        np.testing.assert_allclose(result.validation_accuracy[index, -1], alone.accuracy, rtol=1e-6)
        np.testing.assert_allclose(result.validation_loss[index, -1], alone.loss, rtol=1e-4)
        mean = (step_losses[:-1].sum() * 100 + step_losses[-1] * 49) / 1149
        np.testing.assert_allclose(result.train_loss[index, -1], mean, rtol=1e-5)


def test_the_models_are_divided_among_the_devices(examples, monkeypatch):
    """Whose memory is asked for is that of the platform on which JAX computes."""
    train, validation = examples
    settings, asked = sweep.combinations([0.1, 0.3], range(2)), []
    monkeypatch.setattr(sweep, "free_memory", lambda device: asked.append(device) or 2**40)
    with jax.default_device(jax.devices("cpu")[1]):
        task, start = sweep.make_task(
            MODELS["softmax"], LOSS, train, settings, validation=validation
        )
    assert asked == [jax.devices("cpu")[0]]
    ((reached, _),) = train_epochs(task, start, epochs=1)
    assert jax.device_count() == 2
    weight = reached.state.params.weight
    assert [shard.data.shape for shard in weight.addressable_shards] == [(2, 10, 64)] * 2


@pytest.mark.slow
def test_models_that_do_not_divide_among_the_devices(examples, monkeypatch):
    """Two devices compute the last of three twice, and leave it out; one device goes on."""
    train, validation = examples
    settings = sweep.combinations([0.1, 0.2, 0.3], [0])

    def make_task():
        return sweep.make_task(MODELS["softmax"], LOSS, train, settings, validation=validation)

    task, start = make_task()
    (first, info), (whole, _) = train_epochs(task, start, epochs=2)
    assert info.loss.shape == (9, 3)
    assert {len(leaf) for leaf in jax.tree.leaves((first.state, first.rows))} == {3}

    one = Mesh(np.array(jax.devices()[:1]), ("models",))
    layouts = [NamedSharding(one, PartitionSpec(*axes)) for axes in (("models",), ())]
    monkeypatch.setattr(sweep, "across_devices", lambda axis: layouts)
    task, _ = make_task()
    ((again, _),) = train_epochs(task, jax.tree.map(np.asarray, first), epochs=2)
    params = jax.tree.map(np.asarray, (again.state.params, whole.state.params))
    assert relative_error(*params) < 1e-5
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), again.rows, whole.rows)


@pytest.mark.slow
def test_an_l2_weight_shrinks_the_parameters(examples):
    train, validation = examples
    settings = sweep.combinations([0.1], [0], l2s=[0.0, 0.1, 1.0])
    result = sweep.fit(MODELS["softmax"], LOSS, train, settings, validation=validation, epochs=3)
    norms = jnp.linalg.norm(result.params.weight, axis=(1, 2))
    assert norms[0] > norms[1] > norms[2]


def test_a_sweep_that_does_not_fit_is_refused_with_how_many_models_would(examples, monkeypatch):
    train, validation = (jax.tree.map(lambda a: a[:40], some) for some in examples)

    def refused(memory, count):
        monkeypatch.setattr(sweep, "free_memory", lambda device: memory / sweep.MEMORY_SHARE)
        settings = sweep.combinations([0.1], range(count))
        try:
            sweep.make_task(MODELS["softmax"], LOSS, train, settings, validation=validation)
        except fn.UsageError as error:
            return str(error)

    none = refused(10, count=1)
    assert re.match(r"settings: expected a smaller model, .*; got 1 models, which need", none)
    needed = numbers_in(none)[-1]
    some = refused(1.3 * needed, count=8)
    assert re.match(r"settings: expected at most \d models, .* got 8 models, which need", some)
    fitting, memory, _, total = numbers_in(some)
    assert 0 < fitting < 8
    assert needed < memory < total
    assert refused(1.3 * needed, count=fitting) is None


def numbers_in(message):
    """The whole numbers of a message."""
    return [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", message)]


def test_evaluation_is_part_of_the_memory_that_is_predicted(examples, monkeypatch):
    train, validation = examples
    many = jax.tree.map(lambda a: np.concatenate([a] * 20), validation)
    monkeypatch.setattr(sweep, "free_memory", lambda device: 1)

    def needed(validation):
        with pytest.raises(fn.UsageError, match="expected a smaller model") as error:
            sweep.fit(
                MODELS["mlp"], LOSS, train, sweep.combinations([0.1], [0]), validation=validation,
                batch_size=4,
            )  # fmt: skip
        return numbers_in(str(error.value))[-1]

    assert needed(many) - needed(validation) >= many.inputs.nbytes - train.inputs.nbytes


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"learning_rates": []}, "learning_rates: expected one number or more; got none"),
        (
            {"learning_rates": [0.1, -1.0]},
            "learning_rates: expected numbers that are positive and finite, as float32; got -1",
        ),
        ({"learning_rates": [float("nan")]}, "learning_rates: .*; got nan"),
        ({"seeds": [2**32]}, r"seeds: .* whole, 0 to 2\^32 - 1, as uint32; got 4294967296"),
        ({"seeds": [-1]}, "seeds: .*; got -1"),
        ({"l2s": [-0.1]}, "l2s: expected numbers that are not negative, and finite, .*; got -0.1"),
        ({"scales": [0.0]}, "scales: expected numbers that are positive .*; got 0.0"),
        ({"seeds": [5, 1, 5]}, "seeds: expected each number once, as uint32; got 5 2 times"),
        ({"learning_rates": [1e39]}, r"learning_rates: .* finite, as float32; got 1e\+39"),
        ({"learning_rates": [1e-50]}, "learning_rates: .* positive and .* as float32; got 1e-50"),
        ({"l2s": [1e300]}, r"l2s: .* finite, as float32; got 1e\+300"),
        ({"scales": [0.3, 0.1 + 0.2]}, "scales: .* once, as float32; got 0.3.* 2 times"),
        ({"learning_rates": [np.float32(0.1), 0.1]}, "learning_rates: .* once, .*got 0.1 2 times"),
    ],
)
def test_settings_that_cannot_be_trained_with(changed, message):
    with pytest.raises(fn.UsageError, match=message):
        sweep.combinations(**{"learning_rates": [0.1], "seeds": [0], **changed})


@pytest.mark.parametrize("name", ["epochs", "batch_size"])
def test_counts_are_positive(name, examples):
    train, validation = examples
    settings = sweep.combinations([0.1], [0])
    with pytest.raises(fn.UsageError, match=f"{name}: expected a positive integer; got 0"):
        sweep.fit(MODELS["softmax"], LOSS, train, settings, validation=validation, **{name: 0})


def test_settings_may_be_arrays():
    jax_arrays = sweep.combinations(
        jnp.array([0.1, 0.2]), jnp.arange(3), l2s=[jnp.float32(0.1)], scales=np.array([1, 2])
    )
    lists = sweep.combinations([0.1, 0.2], range(3), l2s=[0.1], scales=[1.0, 2.0])
    again = sweep.combinations([lists.learning_rate[0]], [lists.seed[0]], l2s=[np.array(0.1)])
    jax.tree.map(np.testing.assert_array_equal, jax_arrays, lists)
    jax.tree.map(lambda one, all: np.testing.assert_array_equal(one, all[:1]), again, lists)


WRONG_TYPES = {
    "learning_rates=0.1": "learning_rates: expected a list of numbers; got 0.1. Try [0.1].",
    "learning_rates=['a']": "learning_rates: expected real numbers; got 'a'.",
    "learning_rates=np.array(0.1)": "learning_rates: expected a list of numbers; got array(0.1). "
    "Try [array(0.1)].",
    "seeds=[True]": "seeds: expected real numbers; got True.",
    "seeds=8": "seeds: expected a list of numbers; got 8. Try [8].",
    "seeds=[0.5]": "seeds: expected numbers that are whole, 0 to 2^32 - 1, as uint32; got 0.5.",
}
"""Arguments of `combinations`, and the message about each."""
WRONG_ARGUMENTS = {
    "optimizer=optax.sgd(0.1)": "optimizer: expected a function of the learning rate, such as "
    "optax.sgd; got GradientTransformationExtraArgs. Each model has its own rate: lambda rate: ...",
    "settings={}": "settings: expected what combinations(learning_rates=..., seeds=...) returns; "
    "got dict.",
}
"""Arguments of `fit`, and the message about each."""


def test_arguments_of_the_wrong_type():
    """In a process of its own: in this one the annotations are enforced, and refuse them first."""
    program = f"""
import numpy as np, optax, funcnet as fn
some = fn.Examples(inputs=np.eye(4, dtype=np.float32), targets=np.arange(4))
model, loss = fn.models.softmax_regression(4, 4), fn.losses.softmax_cross_entropy
settings = fn.sweep.combinations([0.1], [0])
for wrong in {[*WRONG_TYPES, *WRONG_ARGUMENTS]}:
    given = eval(f"dict({{wrong}})")
    try:
        if wrong in {[*WRONG_TYPES]}:
            fn.sweep.combinations(**{{"learning_rates": [0.1], "seeds": [0], **given}})
        else:
            fn.sweep.fit(model, loss, some, **{{"settings": settings, "validation": some, **given}})
    except fn.UsageError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    expected = [*WRONG_TYPES.values(), *WRONG_ARGUMENTS.values()]
    assert done.stdout.splitlines() == expected, done.stderr


@pytest.mark.parametrize("which", ["data", "validation"])
@pytest.mark.parametrize("count", [0, 9])
def test_inputs_and_targets_that_do_not_belong_together(which, count, examples):
    train, validation = examples
    given = {"data": train, "validation": validation}
    given[which] = given[which]._replace(targets=given[which].targets[:count])
    settings = sweep.combinations([0.1], [0])
    with pytest.raises(fn.UsageError, match=rf"{which}: expected one target .*and {count} targets"):
        sweep.fit(MODELS["softmax"], LOSS, settings=settings, **given)


@pytest.mark.slow
def test_the_parameters_keep_their_dtype(examples):
    def as_bfloat16(tree):
        return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tree)

    model = MODELS["softmax"]
    train, validation = (e._replace(inputs=as_bfloat16(e.inputs)) for e in examples)

    result = sweep.fit(
        model._replace(init=lambda key: as_bfloat16(model.init(key))), LOSS, train,
        sweep.combinations([0.1], [0], l2s=[0.01], scales=[0.5]), validation=validation,
        optimizer=OPTIMIZERS["momentum"], epochs=2,
    )  # fmt: skip
    assert {leaf.dtype for leaf in jax.tree.leaves(result.params)} == {jnp.dtype(jnp.bfloat16)}
    assert result.validation_accuracy[0, -1] > 0.8
