"""What the benchmark takes from private rooms of funcnet, in one place."""

from funcnet._files import write_whole
from funcnet.devices import across_devices
from funcnet.runs._console import check_out, run_program, stoppable, watch_count
from funcnet.runs._process import suit_threads, use_every_core

__all__ = [
    "across_devices",
    "check_out",
    "run_program",
    "stoppable",
    "suit_threads",
    "use_every_core",
    "watch_count",
    "write_whole",
]
