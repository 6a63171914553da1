"""Hands fitted to annotated joints: pose, shape and translation by batched Levenberg-Marquardt.

A closed-form rigid alignment of the palm starts it (2D points alone start from 24 directions); then
all parameters move at once, for every hand of a batch in one compiled program. What joints cannot
tell (the twist of a finger, part of the shape) is decided by a weak pull towards the mean hand.
"""

from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mano_jax import constants, fitting_mask
from mano_jax import fitting_terms as terms_of
from mano_jax.blend import blend_arrays, matmul, some_points
from mano_jax.fitting_inputs import observed_arrays
from mano_jax.fitting_terms import FitTuning, Model, Observed, Parameters
from mano_jax.hand import Hand, HandError
from mano_jax.rotations import matrix_from_axis_angle
from mano_jax.skinning import resolve_tips

_CHUNKS = (8, 64, 256)
"""Hands in one call of the compiled program: few sizes, so that it is compiled few times."""

_PALM = np.array([1.0 if joint in (0, 1, 5, 9, 13, 17) else 0.02 for joint in range(21)])
"""Weights of the rigid alignment: joints that hardly move against each other count."""

_DIRECTIONS = np.array(
    [
        matrix
        for order in itertools.permutations(np.eye(3))
        for signs in itertools.product([1, -1], repeat=3)
        if np.linalg.det(matrix := np.array(order) * np.array(signs)[:, None]) > 0
    ]
)
"""The 24 rotations of a cube."""

_TRANSLATION_STEP = 0.1
"""Metres a unit of the solver's translation stands for; keeps its steps alike in size."""


class Fit(NamedTuple):
    """Fitted hands; `pose_hand(hand, *fit[:4])` poses them. numpy arrays.

    Attributes:
      global_orient: (..., 3, 3).
      hand_pose: (..., 15, 3) axis-angle, the mean included.
      betas: (..., 10).
      transl: (..., 3) metres.
      joints_xyz: (..., 21, 3) metres, of the fitted hand.
      error_mm: (...,) mean distance to the valid 3D joints; NaN without any.
      error_px: (...,) mean distance to the valid 2D points; NaN without any.
    """

    global_orient: np.ndarray
    hand_pose: np.ndarray
    betas: np.ndarray
    transl: np.ndarray
    joints_xyz: np.ndarray
    error_mm: np.ndarray
    error_px: np.ndarray


