"""What a run left, loaded again; and pictures, predicted from it.

`FUNCNET_PICTURES=10000 pytest -n0 -rP tests/runs/test_trained.py -k pictures_of` predicts 10,000 of
MNIST's pictures in each form, and prints the accuracies.
"""

import json
import os
import pathlib
import re
import runpy
import shutil
import sys

import chex
import jax
import numpy as np
import pytest
from PIL import Image

import funcnet as fn
from funcnet.runs import TrainConfig, run
from funcnet.runs._artifacts import load_config

PREDICT = str(pathlib.Path(__file__).parents[2] / "scripts" / "predict.py")
PICTURES = int(os.environ.get("FUNCNET_PICTURES", "200"))
CONFIGS = {
    "logistic": TrainConfig(model="logistic", target=7, epochs=1),
    "mlp": TrainConfig(model="mlp", hidden=(12, 9), activation="maxout", pieces=3, epochs=1),
}


def train(config, folder):
    return run(config.__class__(**{**vars(config), "out": folder}), say=lambda line: None)


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "digits"
    train(TrainConfig(), folder)
    return folder


@pytest.fixture(scope="module")
def mnist_run(prepared_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "mnist"
    train(TrainConfig(dataset="mnist", data_dir=prepared_dir, model="mlp", epochs=3), folder)
    return folder


@pytest.fixture
def predict(monkeypatch, capsys):
    """Runs the script with these arguments; its exit code, and what it wrote to both streams."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", [PREDICT, *map(str, arguments)])
        code = 0
        try:
            runpy.run_path(PREDICT, run_name="__main__")
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return call


def classes(printed):
    """The likeliest class of each line."""
    return np.array([int(line.split(": ")[1].split()[0]) for line in printed.splitlines()])


class TestLoadModel:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", CONFIGS)
    def test_it_is_the_trained_one(self, name, tmp_path):
        result = train(CONFIGS[name], tmp_path)
        model, params = fn.load_model(tmp_path)
        chex.assert_trees_all_equal(params, result.params)
        assert jax.tree.structure(params) == jax.tree.structure(result.params)
        x = fn.data.load("digits").test.inputs
        chex.assert_trees_all_equal(model.apply(params, x), result.model.apply(result.params, x))

    def test_of_a_run_with_an_option_that_is_unknown_here(self, digits_run, tmp_path):
        folder = shutil.copytree(digits_run, tmp_path / "run")
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "of_tomorrow": 1}))
        assert load_config(folder).dataset == "digits"

    @pytest.mark.parametrize("file", ["config.json", "params.safetensors"])
    def test_a_file_that_is_missing(self, file, digits_run, tmp_path):
        folder = shutil.copytree(digits_run, tmp_path / "run")
        (folder / file).unlink()
        with pytest.raises(
            FileNotFoundError, match=rf"{file}: expected a file that a run leaves.*--out"
        ):
            fn.load_model(folder)

    @pytest.mark.parametrize(
        "content",
        ["", "{", "[]", "{}", "null", '{"dataset": "digits"}', '{"model": "mlp", "hidden": 5}'],
    )
    def test_a_damaged_configuration(self, content, digits_run, tmp_path):
        folder = shutil.copytree(digits_run, tmp_path / "run")
        (folder / "config.json").write_text(content)
        with pytest.raises(ValueError, match=r"config.json: expected the configuration of a run"):
            fn.load_model(folder)

    def test_parameters_cut_short_anywhere(self, digits_run, tmp_path):
        folder = shutil.copytree(digits_run, tmp_path / "run")
        content = (folder / "params.safetensors").read_bytes()
        for length in np.linspace(0, len(content) - 1, 50, dtype=int):
            (folder / "params.safetensors").write_bytes(content[:length])
            with pytest.raises(ValueError, match=r"params.safetensors: .* no safetensors file"):
                fn.load_model(folder)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"model": "logistic", "target": 1}, r"(weight|bias): expected float32\[1.*\]; got "),
            ({"model": "mlp", "hidden": [5]}, "0.weight or 1.bias is not there"),
        ],
    )
    def test_parameters_of_another_run(self, change, message, digits_run, tmp_path):
        folder = shutil.copytree(digits_run, tmp_path / "run")
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(ValueError, match=f"expected the parameters of a .*; {message}"):
            fn.load_model(folder)


FORMS = {
    "as it is": lambda image: image,
    "inverted": lambda image: Image.eval(image, lambda grey: 255 - grey),
    "20 x 20": lambda image: image.resize((20, 20), Image.Resampling.BICUBIC),
    "100 x 100, inverted": lambda image: Image.eval(
        image.resize((100, 100), Image.Resampling.BICUBIC), lambda grey: 255 - grey
    ),
    "280 x 280": lambda image: image.resize((280, 280), Image.Resampling.NEAREST),
    "in a corner of grey paper": lambda image: on_paper(image),
}


def on_paper(image):
    """Dark grey ink on light grey, 400 x 300, off the middle."""
    page = Image.new("L", (400, 300), 200)
    ink = Image.eval(image.resize((150, 150)), lambda grey: 200 - grey * 150 // 255)
    page.paste(ink, (30, 120))
    return page.convert("RGB")


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_pictures_of_mnist_are_predicted_as_the_arrays_are(
    form, mnist, mnist_run, predict, tmp_path
):
    x, y = mnist.test.inputs[:PICTURES], mnist.test.targets[:PICTURES]
    model, params = fn.load_model(mnist_run)
    accuracy = (model.apply(params, x).argmax(axis=-1) == y).mean()
    paths = [tmp_path / f"{index}.png" for index in range(len(y))]
    for pixels, path in zip(x, paths, strict=True):
        FORMS[form](Image.fromarray(pixels.reshape(28, 28))).save(path)
    code, printed, err = predict(mnist_run, *paths)
    assert (code, err) == (0, "")
    of_pictures = (classes(printed) == y).mean()
    print(f"{form}: {of_pictures:.3f}, of the arrays {accuracy:.3f}")
    assert of_pictures >= accuracy - 0.03


def test_pictures_of_digits(digits_run, predict, tmp_path):
    test = fn.data.load("digits").test
    paths = [tmp_path / f"{index}.png" for index in range(len(test.targets))]
    for pixels, path in zip(test.inputs, paths, strict=True):
        image = Image.fromarray(np.uint8(255 * (1 - pixels.reshape(8, 8))))
        image.resize((64, 64), Image.Resampling.BICUBIC).save(path)
    code, printed, _ = predict(digits_run, *paths)
    assert code == 0
    assert (classes(printed) == test.targets).mean() > 0.9


def test_probabilities_are_those_of_the_model(mnist, mnist_run, predict, tmp_path):
    Image.fromarray(mnist.test.inputs[0].reshape(28, 28)).save(tmp_path / "7.png")
    code, printed, _ = predict(mnist_run, tmp_path / "7.png")
    assert code == 0
    model, params = fn.load_model(mnist_run)
    exact = np.exp(np.float64(model.apply(params, mnist.test.inputs[0])))
    path, pairs = printed.strip().split(": ")
    numbers = {int(k): float(p) for k, p in (pair.split() for pair in pairs.split(", "))}
    assert path == str(tmp_path / "7.png")
    assert list(numbers.values()) == sorted(numbers.values(), reverse=True)
    np.testing.assert_allclose([numbers[k] for k in range(10)], exact / exact.sum(), atol=2e-3)


def test_one_class_against_the_rest(predict, tmp_path):
    train(CONFIGS["logistic"], tmp_path / "run")
    Image.fromarray(np.uint8(np.eye(30) * 255)).save(tmp_path / "a.png")
    code, printed, _ = predict(tmp_path / "run", tmp_path / "a.png")
    assert code == 0
    names = printed.strip().split(": ")[1].replace(",", "").split()
    assert {"7", "not"} <= set(names)
    assert sum(float(name) for name in names if "." in name) == pytest.approx(1, abs=2e-4)


class TestWhatCantBePredicted:
    def test_a_run_on_something_else(self, predict, tmp_path):
        x = np.random.default_rng(0).normal(size=(60, 4))
        np.savez(tmp_path / "own.npz", x_train=x, y_train=np.arange(60) % 2)
        train(TrainConfig(dataset=str(tmp_path / "own.npz"), epochs=1), tmp_path / "run")
        code, out, err = predict(tmp_path / "run", tmp_path / "a.png")
        assert (code, out) == (2, "")
        assert "expected a run on mnist or digits" in err
        assert "own.npz" in err

    @pytest.mark.parametrize(
        ("name", "code", "message"),
        [
            ("nothing.png", 1, "nothing.png: expected an image; there is no such file."),
            ("text.png", 2, "text.png: expected an image of a digit; cannot identify"),
            ("empty.png", 2, "empty.png: expected an image of a digit; cannot identify"),
            ("short.png", 2, "short.png: expected an image of a digit; "),
            ("blank.png", 2, "blank.png: expected an image of a digit; expected a light and"),
            (".", 2, ": expected an image of a digit; .*[Ii]s a directory"),
            ("huge.png", 2, "huge.png: expected an image of a digit; .*decompression bomb"),
        ],
    )
    def test_a_file(self, name, code, message, digits_run, predict, tmp_path):
        noise = np.random.default_rng(0).integers(256, size=(50, 50), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "good.png")
        (tmp_path / "short.png").write_bytes((tmp_path / "good.png").read_bytes()[:900])
        (tmp_path / "text.png").write_text("7")
        (tmp_path / "empty.png").write_bytes(b"")
        Image.new("L", (20, 20), 7).save(tmp_path / "blank.png")
        Image.new("1", (10_000, 10_000)).save(tmp_path / "huge.png")
        ended, out, err = predict(digits_run, tmp_path / "good.png", tmp_path / name)
        assert (ended, out) == (code, "")
        assert err.startswith("error: ")
        assert len(err.splitlines()) == 1
        assert re.search(message, err)

    def test_no_picture(self, digits_run, predict):
        assert predict(digits_run)[0] == 2
