"""The import table: a package is imported by its face alone, from the rows above its own."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "funcnet"
MAY_IMPORT = {
    "base": set(),
    "_files": set(),
    "_jaxpr": {"base"},
    "devices": {"base"},
    "activations": {"base"},
    "losses": {"base", "activations"},
    "models": {"base", "activations", "losses"},
    "chain_rule": {"base", "activations", "losses", "models"},
    "training": {"base", "_files", "devices"},
    "gradcheck": {"base", "_jaxpr"},
    "graph": {"base", "_jaxpr"},
    "data": {"base", "_files"},
}
"""The table: what each package, or open file, may import of funcnet."""
PROGRAM = {"runs", "__init__", "__main__"}
"""What may import every face, and what nothing else imports."""
LAZY = {
    "tensorflow_datasets",
    "sklearn",
    "matplotlib",
    "rich",
    "safetensors",
    "tyro",
    "PIL",
}


def imports(tree):
    """The modules that statements of this tree name: `funcnet.losses`, `jax`, ..."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("funcnet"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def files():
    """Every file of the package, with the row of the table that it belongs to."""
    for path in sorted(PACKAGE.rglob("*.py")):
        where = path.relative_to(PACKAGE)
        yield pytest.param(path, where.parts[0].removesuffix(".py"), id=str(where))


def test_the_table_names_every_package_and_open_file():
    there = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert there <= {*MAY_IMPORT, *PROGRAM}
    assert {*MAY_IMPORT} <= there


@pytest.mark.parametrize(("path", "row"), list(files()))
def test_imports(path, row):
    for name in imports(ast.parse(path.read_text())):
        if name.split(".")[0] != "funcnet":
            continue
        other = name.split(".")[1]
        assert other == row or row in PROGRAM or other in MAY_IMPORT[row], f"{row} imports {name}"
        if other != row:
            assert not any(part.startswith("_") for part in name.split(".")[2:]), "not by its face"


def test_only_data_knows_tensorflow_datasets():
    users = {
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        if "tensorflow_datasets" in set(imports(ast.parse(path.read_text())))
    }
    assert users == {"data"}


def test_importing_the_package_imports_nothing_heavy():
    light = "activations, chain_rule, data, devices, gradcheck, graph, losses, models, training"
    code = f"import sys; from funcnet import {light}"
    code += f"; print(sorted({LAZY!r} & set(sys.modules)))"
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
