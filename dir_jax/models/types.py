"""What travels between the parts (the network's output, the labels it is compared with), and the
numbers that define DIR's inputs and outputs, which every other module takes from here."""

from __future__ import annotations

import jax
import numpy as np
from flax import struct

from input_pipeline import IMAGE_SIZE as IMAGE_SIZE

LENGTH_SCALE = 0.15
"""Metres that the network treats as one: lengths in losses, embeddings and the wrist offset."""

MAP_SIZE = 32
"""Side of the segmentation and dense-correspondence maps."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Per-channel RGB statistics (of values in [0, 1]) that the encoder's weights expect."""

SEGMENTATION_CLASSES = ("background", "right", "left")
"""Class order of the released checkpoint: in the released masks class 1 is the right hand."""

PARAMETERS = 64
"""Size of a hand's parameter vector: 6 rotation, 45 pose, 10 shape, 1 scale, 2 translation."""
ROTATION = slice(0, 6)
POSE = slice(6, 51)
BETAS = slice(51, 61)
CAMERA_SCALE = 61
CAMERA_TRANSLATION = slice(62, 64)


@struct.dataclass
class Stage:
    """One estimate of both hands (axis of size 2: left, right).

    Attributes:
      params: (B, 2, 64) root 6D rotation, 45 pose coefficients, 10 betas, camera scale and
        translation (`ROTATION`, `POSE`, `BETAS`, ...).
      offset: (B, 3) right wrist minus left wrist, in units of 0.15 m, camera axes.
      joints_xyz: (B, 2, 21, 3) metres, camera axes, relative to the model's root joint.
      vertices_xyz: (B, 2, 778, 3) metres, likewise.
      joints_uv: (B, 2, 21, 2) in [-1, 1] over the crop.
      vertices_uv: (B, 2, 778, 2) likewise.
    """

    params: jax.Array
    offset: jax.Array
    joints_xyz: jax.Array
    vertices_xyz: jax.Array
    joints_uv: jax.Array
    vertices_uv: jax.Array


def offset_metres(stage: Stage) -> np.ndarray:
    """The predicted vector (..., 3) from the left wrist to the right one, metres."""
    return np.asarray(stage.offset) * LENGTH_SCALE


def one_space(stage: Stage) -> tuple[np.ndarray, np.ndarray]:
    """Both hands in one space, its origin at the left wrist.

    Args:
      stage: an estimate, numpy, with or without batch axis.

    Returns:
      vertices (..., 2, 778, 3) and joints (..., 2, 21, 3), metres, camera axes.
    """
    offset = offset_metres(stage)
    place = np.stack([np.zeros_like(offset), offset], axis=-2)[..., None, :]
    place = place - np.asarray(stage.joints_xyz)[..., :1, :]
    return np.asarray(stage.vertices_xyz) + place, np.asarray(stage.joints_xyz) + place


@struct.dataclass
class Output:
    """What the network returns.

    Attributes:
      stages: the initial estimate, then one `Stage` per refinement.
      segmentation: (B, 32, 32, 3) logits (background, right, left).
      dense: (B, 32, 32, 3) dense correspondence, template coordinates scaled to [0, 1].
    """

    stages: tuple[Stage, ...]
    segmentation: jax.Array
    dense: jax.Array


@struct.dataclass
class Targets:
    """Labels of a batch, metres and camera axes, hands in the order left, right.

    Attributes:
      joints_xyz: (B, 2, 21, 3) absolute positions.
      vertices_xyz: (B, 2, 778, 3) absolute positions.
      joints_uv: (B, 2, 21, 2) in [-1, 1] over the crop.
      vertices_uv: (B, 2, 778, 2) likewise.
      segmentation: (B, 32, 32) int32 class numbers.
      dense: (B, 32, 32, 3) correspondence colours in [0, 1].
      hand_valid: (B, 2) bool, hands that have labels; None: all. The others' values mean nothing.
      pixel_valid: (B, 32, 32) bool, cells of the maps whose label is known; None: all.
    """

    joints_xyz: jax.Array
    vertices_xyz: jax.Array
    joints_uv: jax.Array
    vertices_uv: jax.Array
    segmentation: jax.Array
    dense: jax.Array
    hand_valid: jax.Array | None = None
    pixel_valid: jax.Array | None = None
