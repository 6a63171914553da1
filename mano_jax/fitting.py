"""Hands fitted to annotated joints: pose, shape and translation by batched Levenberg-Marquardt.

A closed-form rigid alignment of the palm starts it; then all parameters move at once, for every
hand of a batch in one compiled program. What joints cannot tell (the twist of a finger, part of the
shape) is decided by a weak pull towards the mean hand. Residuals are in millimetres, or
in what weights make comparable with them.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from mano_jax import constants
from mano_jax.hand import Hand, HandError
from mano_jax.rotations import matrix_from_axis_angle
from mano_jax.skinning import (
    BlendArrays,
    Tips,
    blend_arrays,
    matmul,
    order_joints,
    pca_to_axis_angle,
    resolve_tips,
    skin,
    some_points,
)

_PARTS = np.cumsum([3, 3, constants.POSE_COMPONENTS, constants.BETAS])
"""Where the parameters of one hand end: rotation vector, metres, pose components, shape."""

_CHUNKS = (1, 8, 64)
"""Hands in one call of the compiled program: few sizes, so that it is compiled few times."""

_PALM = np.array([1.0 if joint in (0, 1, 5, 9, 13, 17) else 0.02 for joint in range(21)])
"""Weights of the rigid alignment: joints that hardly move against each other count."""

_LARGEST = 1.0
"""Metres that the joints of one hand cannot be apart."""

_POSE_MM, _BETAS_MM = 3.0, 3.0
"""What a radian of deviation from the mean finger pose, and a unit of shape, count as.

They suit annotations with about 3 mm of noise, as InterHand2.6M's; smaller ones follow exact joints
more closely (0.2 instead of 0.7 mm) and noisy ones to implausible shapes.
"""

_OUTLIER_MM = 20.0
"""Distance beyond which a joint's pull no longer grows (Huber)."""

_ITERATIONS = 31


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


def _joints(hand: Hand, arrays: BlendArrays, parameters: jax.Array) -> jax.Array:
    """The 21 joints (21, 3) in metres of one hand's (61,) parameters."""
    turn, transl, coefficients, betas = jnp.split(parameters, _PARTS[:-1])
    vectors = jnp.concatenate([turn[None], pca_to_axis_angle(hand, coefficients)])
    tips, joints = skin(arrays, matrix_from_axis_angle(vectors)[None], betas[None])
    return order_joints(joints[0], tips[0]) + transl


def _damped_step(jacobian: jax.Array, residual: jax.Array, damping: jax.Array) -> jax.Array:
    """Marquardt's step: normal equations scaled to a unit diagonal, plus damping."""
    scale = jax.lax.rsqrt(jnp.sum(jacobian**2, axis=0) + 1e-6)
    jacobian = jacobian * scale
    normal = matmul(jacobian.T, jacobian)
    normal = normal + damping * jnp.eye(normal.shape[0], dtype=normal.dtype)
    factor = jax.scipy.linalg.cho_factor(normal)
    return -scale * jax.scipy.linalg.cho_solve(factor, matmul(jacobian.T, residual))


class _Point(NamedTuple):
    """Where the search stands: parameters, and what was found there."""

    parameters: jax.Array
    cost: jax.Array
    residual: jax.Array
    jacobian: jax.Array
    joints: jax.Array


def _improved(hand, arrays, xyz, weight, start) -> _Point:
    """Levenberg-Marquardt; outliers weigh so that the squares descend like the cost."""
    components = jnp.asarray(hand.hands_components, start.dtype)

    def residual(parameters):
        joints = _joints(hand, arrays, parameters)
        away = 1000 * (joints - xyz) * weight[:, None]
        deviation = matmul(parameters[_PARTS[1] : _PARTS[2]], components)
        pulls = jnp.concatenate([_POSE_MM * deviation, _BETAS_MM * parameters[_PARTS[2] :]])
        # The cost: squares, and Huber's function for joints.
        squared, limit = jnp.sum(away**2, axis=-1, keepdims=True), _OUTLIER_MM
        length = jnp.sqrt(jnp.maximum(squared, limit**2))
        far = 2 * limit * length - limit**2
        cost = jnp.sum(jnp.where(squared > limit**2, far, squared)) + jnp.sum(pulls**2)
        scale = jax.lax.stop_gradient(jnp.sqrt(limit / length))
        vector = jnp.concatenate([(away * scale).ravel(), pulls])
        return vector, (cost, vector, joints)

    def look(parameters):
        jacobian, (cost, vector, joints) = jax.jacfwd(residual, has_aux=True)(parameters)
        return _Point(parameters, cost, vector, jacobian, joints)

    def iterate(carry, _):
        best, candidate, damping = carry
        found = look(candidate)
        better = found.cost < best.cost  # False for NaN too
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), found, best)
        damping = jnp.clip(jnp.where(better, damping * 0.2, damping * 8), 1e-6, 1e6)
        step = _damped_step(best.jacobian, best.residual, damping)
        return (best, best.parameters + step, damping), None

    # The start is the first candidate, and better than nothing.
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(look, start))
    nothing = nothing._replace(parameters=start, cost=jnp.asarray(jnp.inf, start.dtype))
    carry = (nothing, start, jnp.asarray(5e-2, start.dtype))
    return jax.lax.scan(iterate, carry, length=_ITERATIONS)[0][0]


