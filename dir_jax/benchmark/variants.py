"""Switches whose cost people ask about, each checked against the form it stands for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

MODES = ("forward", "train_step")


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to run the network.

    Attributes:
      purpose: what it is for, one line.
      fields: of `ModelConfig`, over the model's own.
      against: fields of the model that it must equal (its own values, if any, aside).
      modes: where it makes sense.
      execution: "whole" (one program), "stages" (a program for each part), "kept" (a training
        step that does not give the old state's memory back), "labels" (a training step that also
        poses, draws and normalises: what train.py runs).
      tolerance: largest difference of the outputs relative to their largest value; None where the
        arithmetic itself is another.
    """

    purpose: str
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    against: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    modes: tuple[str, ...] = MODES
    execution: str = "whole"
    tolerance: float | None = 1e-4


_JOINT = {"planes": "joint"}

VARIANTS = {
    "default": Variant("what train.py, evaluate.py and predict.py run"),
    "onehot": Variant(
        "bone planes built in full before the convolution: the oracle of the factored form",
        {"projection": "onehot"},
    ),
    "joint_factored": Variant(
        "the paper's joint planes, never built", {"projection": "factored", **_JOINT}, _JOINT
    ),
    "joint_onehot": Variant(
        "joint planes by one-hot products", {"projection": "onehot", **_JOINT}, _JOINT
    ),
    "joint_scatter": Variant(
        "joint planes by scatter-add", {"projection": "scatter", **_JOINT}, _JOINT
    ),
    "onehot_matmul": Variant(
        "features read at the joints by two matrix products, no indexed memory access",
        {"sampling": "onehot_matmul"},
    ),
    "map_coordinates": Variant(
        "features read by jax.scipy.ndimage", {"sampling": "map_coordinates"}
    ),
    "bfloat16": Variant(
        "half the memory traffic and tensor cores on GPUs; parameters and statistics in float32",
        {"precision": "bfloat16"},
        tolerance=None,
    ),
    "remat": Variant(
        "activations of the refinements computed twice instead of kept: larger batches",
        {"remat": True},
        modes=("train_step",),
    ),
    "stages": Variant(
        "a program for each part instead of one: quicker to compile after a change, easy to "
        "profile, but nothing is fused across parts",
        modes=("forward",),
        execution="stages",
    ),
    "no_donation": Variant(
        "the old training state stays alive during the step",
        modes=("train_step",),
        execution="kept",
    ),
    "labels": Variant(
        "the whole step of train.py: labels posed and drawn on the device as well",
        modes=("train_step",),
        execution="labels",
        tolerance=None,
    ),
}


def choose(names: list[str], mode: str) -> dict[str, Variant]:
    """The named variants that make sense in a mode, the default first.

    Raises:
      ValueError: a name that is not in `VARIANTS`.
    """
    names = list(VARIANTS) if names == ["all"] else ["default", *names]
    for name in names:
        if name not in VARIANTS:
            raise ValueError(f"variant {name!r} is unknown; wanted all, {', '.join(VARIANTS)}")
    return {name: VARIANTS[name] for name in names if mode in VARIANTS[name].modes}
