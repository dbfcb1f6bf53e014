"""python scripts/check_gradients.py --out report.json

Check every gradient of funcnet by three roads: derived by hand (chain_rule.py), `jax.grad`, and
numerical differentiation. `funcnet check` is the same.
"""

from funcnet.runs.commands.check import command

if __name__ == "__main__":
    command()
