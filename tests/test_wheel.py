"""A wheel works outside of the checkout: its programs, its page, and its checker."""

import importlib.metadata
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]

CHECK = """
import funcnet as fn
report = fn.check_gradients(lambda x: x**3, 2.0, hand=lambda x: 3 * x**2)
print(fn.__file__, report.verdict)
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder that holds an installed wheel, and nothing else."""
    work = tmp_path_factory.mktemp("wheel")
    source = shutil.copytree(ROOT / "funcnet", work / "source" / "funcnet").parent
    for name in ("pyproject.toml", "README.md", "LICENSE"):  # a build leaves files beside them
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    major = int(importlib.metadata.version("setuptools").split(".")[0]) if has_setuptools() else 0
    isolation = ["--no-build-isolation"] if major >= 77 else []  # as pyproject.toml asks for
    build = [*pip, "wheel", "--no-deps", *isolation, "-w", work / "dist", source]
    subprocess.run(build, check=True)
    (wheel,) = (work / "dist").iterdir()
    subprocess.run([*pip, "install", "--no-deps", "--target", work / "site", wheel], check=True)
    return work / "site"


def has_setuptools():
    return bool(list(importlib.metadata.distributions(name="setuptools")))


@pytest.fixture
def python(site, tmp_path):
    """Run Python in an empty folder: what it printed."""

    def call(*arguments):
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    return call


def test_a_run_and_its_model(python, tmp_path):
    assert "test accuracy: 0.8" in python("-m", "funcnet", "train", "--epochs", "1", "--out", "r")
    assert json.loads((tmp_path / "r" / "summary.json").read_text())["epochs"] == 1
    loaded = python("-c", "import funcnet as fn; print(fn.load_model('r')[1].weight.shape)")
    assert loaded == "(10, 64)\n"
    assert "usage: python -m funcnet predict" in python("-m", "funcnet", "predict", "--help")


def test_the_page_of_the_lecture(python, tmp_path):
    assert "= (−1)(3)(5) = −15" in python("-m", "funcnet", "trace", "--out", "lecture.html")
    page = (tmp_path / "lecture.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "<style>" in page
    assert 'id="data"' in page


def test_a_gradient_check(python, site):
    file, verdict = python("-c", CHECK).split()
    assert pathlib.Path(file).is_relative_to(site)
    assert verdict == "pass"


def test_the_command_and_the_version(site):
    assert (site / "bin" / "funcnet").exists()
    (record,) = importlib.metadata.distributions(name="funcnet", path=[str(site)])
    assert record.version == "0.1.0"
    assert (site / "funcnet" / "py.typed").exists()
