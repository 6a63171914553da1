"""A part of a network whose module raises when it is imported."""

raise RuntimeError("not today\nnor tomorrow")
