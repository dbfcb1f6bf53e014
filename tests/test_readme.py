"""The README is true: its commands, its example, its tree."""

import contextlib
import dataclasses
import io
import pathlib
import re
import shlex
import subprocess
import sys

import benchmark
import photograph
import pytest
import verify_numerics

from funcnet.runs import TrainConfig
from funcnet.runs.commands import check, predict, trace

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def without_bars(text):
    """What is printed, but for the error bars: they are of the machine's rounding."""
    return re.sub(r"± [\d.e-]+", "±", text)


@pytest.mark.parametrize(("number", "output", "lines"), [(0, 0, 20), (1, 2, 12)])
def test_the_examples_print_what_they_say(number, output, lines):
    example = blocks("python")[number]
    assert len([line for line in example.splitlines() if line]) <= lines
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(example, "README.md", "exec"), {})
    assert without_bars(printed.getvalue()) == without_bars(blocks("text")[output])


def test_the_two_commands_are_there():
    commands = blocks("bash")[0].splitlines()
    assert [command.split(" && ")[1] for command in commands] == [
        "python scripts/train.py",
        "pytest",
    ]


OPTIONS = {
    "train": TrainConfig,
    "predict": predict.Options,
    "trace_graph": trace.Options,
    "photograph": photograph.Options,
    "check_gradients": check.Options,
    "verify_numerics": verify_numerics.Options,
    "benchmark": benchmark.BenchmarkConfig,
}


def options(text):
    """Those that a text names."""
    return set(re.findall(r"(?<![\w-])--([a-z][a-z-]*)", text)) - {"help"}


def test_commands_name_options_that_exist():
    fields = {
        script: {field.name.replace("_", "-") for field in dataclasses.fields(config)}
        for script, config in OPTIONS.items()
    }
    for script in OPTIONS:
        commands = re.findall(rf"{script}\.py[^\n`]*", README)
        assert commands
        assert options("\n".join(commands)) <= fields[script]
    assert options(README) <= set.union(*fields.values())


def test_commands_of_pytest_select_what_they_say():
    commands = [shlex.split(text) for text in re.findall(r"pytest ([^`]*tests/[^`]*)`", README)]
    files = {word for command in commands for word in command if word.startswith("tests/")}
    assert files
    printed = subprocess.check_output(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n0", *files], cwd=ROOT, text=True
    )
    tests = [line for line in printed.splitlines() if "::" in line]
    for command in commands:
        of_command = [test for test in tests if test.split("::")[0] in command]
        assert of_command
        if "-k" in command:
            for word in command[command.index("-k") + 1].split(" or "):
                assert any(word in test for test in of_command), f"-k {word}"
    mutations = [test for test in tests if "test_mutations" in test and "load" not in test]
    assert f"| {len(mutations)} damaged data files" in README


def test_the_tree_is_complete():
    listed = {line.split()[0] for line in blocks("text")[-1].splitlines()}
    tracked = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).split()
    apart = {"README.md", "LICENSE", ".gitignore"}
    folders = ("tests/", "scripts/peers/")  # a line each
    expected = {next((f for f in folders if path.startswith(f)), path) for path in tracked} - apart
    assert listed == expected


def test_pictures_exist():
    for path in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / path).read_bytes().startswith(b"\x89PNG")


def test_the_lectures_graph_is_printed_and_written(tmp_path):
    command = [sys.executable, ROOT / "scripts" / "trace_graph.py", "--out"]
    printed = subprocess.check_output([*command, tmp_path / "lecture.html"], text=True)
    assert printed == blocks("text")[1]
    assert (tmp_path / "lecture.html").read_text().startswith("<!doctype html>")
    failed = subprocess.run([*command, tmp_path / "lecture.txt"], capture_output=True, text=True)
    assert failed.returncode == 2
    assert failed.stderr.startswith("error: --out: expected a name ending in .html")