def _moved(parameters: Parameters, step: jax.Array) -> Parameters:
    """Parameters after a step (6 + n + 10,): turn, shift, pose, shape."""
    pose_end = 6 + parameters.coefficients.shape[0]
    return Parameters(
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


def _improve(
    model: Model, observed: Observed, start: Parameters, tuning: FitTuning, iterations: int
) -> tuple[Parameters, jax.Array]:
    """Levenberg-Marquardt from one start; returns the parameters and their cost."""
    size = 6 + start.coefficients.shape[0] + constants.BETAS

    def evaluate(parameters: Parameters) -> dict[str, jax.Array]:
        return terms_of.residuals(model, observed, parameters, tuning)

    def iterate(carry, _):
        parameters, cost, damping = carry
        scales = terms_of.robust_scales(evaluate(parameters), tuning)

        def residual(step):
            vector = terms_of.vector(evaluate(_moved(parameters, step)), scales)
            return vector, vector

        zero = jnp.zeros(size, cost.dtype)
        jacobian, vector = jax.jacfwd(residual, has_aux=True)(zero)
        candidate = _moved(parameters, _damped_step(jacobian, vector, damping))
        new_cost = terms_of.cost(evaluate(candidate), tuning)
        better = new_cost < cost  # False for NaN too
        parameters = jax.tree.map(lambda n, o: jnp.where(better, n, o), candidate, parameters)
        damping = jnp.clip(jnp.where(better, damping * 0.2, damping * 8), 1e-6, 1e6)
        return (parameters, jnp.where(better, new_cost, cost), damping), None

    cost = terms_of.cost(evaluate(start), tuning)
    carry = (start, cost, jnp.asarray(1e-2, cost.dtype))
    (parameters, cost, _), _ = jax.lax.scan(iterate, carry, length=iterations)
    return parameters, cost


def _mean_hand(model: Model) -> tuple[Parameters, jax.Array]:
    """The mean hand at the origin, and its joints."""
    dtype = model.mean.dtype
    count = model.components.shape[0]
    shapes = (jnp.eye(3, dtype=dtype), *(jnp.zeros(n, dtype) for n in (3, count, constants.BETAS)))
    parameters = Parameters(*shapes)
    return parameters, terms_of.points_and_joints(model, parameters)[1]


def _aligned(model: Model, observed: Observed) -> Parameters:
    """The mean hand after the rigid motion that fits its palm best (Kabsch 1976)."""
    parameters, joints = _mean_hand(model)
    weight = observed.xyz_weight * jnp.asarray(_PALM, joints.dtype)
    weight = weight / jnp.maximum(jnp.sum(weight), 1e-6)
    centre, wanted_centre = weight @ joints, weight @ observed.xyz
    covariance = matmul(((joints - centre) * weight[:, None]).T, observed.xyz - wanted_centre)
    u, _, vt = jnp.linalg.svd(covariance)
    proper = jnp.array([1.0, 1.0, 0.0]) + jnp.array([0.0, 0.0, 1.0]) * jnp.linalg.det(u @ vt)
    rotation = matmul(vt.T * proper.astype(joints.dtype), u.T)
    wrist = joints[0]  # the root turns about its rest position
    translation = wanted_centre - matmul(rotation, centre - wrist) - wrist
    return parameters._replace(rotation=rotation, translation=translation)


def _guessed(model: Model, observed: Observed, rotation: jax.Array) -> Parameters:
    """The mean hand, turned as told, where its centre and size match the 2D points."""
    parameters, joints = _mean_hand(model)
    turned = matmul(joints - joints[0], rotation.T) + joints[0]
    weight = observed.px_weight / jnp.maximum(jnp.sum(observed.px_weight), 1e-6)
    centre, centre_px = weight @ turned, weight @ observed.px
    size = jnp.sqrt(weight @ jnp.sum((turned - centre)[:, :2] ** 2, axis=-1))
    size_px = jnp.sqrt(weight @ jnp.sum((observed.px - centre_px) ** 2, axis=-1))
    camera = observed.camera
    focal = jnp.sqrt(jnp.abs(jnp.linalg.det(camera[:2, :2])))
    depth = jnp.clip(focal * size / jnp.maximum(size_px, 1e-3), 0.1, 50)
    ray = jnp.linalg.solve(camera[:2, :2], centre_px - camera[:2, 2])
    place = depth * jnp.concatenate([ray, jnp.ones(1, ray.dtype)])
    return parameters._replace(rotation=rotation, translation=place - centre)


def _mean_distance(found: jax.Array, wanted: jax.Array, weight: jax.Array) -> jax.Array:
    distance = jnp.linalg.norm(found - wanted, axis=-1)
    valid = weight > 0
    return jnp.sum(jnp.where(valid, distance, 0)) / jnp.sum(valid)


def _fit_one(model: Model, observed: Observed, tuning: FitTuning) -> Fit:
    if observed.xyz is not None:
        start = _aligned(model, observed)
    else:
        directions = jnp.asarray(_DIRECTIONS, model.mean.dtype)
        starts = jax.vmap(lambda r: _guessed(model, observed, r))(directions)
        tries = jax.vmap(lambda s: _improve(model, observed, s, tuning, 8))
        improved, costs = tries(starts)
        start = jax.tree.map(lambda leaf: leaf[jnp.nanargmin(costs)], improved)
    found, _ = _improve(model, observed, start, tuning, tuning.iterations)
    _, joints = terms_of.points_and_joints(model, found)
    error_mm = error_px = jnp.full((), jnp.nan, joints.dtype)
    if observed.xyz is not None:
        error_mm = 1000 * _mean_distance(joints, observed.xyz, observed.xyz_weight)
    if observed.px is not None:
        px = terms_of.project(observed.camera, joints)
        error_px = _mean_distance(px, observed.px, observed.px_weight)
    pose = terms_of.finger_pose(model, found.coefficients)
    return Fit(found.rotation, pose, found.betas, found.translation, joints, error_mm, error_px)


@functools.partial(jax.jit, static_argnums=2)
def _fit_batch(model: Model, observed: Observed, tuning: FitTuning) -> Fit:
    return jax.vmap(lambda one: _fit_one(model, one, tuning))(observed)


def _model(hand: Hand, tuning: FitTuning, with_mask: bool, dtype: np.dtype) -> Model:
    if not 1 <= tuning.components <= constants.POSE_COMPONENTS:
        raise HandError(
            f"components is {tuning.components}; wanted 1 to {constants.POSE_COMPONENTS}"
        )
    points = np.asarray(resolve_tips(hand, tuning.tips))
    if with_mask:
        points = np.concatenate([points, fitting_mask.POINTS])
    components = hand.hands_components[: tuning.components]
    model = Model(some_points(blend_arrays(hand), points), hand.hands_mean, components)
    return jax.tree.map(lambda leaf: np.asarray(leaf, dtype), model)


def _in_chunks(model: Model, observed: Observed, tuning: FitTuning) -> Fit:
    """Runs the program on equal chunks, so that it compiles once; the last one is filled up."""
    count = len(jax.tree.leaves(observed)[0])
    chunk = next((size for size in _CHUNKS if count <= size), _CHUNKS[-1])
    results = []
    for start in range(0, count, chunk):
        rows = np.minimum(np.arange(start, start + chunk), count - 1)
        part = jax.tree.map(lambda leaf, rows=rows: leaf[rows], observed)
        results.append(jax.tree.map(np.asarray, _fit_batch(model, part, tuning)))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *results)


