"""The network's numbers on disk: shipped, checkpoints, PyTorch files.

Here is what all of them share: the names of what a run leaves in its work folder, and the proof
that numbers are a model's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import serialization, traverse_util

CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.jsonl"
VALIDATION_FILE = "validation.jsonl"
EVALUATION_FILE = "evaluation.json"
CHECKPOINTS_FOLDER = "checkpoints"
DATA_FOLDER = "data"
"""Prepared data, where the recipe names no other folder."""
PICTURES_FOLDER = "pictures"
RAW_FOLDER = "raw"
"""Synthesised photographs, where the recipe asks for them."""
TENSORBOARD_FOLDER = "tensorboard"

SHOWN = 8
"""Names listed in an error before the rest is only counted."""


class WeightsError(ValueError):
    """Weights that cannot be used; the message says why and what to do."""


def raise_if(problems: list[str], what: str) -> None:
    """Raises a `WeightsError` that lists the first problems, if there are any."""
    if problems:
        rest = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise WeightsError(f"{what}: {'; '.join(problems[:SHOWN])}{rest}")


def fill(template: Any, values: Mapping[str, Any], what: str) -> Any:
    """`values` in the structure of `template`, after proof that every one has its place.

    Args:
      template: a tree of arrays or shapes.
      values: nested dictionaries of arrays under the same names.
      what: they are, for the message.

    Raises:
      WeightsError: names what is missing, left over or of another shape.
    """
    nested = traverse_util.flatten_dict(
        serialization.to_state_dict(template), keep_empty_nodes=True, sep="/"
    )
    wanted = {k: v for k, v in nested.items() if v is not traverse_util.empty_node}
    given = traverse_util.flatten_dict(dict(values), sep="/")
    problems = [f"{name} is missing" for name in wanted if name not in given]
    problems += [f"{name} is left over" for name in given if name not in wanted]
    problems += [
        f"{name} has shape {np.shape(given[name])}, wanted {np.shape(shape)}"
        for name, shape in wanted.items()
        if name in given and np.shape(given[name]) != np.shape(shape)
    ]
    raise_if(problems, f"{what} do not fit this model")
    filled = traverse_util.unflatten_dict({**nested, **given}, sep="/")
    return serialization.from_state_dict(template, filled)
