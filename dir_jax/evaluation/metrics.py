"""Errors of two reconstructed hands under the protocols of the field, per sample, on the device.

Papers on two-hand reconstruction align predictions in different ways before they measure. Every
function here takes the protocol by name, returns the errors of each sample and leaves averaging
to `dir_jax.evaluation.totals`, which sums over samples. All lengths are metres in camera axes (x
right, y down, z forward), hands are an axis of size 2 in the order left, right; errors are
millimetres or pixels. The arithmetic runs in the precision of its inputs.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

import mano_jax
from mano_jax.constants import SIDES

MILLIMETRES = 1000.0
WRIST, MIDDLE_KNUCKLE = 0, 9
"""Joints of the 21-joint order that protocols align at; their distance is the hand's scale."""


class Protocol(NamedTuple):
    """How a prediction is aligned with the ground truth.

    Attributes:
      root: joint that is moved onto the ground truth's (0 wrist, 9 middle knuckle).
      scaled: whether each hand is scaled by |J9 - J0| of the ground truth over the prediction's.
    """

    root: int
    scaled: bool


PROTOCOLS = {
    "wrist_scaled": Protocol(WRIST, True),
    "mcp_scaled": Protocol(MIDDLE_KNUCKLE, True),
    "mcp_unscaled": Protocol(MIDDLE_KNUCKLE, False),
    "wrist_unscaled": Protocol(WRIST, False),
}
"""DIR's main table, IntagHand's ("MS"), the unscaled knuckle form ("M"), and the plain one."""


@struct.dataclass
class Hands:
    """Two hands of B samples, predicted or true; what is not known is None.

    Attributes:
      joints_xyz: (B, 2, 21, 3) metres. A prediction's hands may be anywhere (each is aligned), but
        for MRRPE at the knuckle they must be relative to their own wrists.
      vertices_xyz: (B, 2, 778, 3) metres, in the same frame as the joints.
      offset: (B, 3) metres, right wrist minus left wrist; predictions only.
    """

    joints_xyz: jax.Array
    vertices_xyz: jax.Array | None = None
    offset: jax.Array | None = None


@struct.dataclass
class Errors:
    """Errors of B samples under one protocol; None where the inputs do not allow them.

    Attributes:
      joint_mm: (B, 2, 21) distance of every joint, the root's included.
      vertex_mm: (B, 2) mean over the vertices.
      joint_px: (B, 2) mean over the joints of the distance in the image.
      vertex_px: (B, 2) mean over the vertices of the distance in the image (MIAA).
      root_mm: (B,) error of the vector between the hands' roots (MRRPE).
    """

    joint_mm: jax.Array
    vertex_mm: jax.Array | None
    joint_px: jax.Array | None
    vertex_px: jax.Array | None
    root_mm: jax.Array | None


@functools.partial(jax.jit, static_argnums=0)
def evaluation_joints(hands: mano_jax.HandPair, vertices_xyz: jax.Array) -> jax.Array:
    """Joints that all protocols measure: the regressor on posed vertices, IntagHand's fingertips.

    Args:
      hands: the hand models.
      vertices_xyz: (B, 2, 778, 3) posed vertices.

    Returns:
      (B, 2, 21, 3) in the same unit and frame.
    """
    # The regressor's rows sum to one only to rounding, which a metre from the camera would show.
    centre = vertices_xyz.mean(axis=-2, keepdims=True)
    each = [
        mano_jax.joints_from_vertices(
            hands[side], (vertices_xyz - centre)[:, index], tips="intaghand"
        )
        for index, side in enumerate(SIDES)
    ]
    return jnp.stack(each, axis=1) + centre


def project_px(points_xyz: jax.Array, camera: jax.Array) -> jax.Array:
    """Pinhole projection.

    Args:
      points_xyz: (B, 2, N, 3) camera axes.
      camera: (B, 3, 3) intrinsics.

    Returns:
      (B, 2, N, 2) pixels.
    """
    # Not in TF32: its ten bits of mantissa would cost a pixel.
    homogeneous = jnp.einsum(
        "bhni,bji->bhnj", points_xyz, camera, precision=jax.lax.Precision.HIGHEST
    )
    return homogeneous[..., :2] / homogeneous[..., 2:]


