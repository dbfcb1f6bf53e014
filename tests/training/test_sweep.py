"""A sweep's models against the same models, trained alone."""

import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import funcnet as fn
from funcnet.training import _sweep as sweep
from funcnet.training._step import (
    epoch_order,
    evaluate,
    init_state,
    make_train_epoch,
    make_train_step,
    shuffled,
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


def trained_alone(model, setting, optimizer, train, *, epochs, batch_size):
    """The oracle: the ordinary step and epoch, one model, its settings written into them."""
    rate, seed, l2, scale = (value.item() for value in setting)
    transformation = optax.chain(optax.add_decayed_weights(l2), optimizer(rate))
    params = jax.tree.map(lambda p: scale * p, model.init(jax.random.key(seed)))
    state = init_state(params, transformation)
    train_epoch = make_train_epoch(make_train_step(model.apply, LOSS, transformation))
    for epoch in range(epochs):
        order = epoch_order(seed=5, epoch=epoch, num_examples=len(train.targets))
        state, info = train_epoch(state, shuffled(train, order), batch_size=batch_size)
    return state.params, info.loss


def relative_error(actual, expected):
    """Of the worst leaf: the largest difference over the leaf's largest entry."""
    errors = jax.tree.map(lambda a, e: np.abs(a - e).max() / np.abs(e).max(), actual, expected)
    return max(jax.tree.leaves(errors))


def _bytes_in(error):
    """The number of bytes that a message expects."""
    return int(re.search(r"[\d,]+", str(error)).group().replace(",", ""))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_model_is_that_of_its_own_training(name, optimizer, examples):
    model, (train, validation) = MODELS[name], examples
    options = {"epochs": 3, "batch_size": 100}  # 1,149 examples: the last batch is ragged
    result = sweep.fit(
        model, LOSS, train, validation=validation, optimizer=OPTIMIZERS[optimizer], order_seed=5,
        learning_rates=[0.02, 0.1], seeds=[0, 7], l2s=[0.0, 0.01], scales=[1.0, 0.5], **options,
    )  # fmt: skip
    assert len(result.settings.seed) == 16
    for index in (0, 3, 6, 9, 15):
        setting = jax.tree.map(lambda column, i=index: column[i], result.settings)
        params, step_losses = trained_alone(model, setting, OPTIMIZERS[optimizer], train, **options)
        swept = jax.tree.map(lambda leaf, i=index: leaf[i], result.params)
        assert relative_error(swept, params) < 1e-5
        alone = evaluate(model.apply, LOSS, params, validation)
        np.testing.assert_allclose(result.validation_accuracy[index, -1], alone.accuracy, rtol=1e-6)
        np.testing.assert_allclose(result.validation_loss[index, -1], alone.loss, rtol=1e-4)
        mean = (step_losses[:-1].sum() * 100 + step_losses[-1] * 49) / 1149
        np.testing.assert_allclose(result.train_loss[index, -1], mean, rtol=1e-5)


def test_a_sweep_that_is_cut_gives_the_same_models(examples):
    train, validation = examples

    def fit(**options):
        return sweep.fit(
            MODELS["softmax"], LOSS, train, validation=validation, learning_rates=[0.1, 0.3],
            seeds=range(3), epochs=2, **options,
        )  # fmt: skip

    passed = []

    def watch(epochs):
        passed.append(len(epochs))
        return epochs

    with pytest.raises(
        ValueError, match=r"memory: expected [\d,]+ bytes or more.*; 10 may be"
    ) as one:
        fit(memory=10)
    needed = _bytes_in(one.value)
    whole, cut = fit(watch=watch), fit(watch=watch, memory=1.01 * needed)
    assert passed[0] == 2
    assert len(passed[1:]) > 1
    assert relative_error(cut.params, whole.params) < 1e-5
    np.testing.assert_array_equal(cut.settings.seed, whole.settings.seed)


def test_the_models_are_divided_among_the_devices(examples):
    train, validation = examples
    seen = []
    sweep.fit(
        MODELS["softmax"], LOSS, train, validation=validation, learning_rates=[0.1, 0.3],
        seeds=range(2), epochs=1, save=seen.append,
    )  # fmt: skip
    assert jax.device_count() == 2
    weight = seen[-1].parts[0].state.models.params.weight
    assert [shard.data.shape for shard in weight.addressable_shards] == [(2, 10, 64)] * 2


def test_an_l2_weight_shrinks_the_parameters(examples):
    train, validation = examples
    result = sweep.fit(
        MODELS["softmax"], LOSS, train, validation=validation, learning_rates=[0.1], seeds=[0],
        l2s=[0.0, 0.1, 1.0], epochs=3,
    )  # fmt: skip
    norms = jnp.linalg.norm(result.params.weight, axis=(1, 2))
    assert norms[0] > norms[1] > norms[2]


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
        ({"epochs": 0}, "epochs: expected a positive integer; got 0"),
        ({"batch_size": 0}, "batch_size: expected a positive integer; got 0"),
        ({"seeds": [5, 1, 5]}, "seeds: expected each number once, as uint32; got 5 2 times"),
        ({"learning_rates": [1e39]}, r"learning_rates: .* finite, as float32; got 1e\+39"),
        ({"learning_rates": [1e-50]}, "learning_rates: .* positive and .* as float32; got 1e-50"),
        ({"l2s": [1e300]}, r"l2s: .* finite, as float32; got 1e\+300"),
        ({"scales": [0.3, 0.1 + 0.2]}, "scales: .* once, as float32; got 0.3.* 2 times"),
        ({"learning_rates": [np.float32(0.1), 0.1]}, "learning_rates: .* once, .*got 0.1 2 times"),
    ],
)
def test_settings_that_cannot_be_trained_with(changed, message, examples):
    train, validation = examples
    options = {"learning_rates": [0.1], "seeds": [0], **changed}
    with pytest.raises(ValueError, match=message):
        sweep.fit(MODELS["softmax"], LOSS, train, validation=validation, **options)


