"""The reference's setting rebuilt: pseudo-random weights, toy hands, images, targets."""

from __future__ import annotations

import functools
import pathlib

import jax
import numpy as np

import dir_jax
from mano_jax.constants import SIDES
from tests.golden import pseudo_weights
from tests.hands import toy_hands

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
STAGE_FIELDS = {
    "params": "mano_para",
    "joints_uv": "joint_uv",
    "joints_xyz": "joint_xyz",
    "vertices_uv": "mesh_uv",
    "vertices_xyz": "mesh_xyz",
}
"""Our field of a stage: the reference's name."""


@functools.cache
def model() -> dir_jax.models.network.DIR:
    # Three optimiser steps are sensitive to manopth's rotations, which are off by 2e-8.
    return dir_jax.create_model({"preset": "released", "rotations": "manopth"}, toy_hands())


@functools.cache
def variables(dtype, salt: int = 0):
    values = dir_jax.variables_from_torch(pseudo_weights.pseudo_state_dict(salt), model())
    return jax.tree.map(lambda a: np.asarray(a, dtype), values)


def images(dtype, count: int = 2, salt: int = 0) -> np.ndarray:
    return pseudo_weights.normalise(pseudo_weights.pseudo_images(count, salt)).astype(dtype)


def targets(dtype) -> dir_jax.Targets:
    """The stored labels, the maps brought to 32x32 as the reference does.

    torch's nearest takes the upper left pixel of each 8x8 cell, its bilinear the mean of the
    four pixels around the cell's centre.
    """
    data = np.load(GOLDEN / "train_targets.npz")

    def pair(name):
        return np.stack([data[f"{name}_{side}"] for side in SIDES], 1).astype(dtype)

    cells = data["dense"].astype(dtype).reshape(-1, 3, 32, 8, 32, 8)
    return dir_jax.Targets(
        joints_xyz=pair("joint_3d"),
        vertices_xyz=pair("mesh_3d"),
        joints_uv=pair("joint_2d")[..., :2],
        vertices_uv=pair("mesh_2d")[..., :2],
        segmentation=data["seg"][:, 0, ::8, ::8].astype(np.int32),
        dense=cells[:, :, :, 3:5, :, 3:5].mean((3, 5)).transpose(0, 2, 3, 1),
    )


def _error(ours, theirs) -> float:
    """Largest difference relative to the largest golden value."""
    ours = np.asarray(ours)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def stage_errors(stages, golden, prefix: str = "") -> dict[str, float]:
    """The error of every field of the stages, by "STAGE/FIELD_SIDE"."""
    errors = {}
    for index, stage in enumerate(stages):
        place = f"{prefix}stage{index}"
        errors[f"{index}/offset"] = _error(stage.offset, golden[f"{place}/offset"])
        for field, name in STAGE_FIELDS.items():
            for hand, side in enumerate(SIDES):
                ours, theirs = getattr(stage, field)[:, hand], golden[f"{place}/{name}_{side}"]
                errors[f"{index}/{field}_{side}"] = _error(ours, theirs)
    return errors


def output_errors(output: dir_jax.Output, golden, prefix: str = "") -> dict[str, float]:
    """The error of every output."""
    maps = {"segmentation": "seg", "dense": "dense"}
    return stage_errors(output.stages, golden, prefix) | {
        field: _error(np.moveaxis(getattr(output, field), 3, 1), golden[f"{prefix}{name}"])
        for field, name in maps.items()
    }
