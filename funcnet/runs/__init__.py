"""A training run from the command line: options in, a folder out."""
