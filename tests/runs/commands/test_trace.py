"""The command `trace`: examples, files, a user's own function, and errors in one line."""

import json
import os
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import jax
import numpy as np
import pytest

from funcnet.runs.commands import trace
from funcnet.runs.commands.trace import EXAMPLES

SCRIPT = str(pathlib.Path(__file__).parents[3] / "scripts" / "trace_graph.py")

MINE = """
import jax
import jax.numpy as jnp

def cost(w, x):
    z = w * x
    return jnp.sum(z ** 2)

def loss(p, x):
    return jnp.sum(p["w"] @ x)

def fails(x):
    return {}["k"] * x

def branch(x):
    return x if x > 0 else -x

def vector(x):
    return x

def prints(x):
    jax.debug.print("{}", x)
    return x

def gate(x, on):
    return jnp.where(on, x * 1.0, 0.0)

three = 3
"""


def test_the_file_is_whole_where_nobody_reads_the_output(tmp_path):
    out = tmp_path / "lecture.svg"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, SCRIPT, "--out", str(out)],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=writing,
        check=False,
    )
    os.close(writing)
    assert done.returncode == 1
    assert ET.parse(out).getroot().tag.endswith("svg")


def test_an_output_that_cannot_hold_every_character():
    done = subprocess.run(
        [sys.executable, SCRIPT],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert b"10 ? d" in done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working directory with a user's module, and one that cannot be imported."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "mine.py").write_text(MINE)
    (folder / "broken.py").write_text("def f(:\n")
    return folder


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """Runs the script in the folder, in this process: exit code, what it printed and reported."""
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")  # leaves this process as it is

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["funcnet trace", *map(str, arguments)])
        try:
            trace.command()
        except SystemExit as end:
            return end.code, *capsys.readouterr()
        return 0, *capsys.readouterr()

    return run


def read_html(text):
    assert text.startswith("<!doctype html>")
    data = text.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    return [box["node"]["name"] for box in json.loads(data)["boxes"]]


def read_svg(text):
    groups = ET.fromstring(text).iter("{http://www.w3.org/2000/svg}g")
    boxes = [group.attrib for group in groups if group.attrib["class"].startswith("node")]
    return [box["aria-label"].split(" = ")[0] for box in boxes]


def read_dot(text):
    assert text.startswith("digraph {")
    return [
        line.split('"')[1].split("\\n")[0]
        for line in text.splitlines()
        if line[:3] == "  n" and "->" not in line and "label" in line
    ]


def read_json(text):
    return [node["name"] for node in json.loads(text)["nodes"]]


READERS = {".html": read_html, ".svg": read_svg, ".dot": read_dot, ".json": read_json}
LECTURE = ["w1", "w2", "w3", "w4", "a", "b", "c", "v1", "v2", "d", "L"]


@pytest.mark.parametrize("suffix", READERS)
def test_each_output_holds_the_graph(run, tmp_path, suffix):
    code, printed, errors = run("--out", tmp_path / f"x{suffix}")
    assert (code, errors) == (0, "")
    assert "∂L/∂w1 = ∂L/∂d · ∂d/∂b · ∂b/∂w1 = (−1)(3)(5) = −15\n" in printed
    assert READERS[suffix]((tmp_path / f"x{suffix}").read_text(encoding="utf-8")) == LECTURE
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("example", ["logistic", "softmax", "mlp"])
def test_each_example_has_the_gradient_of_jax(run, tmp_path, example):
    code, printed, errors = run("--example", example, "--out", tmp_path / "x.json")
    assert (code, errors) == (0, "")
    function, args = EXAMPLES[example]()
    nodes = {node["name"]: node for node in json.loads((tmp_path / "x.json").read_text())["nodes"]}
    cost, grads = jax.value_and_grad(function)(*args)
    np.testing.assert_allclose(nodes["cost"]["exact"], cost, rtol=1e-6)
    first = "params[0].weight" if example == "mlp" else "params.weight"
    weight = jax.tree.leaves(grads)[0]
    shape = f"[{', '.join(map(str, weight.shape))}]"
    low, high = nodes[first]["adjoint"].removeprefix(shape).replace("−", "-").split(" … ")
    np.testing.assert_allclose([float(low), float(high)], [weight.min(), weight.max()], rtol=1e-3)
    assert f"∂cost/∂{first} = ∂cost/∂" in printed