def test_settings_may_be_arrays():
    jax_arrays = sweep.combinations(
        jnp.array([0.1, 0.2]), jnp.arange(3), l2s=[jnp.float32(0.1)], scales=np.array([1, 2])
    )
    lists = sweep.combinations([0.1, 0.2], range(3), l2s=[0.1], scales=[1.0, 2.0])
    again = sweep.combinations([lists.learning_rate[0]], [lists.seed[0]], l2s=[np.array(0.1)])
    jax.tree.map(np.testing.assert_array_equal, jax_arrays, lists)
    jax.tree.map(np.testing.assert_array_equal, again, sweep.first(lists, 1))


WRONG_TYPES = {
    "learning_rates=0.1": "learning_rates: expected a list of numbers; got 0.1. Try [0.1].",
    "learning_rates=['a']": "learning_rates: expected real numbers; got 'a'.",
    "learning_rates=np.array(0.1)": "learning_rates: expected a list of numbers; got array(0.1). "
    "Try [array(0.1)].",
    "seeds=[True]": "seeds: expected real numbers; got True.",
    "seeds=8": "seeds: expected a list of numbers; got 8. Try [8].",
    "seeds=[0.5]": "seeds: expected numbers that are whole, 0 to 2^32 - 1, as uint32; got 0.5.",
    "optimizer=optax.sgd(0.1)": "optimizer: expected a function of the learning rate, such as "
    "optax.sgd; got GradientTransformationExtraArgs. Each model has its own rate: lambda rate: ...",
}


def test_what_is_not_of_the_right_type():
    """In a process of its own: in this one the annotations are enforced, and refuse it first."""
    program = f"""
import numpy as np, optax, funcnet as fn
some = fn.Examples(inputs=np.eye(4, dtype=np.float32), targets=np.arange(4))
model, loss = fn.models.softmax_regression(4, 4), fn.losses.softmax_cross_entropy
for wrong in {list(WRONG_TYPES)}:
    options = {{"learning_rates": [0.1], "seeds": [0], **eval(f"dict({{wrong}})")}}
    try:
        fn.sweep.fit(model, loss, some, validation=some, **options)
    except (TypeError, ValueError) as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines() == list(WRONG_TYPES.values()), done.stderr


@pytest.mark.parametrize("which", ["data", "validation"])
@pytest.mark.parametrize("count", [0, 9])
def test_inputs_and_targets_that_do_not_belong_together(which, count, examples):
    train, validation = examples
    given = {"data": train, "validation": validation}
    given[which] = given[which]._replace(targets=given[which].targets[:count])
    with pytest.raises(ValueError, match=rf"{which}: expected one target .*and {count} targets"):
        sweep.fit(
            MODELS["softmax"], LOSS, given["data"], validation=given["validation"],
            learning_rates=[0.1], seeds=[0],
        )  # fmt: skip


def test_the_parameters_keep_their_dtype(examples):
    def as_bfloat16(tree):
        return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tree)

    model = MODELS["softmax"]
    train, validation = (e._replace(inputs=as_bfloat16(e.inputs)) for e in examples)

    result = sweep.fit(
        model._replace(init=lambda key: as_bfloat16(model.init(key))), LOSS, train,
        validation=validation, learning_rates=[0.1], seeds=[0], l2s=[0.01], scales=[0.5],
        optimizer=OPTIMIZERS["momentum"], epochs=2,
    )  # fmt: skip
    assert {leaf.dtype for leaf in jax.tree.leaves(result.params)} == {jnp.dtype(jnp.bfloat16)}
    assert result.validation_accuracy[0, -1] > 0.8


def test_a_progress_of_other_settings_is_refused(examples):
    train, validation = examples
    kept = []

    def fit(**settings):
        return sweep.fit(MODELS["softmax"], LOSS, train, validation=validation, **settings)

    first = {"learning_rates": [0.1], "seeds": [0, 1]}
    alone = fit(**first, epochs=2, save=kept.append)
    again = fit(**first, epochs=2, progress=kept[0])
    np.testing.assert_array_equal(again.params.weight, alone.params.weight)
    for other in ({"learning_rates": [0.5], "seeds": [0, 1]}, {**first, "seeds": [0, 1, 2]}):
        with pytest.raises(ValueError, match="progress: expected that of the same"):
            fit(**other, epochs=2, progress=kept[0])
    with pytest.raises(ValueError, match="epochs: expected at least the 2 of the progress; got 1"):
        fit(**first, epochs=1, progress=kept[-1])


def test_judging_is_part_of_the_memory_that_is_predicted(examples):
    train, validation = examples
    many = jax.tree.map(lambda a: np.concatenate([a] * 20), validation)

    def needed(validation):
        with pytest.raises(ValueError, match="memory: expected") as error:
            sweep.fit(
                MODELS["mlp"], LOSS, train, validation=validation, learning_rates=[0.1],
                seeds=[0], batch_size=4, memory=1,
            )  # fmt: skip
        return _bytes_in(error.value)

    assert needed(many) - needed(validation) >= many.inputs.nbytes - train.inputs.nbytes
