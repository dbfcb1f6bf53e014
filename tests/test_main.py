"""`funcnet COMMAND`: what there is, and which command is called with which arguments."""

import pathlib
import subprocess
import sys

import pytest

import funcnet as fn
from funcnet import __main__ as program
from funcnet.runs.commands import sweep, train

COMMANDS = {"train", "sweep", "predict", "check", "trace"}


@pytest.fixture
def funcnet(monkeypatch, capsys):
    """Call the console script: its exit code, and the text on both streams."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["/usr/bin/funcnet", *arguments])
        code = 0
        try:
            program.main()
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return call


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_what_there_is(funcnet, arguments):
    code, out, err = funcnet(*arguments)
    assert (code, err) == (0, "")
    assert {line.split()[0] for line in out.splitlines() if line.startswith("  ")} == COMMANDS


def test_the_version(funcnet):
    assert funcnet("--version") == (0, f"funcnet {fn.__version__}\n", "")


def test_an_unknown_command(funcnet):
    code, out, err = funcnet("trian")
    assert (code, out) == (2, "")
    assert err.startswith("error: expected a command; got 'trian'. Did you mean 'train'?\n")
    assert "sweep" in err


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_each_command_explains_its_options(funcnet, command):
    code, out, err = funcnet(command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: funcnet {command} [-h]")


def test_train(funcnet, tmp_path):
    code, out, err = funcnet("train", "--epochs", "1", "--quiet", "--out", str(tmp_path / "a"))
    assert (code, err) == (0, "")
    assert out.startswith("test accuracy: 0.")


def test_an_error_names_the_option(funcnet):
    assert funcnet("train", "--learning-rate", "-1") == (
        2, "", "error: --learning-rate: expected a positive number; got -1.0.\n"
    )  # fmt: skip


class TestSweep:
    def test_settings_come_first(self, funcnet, monkeypatch):
        seen = []
        monkeypatch.setattr(train, "main", seen.append)
        assert funcnet("sweep", "learning_rate=0.1,0.3", "seed=0:8", "--epochs", "2")[0] == 0
        assert seen == [sweep.SweepConfig(sweep=("learning_rate=0.1,0.3", "seed=0:8"), epochs=2)]

    def test_no_settings(self, funcnet):
        code, out, err = funcnet("sweep")
        assert (code, out) == (2, "")
        assert err.startswith("error: sweep: expected settings, as learning_rate=0.1,0.3 seed=0:8")

    @pytest.mark.slow
    def test_it_is_train_with_sweep(self, funcnet, tmp_path):
        quiet = ("--epochs", "1", "--quiet")
        one = funcnet("sweep", "seed=0:2", *quiet, "--out", str(tmp_path / "a"))
        assert one == funcnet("train", "--sweep", "seed=0:2", *quiet)
        assert funcnet("sweep", "--resume", str(tmp_path / "a"), "--quiet") == one


def test_naming_the_commands_imports_no_jax():
    code = "import sys, funcnet.__main__ as m; sys.argv = ['funcnet']; m.main()"
    code += "; print('jax' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (printed.returncode, printed.stdout.splitlines()[-1]) == (0, "False")


def test_a_module_and_the_scripts_are_the_same(tmp_path):
    scripts = pathlib.Path(__file__).parents[1] / "scripts"
    for call, named in [
        (["-m", "funcnet", "train"], "python -m funcnet train"),
        ([str(scripts / "train.py")], "scripts/train.py"),
    ]:
        command = [sys.executable, *call, "--help"]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert named in printed.splitlines()[0]