@pytest.mark.parametrize(
    "arguments",
    ["(2.0, [1.0, 2.0])", "[2.0, [1.0, 2.0]]", "2.0, [1, 2.0]", " (2.0,[1.0,2.0],) "],
)
def test_a_function_of_the_users(run, tmp_path, arguments):
    code, _, errors = run(
        "--function", "mine:cost", "--args", arguments, "--out", tmp_path / "x.json"
    )
    assert (code, errors) == (0, "")
    nodes = {node["name"]: node for node in json.loads((tmp_path / "x.json").read_text())["nodes"]}
    assert nodes["cost"]["exact"] == 20  # Σ (w x)² = 4 (1 + 4)
    assert nodes["w"]["exact_adjoint"] == 20  # 2 w Σ x²
    assert nodes["z"]["shape"] == [2]


def test_pytrees_json_and_library_functions(run):
    for arguments in ("({'w': [[1.0, 2.0]]}, [3.0, 4.0])", '[{"w": [[1.0, 2.0]]}, [3.0, 4.0]]'):
        code, printed, _ = run("--function", "mine:loss", "--args", arguments)
        assert code == 0
        assert re.search(r"p\['w'\] +argument +\[1, 2\] 1 … 2 +\[1, 2\] 3 … 4\n", printed)
    _, printed, _ = run("--function", "mine:gate", "--args", "[2, true]")
    assert re.search(r"on +argument +True +none: bool", printed)
    assert "0.5403" in run("--function", "jax.numpy:sin", "--args", "1.0")[1]


BAD = {
    "--example lectur": r"--example: expected one of lecture, .*; got 'lectur'. Did you mean 'lect",
    "--out x.txt": r"--out: expected a name ending in .html, .svg, .dot, .json; got 'x.txt'",
    "--out x": r"--out: expected a name ending in .html",
    "--out nowhere/x.svg": r"--out: expected a file in a folder that exists; got 'nowhere/x.svg'",
    "--args 1": r"--args: expected a --function that takes them",
    "--function mine": r"--function: expected package.module:name; got 'mine'",
    "--function :cost": r"--function: expected package.module:name; got ':cost'",
    "--function nope:f": r"--function: cannot import nope: ModuleNotFoundError: No module named",
    "--function broken:f": r"--function: cannot import broken: SyntaxError",
    "--function mine:costs": r"--function: mine has no function 'costs'. Did you mean 'cost'\?",
    "--function mine:three": r"--function: mine has no function 'three'",
    "--function mine:cost": r"--args: expected arguments for cost\(w, x\): missing .* 'w'; got 0",
    "--function mine:cost --args (1.0,2.0,3.0)": r"too many positional arguments; got 3",
    "--function mine:vector --args [1.0,2.0]": r"got 2\. For one array write '\(\[1.0, 2.0\],\)'",
    "--function mine:cost --args (1.0,": r"--args: expected Python or JSON, as .*; got '\(1.0,'",
    "--function mine:cost --args open('x')": r"--args: expected Python or JSON",
    "--function mine:cost --args (1.0,'a')": r"x: expected an array or a number; got str",
    "--function mine:cost --args (1.0,['a'])": r"--args: expected a list of numbers; got \['a'\]",
    "--function mine:cost --args (1.0,[1,[2]])": r"--args: expected rows of one length; got \[1, ",
    "--function mine:cost --args ([1.,2.],[1.,2.,3.])": r"TypeError: .*shapes.*w: float32\[2\], x",
    "--function mine:cost --args (1.0,None)": r"--function: TypeError: unsupported .*w: float32",
    "--function mine:fails --args 1.0": r"--function: KeyError: 'k'. fails was traced with x: ",
    "--function mine:branch --args 1.0": r"--function: TracerBoolConversionError: .*x: float32\[\]",
    "--function mine:vector --args ([1.,2.],)": r"a scalar output; it returned float32\[2\]",
    "--function mine:vector --args 1": r"output of floats; it is int32.* Write 1\.0 instead of 1",
    "--function mine:prints --args 1.0": r"a pure function; debug_print .*mine.py:22 in prints",
}


@pytest.mark.parametrize("command", BAD)
def test_bad_input_is_one_line(run, folder, command):
    before = sorted(path.name for path in folder.iterdir() if path.is_file())
    code, printed, errors = run(*command.split(" "))
    assert (code, printed) == (2, "")
    assert errors.count("\n") == 1
    assert re.match(r"error: .*" + BAD[command], errors), errors
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == before


def test_from_the_command_line(folder, tmp_path):
    command = [sys.executable, SCRIPT, "--function", "mine:cost", "--args"]
    out = ["--out", tmp_path / "x.html"]
    done = subprocess.run([*command, "(2.0, [1.0, 2.0])", *out], cwd=folder, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert read_html((tmp_path / "x.html").read_text(encoding="utf-8"))[:2] == ["w", "x"]
    done = subprocess.run([*command, "(2.0)"], cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --args: expected arguments for cost(w, x)")
