"""Hands fitted to annotated joints: pose, shape and translation by batched Levenberg-Marquardt.

A closed-form rigid alignment of the palm starts it; then all parameters move at once, for every
hand of a batch in one compiled program. What joints cannot tell (the twist of a finger, part of the
shape) is decided by a weak pull towards the mean hand. Residuals are in millimetres, or
in what weights make comparable with them.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mano_jax import constants
from mano_jax.hand import Hand, HandError
from mano_jax.rotations import matrix_from_axis_angle
from mano_jax.skinning import (
    BlendArrays,
    Tips,
    blend_arrays,
    matmul,
    order_joints,
    resolve_tips,
    skin,
    some_points,
)

_CHUNKS = (8, 64, 256)
"""Hands in one call of the compiled program: few sizes, so that it is compiled few times."""

_PALM = np.array([1.0 if joint in (0, 1, 5, 9, 13, 17) else 0.02 for joint in range(21)])
"""Weights of the rigid alignment: joints that hardly move against each other count."""

_TRANSLATION_STEP = 0.1
"""Metres a unit of the solver's translation stands for; keeps its steps alike in size."""

_LARGEST = 1.0
"""Metres that the joints of one hand cannot be apart."""


_POSE_MM, _BETAS_MM = 3.0, 3.0
"""What a radian of deviation from the mean finger pose, and a unit of shape, count as.

They suit annotations with about 3 mm of noise, as InterHand2.6M's; smaller ones follow exact joints
more closely (0.2 instead of 0.7 mm) and noisy ones to implausible shapes.
"""

_OUTLIER_MM = 20.0
"""Distance beyond which a joint's pull no longer grows (Huber)."""

_ITERATIONS = 30


class Fit(NamedTuple):
    """Fitted hands; `pose_hand(hand, *fit[:4])` poses them. numpy arrays.

    Attributes:
      global_orient: (..., 3, 3).
      hand_pose: (..., 15, 3) axis-angle, the mean included.
      betas: (..., 10).
      transl: (..., 3) metres.
      joints_xyz: (..., 21, 3) metres, of the fitted hand.
      error_mm: (...,) mean distance to the valid joints; NaN without any.
    """

    global_orient: np.ndarray
    hand_pose: np.ndarray
    betas: np.ndarray
    transl: np.ndarray
    joints_xyz: np.ndarray
    error_mm: np.ndarray


class _Parameters(NamedTuple):
    """Of one hand.

    Attributes:
      rotation: (3, 3) about the wrist's rest position.
      translation: (3,) metres.
      coefficients: (45,) principal components of pose.
      betas: (10,) shape.
    """

    rotation: jax.Array
    translation: jax.Array
    coefficients: jax.Array
    betas: jax.Array


class _Model(NamedTuple):
    """The parts of a hand that a fit needs.

    Attributes:
      arrays: of the five tips.
      mean: (45,) finger pose, axis-angle.
      components: (45, 45).
    """

    arrays: BlendArrays
    mean: jax.Array
    components: jax.Array


def _finger_pose(model: _Model, coefficients: jax.Array) -> jax.Array:
    """(45,) principal components to (15, 3) axis-angle."""
    return (model.mean + matmul(coefficients, model.components)).reshape(15, 3)


def _joints(model: _Model, parameters: _Parameters) -> jax.Array:
    """The 21 joints (21, 3), metres."""
    fingers = matrix_from_axis_angle(_finger_pose(model, parameters.coefficients))
    rotations = jnp.concatenate([parameters.rotation[None], fingers])
    tips, joints = skin(model.arrays, rotations[None], parameters.betas[None])
    return order_joints(joints[0], tips[0]) + parameters.translation


def _residuals(
    model: _Model, xyz: jax.Array, weight: jax.Array, parameters: _Parameters
) -> tuple[jax.Array, jax.Array]:
    """Of the joints (21, 3), and of the pulls towards the mean hand (55,)."""
    away = 1000 * (_joints(model, parameters) - xyz) * weight[:, None]
    deviation = _finger_pose(model, parameters.coefficients).reshape(45) - model.mean
    pulls = [_POSE_MM * deviation, _BETAS_MM * parameters.betas]
    return away, jnp.concatenate(pulls)


