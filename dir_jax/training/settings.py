"""Recipes as plain data: reading, checking, and comparing with what a work folder was made with."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from dir_jax.training.devices import BACKENDS
from dir_jax.training.exits import BadInputError
from dir_jax.weights.workdir import CONFIG_FILE
from input_pipeline.files import write_json

FREE = (
    "data.dir",
    "evaluation",
    "log",
    "mano",
    "parallel",
    "train.checkpoint_every",
    "train.keep",
    "train.nonfinite_limit",
    "validation",
)
"""Fields that may change when a run goes on: none of them changes a number it computes. (Another
hand model does, and is recognised by its content.)"""


def plain(config: ConfigDict | Mapping[str, Any]) -> dict[str, Any]:
    """The recipe as JSON gives it back: dictionaries, lists, numbers, text."""
    nested = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
    return json.loads(json.dumps(nested))


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"train.batch_size": 64, ...}."""
    items: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            items.update(flat(value, f"{prefix}{name}."))
        else:
            items[prefix + name] = value
    return items


def differences(new: Mapping[str, Any], saved: Mapping[str, Any]) -> list[str]:
    """Fields outside `FREE` that differ, as "train.batch_size: 32 here, 64 in the checkpoint"."""
    new, saved = flat(plain(new)), flat(plain(saved))
    absent = "absent"
    return [
        f"{name}: {new.get(name, absent)} here, {saved.get(name, absent)} in the checkpoint"
        for name in sorted(new.keys() | saved.keys())
        if new.get(name, absent) != saved.get(name, absent) and not is_free(name)
    ]


def is_free(name: str) -> bool:
    """Whether a field, or one of its groups, is in `FREE`."""
    return any(name == free or name.startswith(f"{free}.") for free in FREE)


def check_fits(new: Mapping[str, Any], saved: Mapping[str, Any], workdir: Path) -> None:
    """Refuses to go on with another recipe than the one the checkpoint was made with.

    Raises:
      BadInputError: names every differing field.
    """
    if found := differences(new, saved):
        raise BadInputError(
            f"{workdir} holds a run with another recipe: {'; '.join(found)}. "
            "Give the same values to go on, or another --workdir to start afresh"
        )


def check_values(config: ConfigDict) -> None:
    """Refuses numbers that cannot work, before anything is built.

    Raises:
      BadInputError: names the field, what came and what was wanted.
    """
    at_least = {
        "train.batch_size": 1,
        "train.steps": 0,
        "train.checkpoint_every": 1,
        "train.keep": 1,
        "train.nonfinite_limit": 0,
        "validation.every": 1,
        "validation.examples": 0,
        "evaluation.batch_size": 1,
        "evaluation.examples": 0,
        "evaluation.pictures": 0,
        "log.every": 1,
        "optimizer.warmup_steps": 0,
        "optimizer.weight_decay": 0,
        "data.synthesize_train": 1,
        "data.synthesize_val": 1,
        "data.synthesize_test": 1,
    }
    values = flat(plain(config))
    for name, least in at_least.items():
        if not values[name] >= least:
            raise BadInputError(f"{name} is {values[name]}; wanted {least} or more")
    if not 0 < values["optimizer.learning_rate"] < math.inf:
        raise BadInputError(
            f"optimizer.learning_rate is {values['optimizer.learning_rate']}; wanted more than 0"
        )
    if values["train.steps"] == 0 and not values["train.epochs"] > 0:
        raise BadInputError("train.epochs and train.steps are both 0; set one of them")
    warmup, steps = values["optimizer.warmup_steps"], values["train.steps"]
    if steps and warmup >= steps:
        raise BadInputError(
            f"optimizer.warmup_steps is {warmup}; wanted less than train.steps, {steps}"
        )
    if values["parallel.backend"] not in BACKENDS:
        raise BadInputError(
            f"parallel.backend is {values['parallel.backend']!r}; "
            f"wanted one of {', '.join(BACKENDS)}"
        )


def total_steps(config: ConfigDict, train_size: int) -> int:
    """Optimiser steps of the whole run; the last epoch's rest counts as a step."""
    if config.train.steps:
        return int(config.train.steps)
    return math.ceil(config.train.epochs * train_size / config.train.batch_size)


def write_config(config: ConfigDict, workdir: Path) -> None:
    """Leaves WORKDIR/config.json."""
    write_json(workdir / CONFIG_FILE, plain(config))


def read_config(workdir: str | os.PathLike) -> dict[str, Any]:
    """The recipe a work folder was trained with.

    Raises:
      BadInputError: none there, or not JSON.
    """
    path = Path(workdir) / CONFIG_FILE
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise BadInputError(f"{path} does not exist; wanted the --workdir of a run") from None
    except ValueError as error:
        raise BadInputError(f"{path} is not JSON ({error})") from None
