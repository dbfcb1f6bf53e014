"""python tests/import_cost.py

Compare the import of what most programs use of funcnet with that of the libraries below it: at
most 1.15 times as long, by the best of several processes each, in turn.
"""

import subprocess
import sys
import time

ROUNDS, LIMIT = 7, 1.15
OURS = "from funcnet import activations, chain_rule, data, devices, losses, models, training"


def seconds(statement: str) -> float:
    """How long a fresh process takes to run one statement."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure, print, and fail over the limit."""
    statements = ("import jax, optax", OURS)
    rounds = [[seconds(statement) for statement in statements] for _ in range(ROUNDS + 1)][1:]
    theirs, ours = (min(column) for column in zip(*rounds, strict=True))
    print(f"import jax, optax {theirs:.2f} s, funcnet {ours:.2f} s: {ours / theirs:.2f} times")
    sys.exit(ours > LIMIT * theirs)


if __name__ == "__main__":
    main()