def _cost(residuals: tuple[jax.Array, jax.Array]) -> jax.Array:
    """The sum that is minimised: squares, and Huber's function for joints."""
    away, pulls = residuals
    squared, limit = jnp.sum(away**2, axis=-1), _OUTLIER_MM
    far = 2 * limit * jnp.sqrt(jnp.maximum(squared, limit**2)) - limit**2
    return jnp.sum(jnp.where(squared > limit**2, far, squared)) + jnp.sum(pulls**2)


def _moved(parameters: _Parameters, step: jax.Array) -> _Parameters:
    """Parameters after a step (6 + 45 + 10,): turn, shift, pose, shape."""
    pose_end = 6 + constants.POSE_COMPONENTS
    return _Parameters(
        rotation=matmul(matrix_from_axis_angle(step[:3]), parameters.rotation),
        translation=parameters.translation + _TRANSLATION_STEP * step[3:6],
        coefficients=parameters.coefficients + step[6:pose_end],
        betas=parameters.betas + step[pose_end:],
    )


def _damped_step(jacobian: jax.Array, residual: jax.Array, damping: jax.Array) -> jax.Array:
    """Marquardt's step: normal equations scaled to a unit diagonal, plus damping."""
    scale = jax.lax.rsqrt(jnp.sum(jacobian**2, axis=0) + 1e-6)
    jacobian = jacobian * scale
    normal = matmul(jacobian.T, jacobian)
    normal = normal + damping * jnp.eye(normal.shape[0], dtype=normal.dtype)
    factor = jax.scipy.linalg.cho_factor(normal)
    return -scale * jax.scipy.linalg.cho_solve(factor, matmul(jacobian.T, residual))


def _improve(model: _Model, xyz: jax.Array, weight: jax.Array, start: _Parameters) -> _Parameters:
    """Levenberg-Marquardt; outliers weigh so that the squares descend like the cost."""
    size = 6 + constants.POSE_COMPONENTS + constants.BETAS

    def evaluate(parameters):
        return _residuals(model, xyz, weight, parameters)

    def iterate(carry, _):
        parameters, cost, damping = carry
        length = jnp.linalg.norm(evaluate(parameters)[0], axis=-1, keepdims=True)
        scale = jnp.sqrt(_OUTLIER_MM / jnp.maximum(length, _OUTLIER_MM))

        def residual(step):
            away, pulls = evaluate(_moved(parameters, step))
            vector = jnp.concatenate([(away * scale).ravel(), pulls])
            return vector, vector

        jacobian, vector = jax.jacfwd(residual, has_aux=True)(jnp.zeros(size, cost.dtype))
        candidate = _moved(parameters, _damped_step(jacobian, vector, damping))
        new_cost = _cost(evaluate(candidate))
        better = new_cost < cost  # False for NaN too
        parameters = jax.tree.map(lambda n, o: jnp.where(better, n, o), candidate, parameters)
        damping = jnp.clip(jnp.where(better, damping * 0.2, damping * 8), 1e-6, 1e6)
        return (parameters, jnp.where(better, new_cost, cost), damping), None

    cost = _cost(evaluate(start))
    carry = (start, cost, jnp.asarray(1e-2, cost.dtype))
    return jax.lax.scan(iterate, carry, length=_ITERATIONS)[0][0]


def _aligned(model: _Model, xyz: jax.Array, weight: jax.Array) -> _Parameters:
    """The mean hand after the rigid motion that fits its palm best (Kabsch 1976)."""
    sizes, dtype = (3, constants.POSE_COMPONENTS, constants.BETAS), model.mean.dtype
    parameters = _Parameters(jnp.eye(3, dtype=dtype), *(jnp.zeros(n, dtype) for n in sizes))
    joints = _joints(model, parameters)
    weight = weight * jnp.asarray(_PALM, dtype)
    weight = weight / jnp.maximum(jnp.sum(weight), 1e-6)
    centre, wanted_centre = weight @ joints, weight @ xyz
    covariance = matmul(((joints - centre) * weight[:, None]).T, xyz - wanted_centre)
    u, _, vt = jnp.linalg.svd(covariance)
    proper = jnp.array([1.0, 1.0, 0.0]) + jnp.array([0.0, 0.0, 1.0]) * jnp.linalg.det(u @ vt)
    rotation = matmul(vt.T * proper.astype(dtype), u.T)
    wrist = joints[0]  # the root turns about its rest position
    translation = wanted_centre - matmul(rotation, centre - wrist) - wrist
    return parameters._replace(rotation=rotation, translation=translation)


