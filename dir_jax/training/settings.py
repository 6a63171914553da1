"""Recipes as plain data: reading, checking, and comparing with what a work folder was made with."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from configs.arguments import BadInputError
from dir_jax.losses.terms import loss_config
from dir_jax.models.config import model_config
from dir_jax.training.devices import BACKENDS
from dir_jax.training.optimiser import SCHEDULES
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
"""Fields that may change when a run is resumed: none of them changes a number it computes. (Another
hand model does, and is recognised by its content.)"""

LARGEST = 2**31 - 1
_FROM_0 = (
    "seed evaluation.examples evaluation.pictures optimizer.warmup_steps train.epochs "
    "train.nonfinite_limit train.steps validation.examples"
)
_FROM_1 = (
    "data.synthesize_train data.synthesize_val data.synthesize_test evaluation.batch_size "
    "log.every optimizer.constant_steps train.batch_size train.checkpoint_every train.keep "
    "validation.every"
)
RANGES = {
    **dict.fromkeys(_FROM_0.split(), (0, LARGEST)),
    **dict.fromkeys(_FROM_1.split(), (1, LARGEST)),
    **dict.fromkeys(("optimizer.b1", "optimizer.b2", "optimizer.eps"), (0, 1)),
    **dict.fromkeys(("optimizer.learning_rate", "optimizer.weight_decay"), (0, 1000)),
}
"""Smallest and largest value of a field; no number (NaN) is in no range."""


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
    """Refuses to resume with another recipe than the one the work folder was made with.

    Raises:
      BadInputError: names every differing field.
    """
    if found := differences(new, saved):
        raise BadInputError(
            f"{workdir} holds a run with another recipe: {'; '.join(found)}. "
            "Give the same values to resume, or another --workdir to start afresh"
        )


def check_values(config: ConfigDict) -> None:
    """Refuses numbers that cannot work, before anything is built.

    Raises:
      BadInputError: names the field, what came and what was wanted.
    """
    values = flat(plain(config))
    for name, (least, most) in RANGES.items():
        if not least <= values[name] <= most:
            wanted = f"{least} or more" if most == LARGEST else f"{least} to {most}"
            raise BadInputError(f"{name} is {values[name]}; wanted {wanted}")
    if not values["optimizer.learning_rate"]:
        raise BadInputError("optimizer.learning_rate is 0; wanted more")
    if not values["train.steps"] and not values["train.epochs"]:
        raise BadInputError("train.epochs and train.steps are both 0; set one of them")
    warmup, steps = values["optimizer.warmup_steps"], values["train.steps"]
    if steps and warmup >= steps:
        raise BadInputError(
            f"optimizer.warmup_steps is {warmup}; wanted less than train.steps, {steps}"
        )
    if values["parallel.processes"] > 1 and not values["parallel.coordinator"]:
        raise BadInputError(
            f"parallel.processes is {values['parallel.processes']} without parallel.coordinator; "
            "wanted the address of process 0, or auto"
        )
    for name, choices in (("parallel.backend", BACKENDS), ("optimizer.schedule", SCHEDULES)):
        if values[name] not in choices:
            raise BadInputError(f"{name} is {values[name]!r}; wanted one of {', '.join(choices)}")
    model_config(config.model.to_dict())
    loss_config(config.loss.to_dict())


def total_steps(config: ConfigDict, train_size: int) -> int:
    """Optimiser steps of the whole run; the last epoch's rest counts as a step."""
    if config.train.steps:
        return int(config.train.steps)
    return math.ceil(config.train.epochs * train_size / config.train.batch_size)


def write_config(config: ConfigDict, workdir: Path) -> None:
    """Leaves WORKDIR/config.json."""
    write_json(workdir / CONFIG_FILE, plain(config))


def read_config(workdir: Path) -> dict[str, Any] | None:
    """The recipe a work folder was trained with; None where there is none.

    Raises:
      BadInputError: it is not JSON.
    """
    path = workdir / CONFIG_FILE
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise BadInputError(f"{path} is not JSON ({error})") from None
