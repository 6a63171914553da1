"""How the field aligns two reconstructed hands before it measures them (docs/method.md,
"Evaluation protocols").

All lengths are metres in camera axes (x right, y down, z forward), hands are an axis of size 2 in
the order left, right. The arithmetic runs in the precision of its inputs.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

import mano_jax
from dir_jax.models.types import IMAGE_SIZE
from mano_jax.constants import SIDES

WRIST, MIDDLE_KNUCKLE = 0, 9
"""Joints of the 21-joint order that protocols align at; their distance is the hand's scale."""


class Protocol(NamedTuple):
    """How a prediction is aligned with the ground truth.

    Attributes:
      root: joint that is moved onto the ground truth's (0 wrist, 9 middle knuckle).
      scaled: whether each hand is scaled by |J9 - J0| of the ground truth over the prediction's.
      meaning: the same for a reader, and where it is used.
    """

    root: int
    scaled: bool
    meaning: str


PROTOCOLS = {
    "wrist_scaled": Protocol(
        WRIST,
        True,
        "DIR's main table: wrists together, each hand scaled by the length from the wrist to the "
        "middle knuckle",
    ),
    "mcp_scaled": Protocol(
        MIDDLE_KNUCKLE, True, "IntagHand's (MS): middle knuckles together, scaled the same"
    ),
    "mcp_unscaled": Protocol(MIDDLE_KNUCKLE, False, "middle knuckles together, not scaled (M)"),
    "wrist_unscaled": Protocol(WRIST, False, "wrists together, not scaled"),
}
MAIN_PROTOCOL = "wrist_scaled"
"""The paper's; ranks samples and checkpoints, and is the one shown where there is room for one."""


@struct.dataclass
class Hands:
    """Two hands of B samples, predicted or true; what is not known is None.

    Attributes:
      joints_xyz: (B, 2, 21, 3) metres. A prediction's hands may be anywhere (each is aligned), but
        for MRRPE at the knuckle they must be relative to their own wrists.
      vertices_xyz: (B, 2, 778, 3) metres, in the same frame as the joints.
      offset: (B, 3) metres, right wrist minus left wrist; predictions only.
      joints_px: (B, 2, 21, 2) where the predictor's own camera shows the joints in the crop,
        pixels; models only.
    """

    joints_xyz: jax.Array
    vertices_xyz: jax.Array | None = None
    offset: jax.Array | None = None
    joints_px: jax.Array | None = None


@functools.partial(jax.jit, static_argnums=0)
def evaluation_joints(hands: mano_jax.HandPair, vertices: jax.Array) -> jax.Array:
    """Joints that all protocols measure: the regressor on posed vertices, IntagHand's fingertips.

    Args:
      hands: the hand models.
      vertices: (B, 2, 778, D) posed vertices, in space or in the image.

    Returns:
      (B, 2, 21, D) in the same unit and frame.
    """
    # The regressor's rows sum to one only to rounding, which a metre from the camera would show.
    centre = vertices.mean(axis=-2, keepdims=True)
    each = [
        mano_jax.joints_from_vertices(hands[side], (vertices - centre)[:, index], tips="intaghand")
        for index, side in enumerate(SIDES)
    ]
    return jnp.stack(each, axis=1) + centre


@functools.partial(jax.jit, static_argnums=0)
def measured_hands(
    hands: mano_jax.HandPair,
    vertices_xyz: jax.Array,
    offset: jax.Array | None = None,
    vertices_uv: jax.Array | None = None,
) -> Hands:
    """Meshes with the joints that the protocols measure.

    Args:
      hands: the hand models.
      vertices_xyz: (B, 2, 778, 3) metres.
      offset: (B, 3) metres, or None.
      vertices_uv: (B, 2, 778, 2) in [-1, 1] over the crop, or None. A model's camera is an affine
        map, so the joints' places in the image follow from the vertices' as in space.
    """
    joints_px = None
    if vertices_uv is not None:
        joints_px = (evaluation_joints(hands, vertices_uv) + 1) * (IMAGE_SIZE / 2)
    return Hands(evaluation_joints(hands, vertices_xyz), vertices_xyz, offset, joints_px)


def hands_in_one_space(hands: Hands) -> np.ndarray:
    """(B, 2, V, 3) vertices: left wrist at the origin, right wrist at the offset.

    Without an offset the hands' own places are taken (the ground truth's).
    """
    vertices = np.asarray(hands.vertices_xyz, np.float64)
    joints = np.asarray(hands.joints_xyz, np.float64)
    if hands.offset is None:
        return vertices - joints[:, :1, WRIST, None]
    placed = vertices - joints[:, :, WRIST, None]
    placed[:, 1] += np.asarray(hands.offset, np.float64)[:, None]
    return placed


def distance(a: jax.Array, b: jax.Array) -> jax.Array:
    """Euclidean distance (...) between points (..., D)."""
    return jnp.linalg.norm(a - b, axis=-1)


def align(prediction: Hands, truth: Hands, protocol: Protocol) -> Hands:
    """Scales each predicted hand and puts its root where the ground truth's is.

    Returns:
      The prediction in the ground truth's frame; joints and vertices only.
    """
    root, factor = protocol.root, 1.0
    source, target = prediction.joints_xyz, truth.joints_xyz
    if protocol.scaled:
        predicted, true = (
            distance(joints[..., MIDDLE_KNUCKLE, :], joints[..., WRIST, :])[..., None, None]
            for joints in (source, target)
        )
        # A prediction collapsed to a point has no scale; the floor keeps its error finite, and
        # large.
        factor = true / jnp.maximum(predicted, 1e-9)

    def place(points: jax.Array | None) -> jax.Array | None:
        if points is None:
            return None
        return (points - source[..., root, None, :]) * factor + target[..., root, None, :]

    return Hands(place(prediction.joints_xyz), place(prediction.vertices_xyz))
