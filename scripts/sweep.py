"""python scripts/sweep.py learning_rate=0.1,0.3 seed=0:8 --dataset mnist --out runs/sweep

Train every combination of several settings at once, and keep the best. `funcnet sweep` is the same.
"""

from funcnet.runs.commands.sweep import command

if __name__ == "__main__":
    command()
