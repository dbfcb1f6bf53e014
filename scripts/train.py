"""python scripts/train.py --dataset mnist --model mlp --out runs/mlp

Trains a model and reports its test accuracy. Without arguments: softmax regression on 1,797 real
images of handwritten digits. `--help` explains every option.
"""

from funcnet.console import run_program, watch_epochs
from funcnet.run import TrainConfig, run


def main(config: TrainConfig) -> None:
    """Trains, and prints the result last."""
    if config.quiet:
        summary = run(config, say=lambda line: None).summary
    else:
        summary = run(config, watch=watch_epochs).summary
    correct, examples = summary["test_correct"], summary["test_examples"]
    print(f"test accuracy: {summary['test_accuracy']:.4f} ({correct} of {examples})")


if __name__ == "__main__":
    run_program(TrainConfig, main)
