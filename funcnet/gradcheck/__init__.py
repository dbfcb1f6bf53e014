"""Check: is this gradient right?

    report = check_gradients(function, *args, hand=None)

1. The floating leaves of the arguments are laid end to end, and the outputs are projected: the
   function becomes φ: ℝⁿ → ℝ (`_vector`).
2. φ takes float64, or the finest precision that the function accepts; its jaxpr tells what
   rounding costs (`_precision`).
3. The gradients to check are evaluated: `jax.grad` in reverse and in forward mode, and the gradient
   by hand (`_claims`).
4. The slopes of φ are measured by central differences with an error bar (`_differences`): element
   by element in a small leaf; in a large one along random directions, with bisection (`_slopes`).
5. Each element and each leaf gets a verdict (`_verdict`), a wrong one a description: a factor, a
   sign, a missing sum (`_diagnosis`).
6. The report is a table (`_report`): what it prints is decided there.

Begin with `_check`: it is this list in code.
"""

from funcnet.gradcheck._check import assert_gradients, check_gradients
from funcnet.gradcheck._report import Finding, GradientReport, LeafReport

__all__ = ["Finding", "GradientReport", "LeafReport", "assert_gradients", "check_gradients"]
