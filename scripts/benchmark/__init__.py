"""The benchmark: funcnet and its peers on the same work, in one run on one machine.

    python scripts/benchmark --manual-dir FOLDER --out bench.json

1. The machine's limits are measured, and give each workload a floor (`limits`, `workloads`).
2. Each contestant is a process of its own (`contestants` starts it, `process` runs in it), which
   trains with one of the modules in `peers`.
3. The contestants of a workload take their epochs in turn (`races`).
4. The growth of funcnet's time with a size is fitted (`races`), and whole programs are timed
   (`cold`).
5. What was measured is kept in a report (`report`), printed (`tables`) and drawn (`picture`).

Begin with `__main__`: it is this list in code. Nothing is imported here: a contestant's process
holds only what its own library needs.
"""
