"""Runs that are killed at random moments, resumed, and killed again, end with the same bits.

The short form kills 10 times; `FUNCNET_KILLS=50 pytest -n0 -m slow tests/runs/test_kills.py` kills
as often as it says. The processes are `scripts/train.py`, which saves here after every segment, so
that many kills fall into a save.
"""

import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest

from funcnet.runs import _folder as folders

TRAIN = str(pathlib.Path(__file__).parents[2] / "scripts" / "train.py")
ALWAYS_SAVING = f"""
import runpy, sys
from funcnet.runs import _folder
_folder.EVERY = 0
sys.argv[0] = {TRAIN!r}
runpy.run_path({TRAIN!r}, run_name="__main__")
"""
pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("FUNCNET_KILLS", "10"))
KINDS = {
    "sgd": ["--epochs", "200"],
    "momentum": ["--optimizer", "momentum", "--epochs", "200"],
    "adam": ["--optimizer", "adam", "--model", "mlp", "--hidden", "16", "--epochs", "200"],
    "sweep": ["--sweep", "learning_rate=0.03,0.3", "seed=0:4", "--epochs", "100"],
}
SHARES = dict(zip(KINDS, [len(part) for part in np.array_split(range(KILLS), 4)], strict=True))
TIMES = ("seconds", "examples_per_second", "compile_seconds", "train_seconds")


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """All processes share the compiled programs: the kills are to fall into the training."""
    return {**os.environ, "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}


def start(arguments, environment):
    return subprocess.Popen(
        [sys.executable, "-c", ALWAYS_SAVING, *map(str, arguments), "--quiet"],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def arguments_of(kind, folder):
    """The first command, until the run has said what it is; from then on `--resume`."""
    begun = (folder / "config.json").exists()
    return ["--resume", folder] if begun else [*KINDS[kind], "--out", folder]


def finish(kind, folder, environment):
    process = start(arguments_of(kind, folder), environment)
    _, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")


def left_behind(folder):
    """The parameters' bytes, and all that was measured but for timings."""
    record = {"params": (folder / "params.safetensors").read_bytes()}
    for name in ("metrics.jsonl", "summary.json", "sweep.json"):
        if (folder / name).exists():
            text = (folder / name).read_text()
            records = map(json.loads, text.splitlines() if name == "metrics.jsonl" else [text])
            record[name] = [{k: v for k, v in r.items() if k not in TIMES} for r in records]
    return record


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_ends_with_the_bits_of_an_undisturbed_one(kind, tmp_path, environment):
    finish(kind, tmp_path / "warm", environment)  # compiles
    clock = time.monotonic()
    finish(kind, tmp_path / "whole", environment)
    duration = time.monotonic() - clock
    expected = left_behind(tmp_path / "whole")

    rng, folder, killed, resumed = np.random.default_rng(0), tmp_path / "a", 0, 0
    while killed < SHARES[kind]:
        begun = folder.exists() and bool(folders.checkpoints(folder))
        process = start(arguments_of(kind, folder), environment)
        time.sleep(rng.uniform(0, duration))
        process.kill()
        _, err = process.communicate(timeout=60)
        if process.returncode == 0:  # it had ended
            assert left_behind(folder) == expected
            folder = folder.with_name(f"{folder.name}a")
            continue
        assert (process.returncode, err) == (-9, "")
        killed, resumed = killed + 1, resumed + begun
        folders.newest(folder)  # raises if none of them is whole
    finish(kind, folder, environment)
    assert left_behind(folder) == expected
    assert not list((folder / "checkpoints").glob(".*"))
    print(f"{kind}: killed {killed} times, {resumed} times after it had been resumed")
