"""The README is true: its commands, its example, its tree."""

import contextlib
import dataclasses
import io
import pathlib
import re
import subprocess
import sys

import pytest

from funcnet.config import TrainConfig

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


def test_commands_name_options_that_exist():
    fields = {field.name.replace("_", "-") for field in dataclasses.fields(TrainConfig)}
    named = set(re.findall(r"--([a-z-]+)", "\n".join(re.findall(r"train\.py[^\n`]*", README))))
    assert named
    assert named - {"help"} <= fields


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
