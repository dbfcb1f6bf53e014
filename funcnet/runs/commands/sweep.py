"""The command `sweep`: `train`, with the settings of `--sweep` written first.

funcnet sweep learning_rate=0.1,0.3 seed=0:8 --dataset mnist
"""

import dataclasses
from typing import Annotated

import tyro

from funcnet.runs.commands import train
from funcnet.runs.config import TrainConfig


@dataclasses.dataclass(frozen=True)
class SweepConfig(TrainConfig):
    """Train every combination of several settings at once, and keep the best on held-out data."""

    sweep: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="NAME=VALUES ...", help_behavior_hint="(required)"),
    ] = ()
    """The settings: learning_rate, seed, l2 and scale, as learning_rate=0.1,0.3 or seed=0:8."""


def command() -> None:
    """Read the command line and train every setting."""
    train.command(SweepConfig)
