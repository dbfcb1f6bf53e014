"""The import table: a module imports only from the rows above its own."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "funcnet"
ROWS = [
    {"base", "files", "settings", "derivatives", "source", "notation", "layout", "images"},
    {
        "activations",
        "losses",
        "metrics",
        "devices",
        "data",
        "nodes",
        "numerical",
        "programs",
        "reports",
        "roads",
        "diagnosis",
    },
    {"models", "chain_rule", "tape", "paths", "nonfinite", "probe", "checkpoint"},
    {"training", "artifacts", "backward", "naming", "verdicts", "config"},
    {"fit", "recording", "gradcheck", "setup"},
    {"graph", "sweep", "saving", "console"},
    {"divergence", "drawing", "equations"},
    {"workplace"},
    {"run", "render"},
    {"tuning", "trained"},
    {"__init__"},
]
EXCEPTIONS = {
    ("losses", "activations"),  # a loss on logits is a function of the softmax
    ("graph", "render"),  # a graph shows itself: imported where it is printed
}
LAZY = {
    "tensorflow_datasets",
    "sklearn",
    "matplotlib",
    "rich",
    "safetensors",
    "tyro",
    "PIL",
    "orbax",
}
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))


def imports(tree):
    """The modules that statements of this tree name: `funcnet.losses`, `jax`, ..."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "funcnet":
            yield from (f"funcnet.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def parse(module):
    return ast.parse((PACKAGE / f"{module}.py").read_text())


def row_of(module):
    (row,) = [index for index, row in enumerate(ROWS) if module in row]
    return row


def test_every_module_has_one_row():
    assert sorted(module for row in ROWS for module in row) == MODULES


def inside(module):
    """The package's modules that this one imports."""
    return {name.split(".")[1] for name in imports(parse(module)) if name.startswith("funcnet.")}


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_up(module):
    for other in inside(module):
        allowed = row_of(other) < row_of(module) or (module, other) in EXCEPTIONS
        assert allowed, f"{module} imports {other}, which is not above it"


def test_the_readme_lists_a_module_below_those_that_it_imports():
    readme = (PACKAGE.parent / "README.md").read_text()
    listed = re.findall(r"^funcnet/(\w+)\.py ", readme, flags=re.MULTILINE)
    assert sorted(listed) == MODULES
    below = {
        (module, other)
        for index, module in enumerate(listed)
        for other in inside(module) - set(listed[:index])
    }
    assert below == {("graph", "render")}  # as the README says


def test_only_data_knows_tensorflow_datasets():
    users = {m for m in MODULES if "tensorflow_datasets" in set(imports(parse(m)))}
    assert users == {"data"}


def test_importing_the_package_imports_nothing_heavy():
    code = f"import sys, funcnet; print(sorted({LAZY!r} & set(sys.modules)))"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == "[]"


def test_a_list_of_names_has_those_that_are_imported_at_their_first_use():
    code = "import funcnet as fn; print(set(fn.__all__) - set(dir(fn)))"
    code += "; print({name for name in dir(fn) if not hasattr(fn, name)})"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert printed.stdout.split() == ["set()", "set()"]
