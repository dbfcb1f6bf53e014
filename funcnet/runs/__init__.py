"""Run: a training from the command line, options in, a folder out.

    result = run(TrainConfig(model="mlp", out=Path("runs/mlp")))

1. The options, their defaults, and the values that are refused (`config`).
2. The device, the data, the model, the loss, and the compiled task (`_build`).
3. The loop over the epochs (`_run`), or over those of many models (`_sweep`).
4. A number that is not finite: where it began (`_divergence`).
5. The folder: a lock, and the checkpoints to go on from (`_folder`).
6. The results, and the model loaded from them (`_artifacts`), for pictures of digits (`_pictures`).

The commands of `commands` show all of it to a person by `_console`. Begin with `_run`.
"""

from funcnet.runs._artifacts import load_model
from funcnet.runs._console import check_out, run_program, stoppable, watch_count
from funcnet.runs._divergence import DivergenceError
from funcnet.runs._folder import stored_config
from funcnet.runs._run import Result, Stopped, run
from funcnet.runs._sweep import tune
from funcnet.runs.config import TrainConfig

__all__ = [
    "DivergenceError", "Result", "Stopped", "TrainConfig", "check_out", "load_model", "run",
    "run_program", "stoppable", "stored_config", "tune", "watch_count",
]  # fmt: skip
