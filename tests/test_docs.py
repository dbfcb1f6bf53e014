"""The README and the guides are true: commands, examples, pictures, links, the import table."""

import contextlib
import dataclasses
import io
import pathlib
import re
import shlex
import subprocess
import sys

import photograph
import pytest
import verify_numerics
from benchmark.__main__ import BenchmarkConfig
from test_architecture import MAY_IMPORT

from funcnet.runs import TrainConfig
from funcnet.runs.commands import check, predict, sweep, trace

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
README = (ROOT / "README.md").read_text()
EVERYTHING = "\n".join(page.read_text() for page in PAGES)


def blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def examples():
    """Every block of Python that a block of text follows, and that text."""
    for page in PAGES:
        pairs = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", page.read_text(), re.DOTALL)
        for number, (code, printed) in enumerate(pairs):
            yield pytest.param(code, printed, id=f"{page.stem}-{number}")


def without_bars(text):
    """What is printed, but for the error bars: they are of the machine's rounding."""
    return re.sub(r"± [\d.e-]+", "±", text)


@pytest.mark.parametrize(("code", "printed"), list(examples()))
def test_examples_print_what_they_say(code, printed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an example may draw a picture
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "example", "exec"), {})
    assert without_bars(out.getvalue()) == without_bars(printed)


def test_the_readme_is_the_front_door():
    assert len(README.splitlines()) <= 250
    assert len([line for line in blocks("python")[0].splitlines() if line]) <= 20
    commands = blocks("bash")[0].splitlines()
    assert [command.split(" && ")[1] for command in commands] == [
        "python scripts/train.py",
        "pytest",
    ]


OPTIONS = {
    "train": TrainConfig,
    "sweep": sweep.SweepConfig,
    "predict": predict.Options,
    "check": check.Options,
    "check_gradients": check.Options,
    "trace": trace.Options,
    "trace_graph": trace.Options,
    "photograph": photograph.Options,
    "verify_numerics": verify_numerics.Options,
    "benchmark": BenchmarkConfig,
}
"""The options of every command, by the name of its script and of the installed command."""


def commands():
    """The name and the options of every command in the pages."""
    for text in re.findall(r"(?:scripts/|^funcnet |`funcnet )(\w+[^\n`;]*)", EVERYTHING, re.M):
        name = re.match(r"\w+", text)[0]
        if name in OPTIONS:
            yield name, set(re.findall(r"(?<![\w-])--([a-z][a-z-]*)", text)) - {"help"}


def test_commands_name_options_that_exist():
    found = list(commands())
    assert {"train", "predict", "check_gradients", "trace_graph", "benchmark"} <= dict(found).keys()
    for name, options in found:
        fields = {field.name.replace("_", "-") for field in dataclasses.fields(OPTIONS[name])}
        assert options <= fields, name


@pytest.mark.slow
def test_commands_of_pytest_select_what_they_say():
    commands = [
        shlex.split(text) for text in re.findall(r"pytest ([^`\n]*tests/[^`\n]*)", EVERYTHING)
    ]
    files = {word for command in commands for word in command if word.startswith("tests/")}
    assert files
    collect = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n0"]
    printed = subprocess.check_output(
        [*collect, "-m", "slow or not slow", *sorted({f.split("::")[0] for f in files})],
        cwd=ROOT,
        text=True,
    )
    tests = [line for line in printed.splitlines() if "::" in line]
    for command in commands:
        named = [word for word in command if word.startswith("tests/")]
        of_command = [test for test in tests if test.startswith(tuple(named))]
        assert of_command, command
        if "-k" in command:
            for word in command[command.index("-k") + 1].split(" or "):
                assert any(word in test for test in of_command), f"-k {word}"


def test_pictures_and_links_exist():
    for page in PAGES:
        for path in re.findall(r"\]\(((?!http)[^)#]+)", page.read_text()):
            target = page.parent / path
            assert target.exists(), f"{page.name}: {path}"
            if target.suffix == ".png":
                assert target.read_bytes().startswith(b"\x89PNG")


def test_the_tree_names_every_folder_and_open_file():
    tree = next(text for text in blocks("text") if text.startswith("pyproject.toml"))
    listed = {line.split()[0].removesuffix("/") for line in tree.splitlines()}
    tracked = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).split()
    top = {path.split("/")[0] for path in tracked if "/" in path} - {".ci"} | {".ci/run"}
    inside = {path.split("/")[1] for path in tracked if path.startswith("funcnet/")}
    expected = {name for name in inside if not name.startswith("_") and name != "py.typed"}
    assert listed == top | expected | {"pyproject.toml"}


def test_the_lectures_graph_is_printed_and_written(tmp_path):
    command = [sys.executable, ROOT / "scripts" / "trace_graph.py", "--out"]
    printed = subprocess.check_output([*command, tmp_path / "lecture.html"], text=True)
    assert printed in blocks("text")
    assert (tmp_path / "lecture.html").read_text().startswith("<!doctype html>")
    failed = subprocess.run([*command, tmp_path / "lecture.txt"], capture_output=True, text=True)
    assert failed.returncode == 2
    assert failed.stderr.startswith("error: --out: expected a name ending in .html")


def test_the_import_table_is_that_of_the_tests():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    table = text[text.index("| package or file") :].split("\n\n")[0]
    rows = [row.split("|")[1:3] for row in table.splitlines()[2:-1]]
    written = {
        who: set(re.findall(r"`(\w+)`", what))
        for whos, what in rows
        for who in re.findall(r"`(\w+)`", whos)
    }
    assert written == MAY_IMPORT