def _distance(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.linalg.norm(a - b, axis=-1)


def hand_scale(truth_joints: jax.Array, predicted_joints: jax.Array) -> jax.Array:
    """Factor (..., 1, 1) that gives the predicted palm the true length |J9 - J0|."""

    def length(joints: jax.Array) -> jax.Array:
        return _distance(joints[..., MIDDLE_KNUCKLE, :], joints[..., WRIST, :])

    # A prediction collapsed to a point has no scale; the floor keeps its error finite, and large.
    return (length(truth_joints) / jnp.maximum(length(predicted_joints), 1e-9))[..., None, None]


def root_errors(prediction: Hands, truth: Hands, root: int) -> jax.Array:
    """MRRPE (B,) in mm: never scaled, from the predicted offset and the root joint's place."""
    truth_vector = truth.joints_xyz[:, 1, root] - truth.joints_xyz[:, 0, root]
    vector = prediction.offset
    if root != WRIST:
        vector = vector + prediction.joints_xyz[:, 1, root] - prediction.joints_xyz[:, 0, root]
    return _distance(truth_vector, vector) * MILLIMETRES


def align(prediction: Hands, truth: Hands, protocol: Protocol) -> Hands:
    """Scales each predicted hand and puts its root where the ground truth's is.

    Returns:
      The prediction in the ground truth's frame, without offset.
    """
    root = slice(protocol.root, protocol.root + 1)
    factor = hand_scale(truth.joints_xyz, prediction.joints_xyz) if protocol.scaled else 1.0
    source, target = prediction.joints_xyz[..., root, :], truth.joints_xyz[..., root, :]

    def place(points: jax.Array | None) -> jax.Array | None:
        return None if points is None else (points - source) * factor + target

    return Hands(place(prediction.joints_xyz), place(prediction.vertices_xyz))


@functools.partial(jax.jit, static_argnums=3)
def protocol_errors(
    prediction: Hands, truth: Hands, camera: jax.Array | None, protocol: Protocol
) -> Errors:
    """Errors of every sample under one protocol (definitions: DIR, section 4; IntagHand).

    Args:
      prediction: predicted hands; without vertices (or offset) their errors are None.
      truth: true hands, absolute camera positions.
      camera: (B, 3, 3) intrinsics of the crop, or None: no pixel errors.
      protocol: one of `PROTOCOLS`.

    Returns:
      The errors per sample.
    """
    aligned = align(prediction, truth, protocol)

    def compare(points: jax.Array | None, true_points: jax.Array | None):
        if points is None or true_points is None:
            return None, None
        distance_mm = _distance(points, true_points) * MILLIMETRES
        if camera is None:
            return distance_mm, None
        return distance_mm, _distance(
            project_px(points, camera), project_px(true_points, camera)
        ).mean(-1)

    joint_mm, joint_px = compare(aligned.joints_xyz, truth.joints_xyz)
    vertex_mm, vertex_px = compare(aligned.vertices_xyz, truth.vertices_xyz)
    return Errors(
        joint_mm=joint_mm,
        vertex_mm=None if vertex_mm is None else vertex_mm.mean(-1),
        joint_px=joint_px,
        vertex_px=vertex_px,
        root_mm=(
            None if prediction.offset is None else root_errors(prediction, truth, protocol.root)
        ),
    )


def all_errors(prediction: Hands, truth: Hands, camera: jax.Array | None) -> dict[str, Errors]:
    """Errors under every protocol of `PROTOCOLS`, by name (see `protocol_errors`)."""
    return {
        name: protocol_errors(prediction, truth, camera, protocol)
        for name, protocol in PROTOCOLS.items()
    }


@struct.dataclass
class InterNetErrors:
    """Errors of B samples in InterNet's protocol.

    Attributes:
      joint_mm: (B, 2, 21) relative to each hand's wrist, no scaling; 0 where not valid.
      valid: (B, 2, 21) bool, joints that count: annotated, on a hand whose wrist is annotated.
      root_mm: (B,) error of the vector between the wrists, or None without predicted offsets.
      root_valid: (B,) bool, both wrists annotated.
    """

    joint_mm: jax.Array
    valid: jax.Array
    root_mm: jax.Array | None
    root_valid: jax.Array


@jax.jit
def internet_errors(prediction: Hands, joints_xyz: jax.Array, valid: jax.Array) -> InterNetErrors:
    """Errors against the annotated joints (InterHand2.6M, Moon et al., ECCV 2020, section 6).

    Args:
      prediction: predicted hands.
      joints_xyz: (B, 2, 21, 3) annotated joints, camera metres, our joint order.
      valid: (B, 2, 21) bool, which of them are annotated.

    Returns:
      The errors per sample.
    """
    valid = valid.astype(bool)
    # Root-relative positions mean nothing without the root.
    valid = valid & valid[..., WRIST : WRIST + 1]
    truth = Hands(joints_xyz=jnp.where(valid[..., None], joints_xyz, 0.0))
    aligned = align(prediction, truth, PROTOCOLS["wrist_unscaled"])
    distance_mm = _distance(aligned.joints_xyz, truth.joints_xyz) * MILLIMETRES
    return InterNetErrors(
        joint_mm=jnp.where(valid, distance_mm, 0.0),
        valid=valid,
        root_mm=None if prediction.offset is None else root_errors(prediction, truth, WRIST),
        root_valid=valid[:, 0, WRIST] & valid[:, 1, WRIST],
    )