def fit(
    hand: Hand,
    joints_xyz: np.ndarray | None = None,
    joint_valid: np.ndarray | None = None,
    *,
    joints_px: np.ndarray | None = None,
    px_valid: np.ndarray | None = None,
    camera: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    tuning: FitTuning = FitTuning(),  # noqa: B008 (immutable)
) -> Fit:
    """Finds pose, shape and translation for annotated joints, 2D points or both.

    Args:
      hand: the hand model, left or right.
      joints_xyz: (..., 21, 3) metres, camera axes if a camera is given.
      joint_valid: (..., 21) which of them count; None takes the finite ones.
      joints_px: (..., 21, 2) the joints' places in the image, pixels. Alone, they leave depth and
        size to the mean hand's size.
      px_valid: (..., 21) which of those count; None takes the finite ones (and, without
        joints_xyz, `joint_valid`).
      camera: (..., 3, 3) intrinsics, pixels.
      mask: (..., height, width) bool, the hand's visible pixels: the fitted hand is pulled to lie
        inside and to cover them, gently (see `FitTuning.mask_weight`).
      tuning: weights, limits, and the convention of the annotated tips.

    Returns:
      The fit, with each hand's error for the caller to judge.

    Raises:
      HandError: when an input is not as described.
    """
    if hand.side not in constants.SIDES:
        raise HandError("a stacked pair cannot be fitted; wanted pair.left or pair.right")
    given = [value for value in (joints_xyz, joints_px) if value is not None]
    wide = jax.config.jax_enable_x64 and any(np.asarray(v).dtype == np.float64 for v in given)
    dtype = np.dtype(np.float64 if wide else np.float32)
    observed, batch = observed_arrays(
        joints_xyz, joint_valid, joints_px, px_valid, camera, mask, dtype
    )
    model = _model(hand, tuning, mask is not None, dtype)
    if 0 in batch:
        observed = jax.tree.map(lambda leaf: np.zeros((1, *leaf.shape[1:]), dtype), observed)
    flat = _in_chunks(model, observed, tuning)
    if 0 in batch:
        flat = jax.tree.map(lambda leaf: leaf[:0], flat)
    return jax.tree.map(lambda leaf: leaf.reshape((*batch, *leaf.shape[1:])), flat)
