"""python scripts/trace_graph.py --out lecture.html

Draw the computation graph of the lecture's example, of the cost of a model (`--example mlp`), or
of a function of your own: `--function package.module:name --args '(1.0, [2.0, 3.0])'`. It prints
a table and the chain rule of every argument. `--out` writes .html, .svg, .dot or .json.
`funcnet trace` is the same.
"""

from funcnet.runs.commands.trace import command

if __name__ == "__main__":
    command()
