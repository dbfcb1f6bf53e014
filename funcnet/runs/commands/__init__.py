"""The commands, one file each: `funcnet train`, `sweep`, `predict`, `check` and `trace`.

Each file has a dataclass of options, a `main` that runs on it, and `command()`, which reads the
command line. `scripts/` holds a script for each that calls it.
"""
