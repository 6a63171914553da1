"""What a fit minimises: distances of joints and points, and pulls towards the mean hand.

Everything here treats one hand; `fitting` maps it over a batch. Residuals are in millimetres, or in
what the weights of `FitTuning` make comparable with them.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mano_jax.blend import BlendArrays, matmul, skin
from mano_jax.fitting_mask import MaskMaps, compare_with_mask
from mano_jax.rotations import matrix_from_axis_angle
from mano_jax.skinning import Tips, order_joints

_NEAREST = 0.01
"""Metres in front of the camera at which projection stops growing."""


@dataclasses.dataclass(frozen=True)
class FitTuning:
    """Weights and limits of a fit.

    The weights suit annotations with about 3 mm of noise, as InterHand2.6M's; smaller ones follow
    exact joints more closely (0.2 instead of 0.7 mm) and noisy ones to implausible shapes.

    Attributes:
      pose_weight: mm for a radian of deviation from the mean finger pose.
      betas_weight: mm for a unit of shape.
      px_weight: mm for a pixel of the 2D points.
      mask_weight: mm for a pixel outside the mask, or of it not covered.
      outlier_mm: distance beyond which a joint's pull no longer grows (Huber).
      components: how many principal components of pose may move.
      iterations: Levenberg-Marquardt steps.
      tips: convention of the annotated finger tips, see `pose_hand`.
    """

    pose_weight: float = 3.0
    betas_weight: float = 3.0
    px_weight: float = 1.0
    mask_weight: float = 0.5
    outlier_mm: float = 20.0
    components: int = 45
    iterations: int = 30
    tips: Tips = "manopth"


class Parameters(NamedTuple):
    """Of one hand.

    Attributes:
      rotation: (3, 3) about the wrist's rest position.
      translation: (3,) metres.
      coefficients: (n,) principal components of pose.
      betas: (10,) shape.
    """

    rotation: jax.Array
    translation: jax.Array
    coefficients: jax.Array
    betas: jax.Array


class Model(NamedTuple):
    """The parts of a hand that a fit needs.

    Attributes:
      arrays: of the five tips, then of the points compared with the mask.
      mean: (45,) finger pose, axis-angle.
      components: (n, 45).
    """

    arrays: BlendArrays
    mean: jax.Array
    components: jax.Array


class Observed(NamedTuple):
    """What was annotated of one hand; what is None takes no part.

    Attributes:
      xyz: (21, 3) metres.
      xyz_weight: (21,) 0 for joints that are not valid.
      px: (21, 2) pixels.
      px_weight: (21,) 0 for points that are not valid.
      camera: (3, 3) intrinsics, pixels.
      mask: the hand's pixels.
    """

    xyz: jax.Array | None = None
    xyz_weight: jax.Array | None = None
    px: jax.Array | None = None
    px_weight: jax.Array | None = None
    camera: jax.Array | None = None
    mask: MaskMaps | None = None


def finger_pose(model: Model, coefficients: jax.Array) -> jax.Array:
    """(n,) principal components to (15, 3) axis-angle."""
    return (model.mean + matmul(coefficients, model.components)).reshape(15, 3)


def points_and_joints(model: Model, parameters: Parameters) -> tuple[jax.Array, jax.Array]:
    """Points (P, 3) after the five tips, and the 21 joints (21, 3), metres."""
    fingers = matrix_from_axis_angle(finger_pose(model, parameters.coefficients))
    rotations = jnp.concatenate([parameters.rotation[None], fingers])
    points, joints = skin(model.arrays, rotations[None], parameters.betas[None])
    points, joints = points[0] + parameters.translation, joints[0] + parameters.translation
    return points[5:], order_joints(joints, points[:5])


def project(camera: jax.Array, xyz: jax.Array) -> jax.Array:
    """Camera-space points (..., 3) to pixels (..., 2)."""
    flat = xyz[..., :2] / jnp.maximum(xyz[..., 2:], _NEAREST)
    return matmul(flat, camera[:2, :2].T) + camera[:2, 2]


def residuals(
    model: Model, observed: Observed, parameters: Parameters, tuning: FitTuning
) -> dict[str, jax.Array]:
    """Each term's residuals, (K, d): K things compared, in d coordinates each."""
    points, joints = points_and_joints(model, parameters)
    deviation = finger_pose(model, parameters.coefficients).reshape(45, 1) - model.mean[:, None]
    terms = {
        "pose": tuning.pose_weight * deviation,
        "betas": tuning.betas_weight * parameters.betas[:, None],
    }
    if observed.xyz is not None:
        terms["xyz"] = 1000 * (joints - observed.xyz) * observed.xyz_weight[:, None]
    if observed.px is not None:
        away = project(observed.camera, joints) - observed.px
        terms["px"] = tuning.px_weight * away * observed.px_weight[:, None]
    if observed.mask is not None:
        compared = compare_with_mask(observed.mask, project(observed.camera, points))
        for name, away in compared.items():
            # Weighted as if there were as many of them as joints.
            terms[name] = tuning.mask_weight * (21 / len(away)) ** 0.5 * away
    return terms


def _robust(term: str) -> bool:
    return term in ("xyz", "px")


def cost(terms: dict[str, jax.Array], tuning: FitTuning) -> jax.Array:
    """The sum that is minimised: squares, and Huber's function for joints and 2D points."""
    total = 0.0
    for name, values in terms.items():
        squared = jnp.sum(values**2, axis=-1)
        if _robust(name):
            limit = tuning.outlier_mm
            far = 2 * limit * jnp.sqrt(jnp.maximum(squared, limit**2)) - limit**2
            squared = jnp.where(squared > limit**2, far, squared)
        total = total + jnp.sum(squared)
    return total


def vector(terms: dict[str, jax.Array], scales: dict[str, jax.Array]) -> jax.Array:
    """All residuals in one vector, each thing scaled by its entry of `scales`."""
    return jnp.concatenate([(terms[name] * scales[name]).ravel() for name in sorted(terms)])


def robust_scales(terms: dict[str, jax.Array], tuning: FitTuning) -> dict[str, jax.Array]:
    """Scales (K, 1) that make the squares of `vector` descend like `cost`."""
    scales = {}
    for name, values in terms.items():
        length = jnp.linalg.norm(values, axis=-1, keepdims=True)
        reweighted = jnp.sqrt(tuning.outlier_mm / jnp.maximum(length, tuning.outlier_mm))
        scales[name] = reweighted if _robust(name) else jnp.ones_like(length)
    return scales
