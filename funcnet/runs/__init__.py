"""A training run from the command line: options in, a folder out."""

from funcnet.runs._trained import load_model

__all__ = ["load_model"]