@jax.jit
def _fit_batch(hand, arrays, xyz, weight, start) -> Fit:
    def fit_one(xyz, weight, start):
        found = _improved(hand, arrays, xyz, weight, start)
        turn, transl, coefficients, betas = jnp.split(found.parameters, _PARTS[:-1])
        joints, valid = found.joints, weight > 0
        apart = jnp.where(valid, jnp.linalg.norm(joints - xyz, axis=-1), 0)
        error_mm = 1000 * jnp.sum(apart) / jnp.sum(valid)
        pose = pca_to_axis_angle(hand, coefficients)
        return Fit(matrix_from_axis_angle(turn), pose, betas, transl, joints, error_mm)

    return jax.vmap(fit_one)(xyz, weight, start)


def _aligned(rest: np.ndarray, xyz: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Parameters (B, 61) of the mean hand after the motion that fits its palm best (Kabsch 1976).

    Args:
      rest: (21, 3) joints of the hand at rest, metres; the palm's are those of the mean hand too.
      xyz: (B, 21, 3) wanted.
      valid: (B, 21) 1 where they count, else 0.
    """
    weight = valid * _PALM
    weight = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-6)
    centre, wanted = weight @ rest, np.einsum("bj,bjc->bc", weight, xyz)
    moment = ((rest - centre[:, None]) * weight[..., None]).swapaxes(1, 2) @ (xyz - wanted[:, None])
    u, _, vt = np.linalg.svd(moment)
    proper = np.ones((len(xyz), 3))
    proper[:, 2] = np.linalg.det(u @ vt)
    rotation = (vt.swapaxes(1, 2) * proper[:, None]) @ u.swapaxes(1, 2)
    # The root turns about the wrist's rest position.
    shift = wanted - np.einsum("bij,bj->bi", rotation, centre - rest[0]) - rest[0]
    parameters = np.zeros((len(xyz), _PARTS[-1]))
    parameters[:, :6] = np.concatenate([Rotation.from_matrix(rotation).as_rotvec(), shift], axis=1)
    return parameters


def _observed(joints_xyz, joint_valid) -> tuple[np.ndarray, np.ndarray]:
    """Checked joints with zeros where they are not valid, and whether they are."""
    xyz = np.asarray(joints_xyz)
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
    return np.where(valid[..., None], xyz, 0), valid


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
    arrays = some_points(blend_arrays(hand), np.asarray(resolve_tips(hand, tips)))
    xyz, valid = _observed(joints_xyz, joint_valid)
    wide = jax.config.jax_enable_x64 and xyz.dtype == np.float64
    dtype = np.dtype(np.float64 if wide else np.float32)
    batch, count = valid.shape[:-1], valid[..., 0].size
    chunk = next((size for size in _CHUNKS if count <= size), _CHUNKS[-1])
    if not count:
        xyz, valid = np.zeros((1, 21, 3)), np.zeros((1, 21))
    rows = np.arange(-(-max(count, 1) // chunk) * chunk).clip(max=max(count - 1, 0))
    rest = np.concatenate([arrays.joint_template, arrays.template.T])
    rest = rest[np.array(constants.JOINT_ORDER)]
    # Only numbers go into the program: one serves both sides.
    hand = dataclasses.replace(hand, side="either")
    xyz, valid = xyz.reshape(-1, 21, 3)[rows], valid.reshape(-1, 21)[rows]
    inputs = [value.astype(dtype) for value in (xyz, valid, _aligned(rest, xyz, valid))]
    parts = [
        jax.tree.map(np.asarray, _fit_batch(hand, arrays, *(v[i : i + chunk] for v in inputs)))
        for i in range(0, len(rows), chunk)
    ]
    return jax.tree.map(
        lambda *found: np.concatenate(found)[:count].reshape((*batch, *found[0].shape[1:])), *parts
    )
