"""The command line: `funcnet train`, and the same as `python -m funcnet train`."""

import importlib
import sys

from funcnet import __version__

COMMANDS = {
    "train": "Train a model, and report its test accuracy.",
    "sweep": "Train every combination of several settings at once, and keep the best.",
    "predict": "Say which digits pictures show, with a model that was trained.",
    "check": "Check every gradient of funcnet by hand, by jax.grad, and numerically.",
    "trace": "Draw the computation graph of a function, with every local derivative.",
}
"""The commands: the modules of `runs.commands`, which are imported when they are called."""


def main() -> None:
    """Run the command that the command line names."""
    called = "python -m funcnet" if sys.argv[0].endswith("__main__.py") else "funcnet"
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(help_text(called))
    elif name == "--version":
        print(f"funcnet {__version__}")
    elif name in COMMANDS:
        sys.argv = [f"{called} {name}", *arguments]  # as the command's messages name it
        importlib.import_module(f"funcnet.runs.commands.{name}").command()
    else:
        from funcnet.base import did_you_mean  # it imports jax: only here

        hint = did_you_mean(name, COMMANDS)
        print(f"error: expected a command; got {name!r}.{hint}\n", file=sys.stderr)
        print(help_text(called), file=sys.stderr)
        sys.exit(2)


def help_text(called: str) -> str:
    """Return the list of the commands."""
    lines = "".join(f"  {name:<9}{description}\n" for name, description in COMMANDS.items())
    return (
        f"usage: {called} COMMAND [OPTIONS]\n\n{lines}\n"
        f"`{called} COMMAND --help` explains the options of a command."
    )


if __name__ == "__main__":
    main()
