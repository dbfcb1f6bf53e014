"""Check: is this gradient right?"""

from funcnet.gradcheck._check import assert_gradients, check_gradients
from funcnet.gradcheck._report import Finding, GradientReport, LeafReport

__all__ = ["Finding", "GradientReport", "LeafReport", "assert_gradients", "check_gradients"]