@jax.jit
def _fit_batch(model: _Model, xyz: jax.Array, weight: jax.Array) -> Fit:
    def fit_one(xyz: jax.Array, weight: jax.Array) -> Fit:
        found = _improve(model, xyz, weight, _aligned(model, xyz, weight))
        joints, valid = _joints(model, found), weight > 0
        apart = jnp.where(valid, jnp.linalg.norm(joints - xyz, axis=-1), 0)
        error_mm = 1000 * jnp.sum(apart) / jnp.sum(valid)
        pose = _finger_pose(model, found.coefficients)
        return Fit(found.rotation, pose, found.betas, found.translation, joints, error_mm)

    return jax.vmap(fit_one)(xyz, weight)


def _observed(joints_xyz, joint_valid, dtype) -> tuple[np.ndarray, np.ndarray]:
    """Checked joints with zeros where they are not valid, and their weights."""
    xyz = np.asarray(joints_xyz).astype(dtype)
    if xyz.shape[-2:] != (constants.JOINTS, 3):
        raise HandError(f"joints_xyz has shape {xyz.shape}; wanted (..., {constants.JOINTS}, 3)")
    finite = np.isfinite(xyz).all(axis=-1)
    valid = finite if joint_valid is None else np.asarray(joint_valid) > 0
    if valid.shape != finite.shape[finite.ndim - valid.ndim :]:
        raise HandError(f"joint_valid has shape {valid.shape}; wanted {finite.shape}")
    valid = np.broadcast_to(valid, finite.shape)
    if bad := int((valid & ~finite).sum()):
        raise HandError(
            f"joints_xyz holds {bad} valid joints that are not finite; mark them not valid"
        )
    seen = np.where(valid[..., None], xyz, np.nan)[valid.sum(axis=-1) > 1]
    if len(seen):
        spans = np.nanmax(seen, axis=-2) - np.nanmin(seen, axis=-2)
        extent = float(np.median(spans.reshape(-1, 3), axis=0).max())
        if extent > _LARGEST:
            raise HandError(f"joints_xyz spans {extent:.4g} m for a hand; wanted metres, not mm")
    return np.where(valid[..., None], xyz, 0), valid.astype(dtype)


def fit(
    hand: Hand,
    joints_xyz: np.ndarray,
    joint_valid: np.ndarray | None = None,
    *,
    tips: Tips = "manopth",
) -> Fit:
    """Finds pose, shape and translation for annotated joints.

    Args:
      hand: the hand model, left or right.
      joints_xyz: (..., 21, 3) metres.
      joint_valid: (..., 21) which of them count; None takes the finite ones.
      tips: convention of the annotated finger tips, see `pose_hand`.

    Returns:
      The fit, with each hand's error for the caller to judge.

    Raises:
      HandError: when an input is not as described.
    """
    if hand.side not in constants.SIDES:
        raise HandError("a stacked pair cannot be fitted; wanted pair.left or pair.right")
    wide = jax.config.jax_enable_x64 and np.asarray(joints_xyz).dtype == np.float64
    dtype = np.dtype(np.float64 if wide else np.float32)
    arrays = some_points(blend_arrays(hand), np.asarray(resolve_tips(hand, tips)))
    model = _Model(arrays, hand.hands_mean, hand.hands_components)
    model = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), model)
    xyz, weight = _observed(joints_xyz, joint_valid, dtype)
    batch, count = weight.shape[:-1], weight[..., 0].size
    xyz, weight = xyz.reshape(-1, 21, 3), weight.reshape(-1, 21)
    # Equal chunks, so that one compiled program serves; the last is filled up.
    chunk = next((size for size in _CHUNKS if count <= size), _CHUNKS[-1])
    if not count:
        xyz, weight = np.zeros((1, 21, 3), dtype), np.zeros((1, 21), dtype)
    parts = []
    for start in range(0, max(count, 1), chunk):
        rows = np.minimum(np.arange(start, start + chunk), len(xyz) - 1)
        parts.append(jax.tree.map(np.asarray, _fit_batch(model, xyz[rows], weight[rows])))
    return jax.tree.map(
        lambda *found: np.concatenate(found)[:count].reshape((*batch, *found[0].shape[1:])), *parts
    )
