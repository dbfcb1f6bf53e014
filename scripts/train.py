"""python scripts/train.py --dataset mnist --model mlp --out runs/mlp

Train a model and report its test accuracy. Without arguments: softmax regression on 1,797 real
images of handwritten digits. `--sweep learning_rate=0.1,0.3 seed=0:8` trains many at once, and
keeps the best. `--resume runs/mlp` goes on with a run that was stopped. `--help` explains every
option. `funcnet train` is the same.
"""

from funcnet.runs.commands.train import command

if __name__ == "__main__":
    command()
