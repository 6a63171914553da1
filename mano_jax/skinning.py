"""MANO's forward function: pose and shape to vertices and joints (Romero et al. 2017, eq. 1-5).

Arrays are laid out for speed: directions and coordinates come before points, so that the two large
matrix products and the skinning run over long contiguous rows, and the fingers, which are equal in
the kinematic tree, are followed together.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mano_jax import constants
from mano_jax.hand import Hand, HandError
from mano_jax.rotations import matrix_from_axis_angle, matrix_from_axis_angle_manopth

Array = jax.Array | np.ndarray
Tips = str | np.ndarray | jax.Array | tuple[int, ...]

ROTATIONS = {"exact": matrix_from_axis_angle, "manopth": matrix_from_axis_angle_manopth}
"""Forms of the finger joints' rotations that `pose_hand` can use."""

_CPU_CHUNK = 128
"""Hands a CPU skins at once: what they need in between stays in its cache. A GPU takes all."""


class BlendArrays(NamedTuple):
    """What skinning needs of a hand, for V of its vertices.

    Attributes:
      template: (3, V) metres.
      directions: (145, 3 V) metres; shape directions, then pose correctives.
      weights: (16, V) skinning weights.
      joint_template: (16, 3) metres, the joints' rest position.
      joint_directions: (10, 48) metres, how shape moves them.
    """

    template: Array
    directions: Array
    weights: Array
    joint_template: Array
    joint_directions: Array


_of_loaded_hands: weakref.WeakKeyDictionary[Hand, BlendArrays] = weakref.WeakKeyDictionary()


def _rearrange(hand: Hand, xp) -> BlendArrays:
    directions = xp.concatenate([hand.shapedirs, hand.posedirs], axis=-1)
    shapes = hand.shapedirs.reshape(constants.VERTICES, -1)
    joint_directions = (hand.J_regressor @ shapes).reshape(-1, constants.BETAS)
    return BlendArrays(
        template=hand.v_template.T,
        directions=directions.transpose(2, 1, 0).reshape(-1, 3 * constants.VERTICES),
        weights=hand.lbs_weights.T,
        joint_template=hand.J_regressor @ hand.v_template,
        joint_directions=joint_directions.T,
    )


def blend_arrays(hand: Hand) -> BlendArrays:
    """The arrays of a whole hand; for a loaded (not traced) hand computed once, in float64."""
    if not isinstance(hand.v_template, np.ndarray):
        return _rearrange(hand, jnp)
    if hand not in _of_loaded_hands:
        _of_loaded_hands[hand] = _rearrange(hand, np)
    return _of_loaded_hands[hand]


def some_points(arrays: BlendArrays, vertices: np.ndarray) -> BlendArrays:
    """The same for some vertices only.

    Args:
      arrays: of a whole hand.
      vertices: (V,) vertex numbers.
    """
    directions = arrays.directions.reshape(-1, 3, constants.VERTICES)[..., vertices]
    return arrays._replace(
        template=arrays.template[:, vertices],
        directions=directions.reshape(-1, 3 * len(vertices)),
        weights=arrays.weights[:, vertices],
    )


def matmul(a: Array, b: Array) -> jax.Array:
    """Matrix product in full precision.

    On a GPU the default may be TF32, whose ten bits would move vertices by a tenth of a millimetre.
    """
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def rest_positions(arrays: BlendArrays, betas: jax.Array) -> jax.Array:
    """Joints of shaped hands at rest, (..., 10) to (..., 16, 3)."""
    offsets = matmul(betas, jnp.asarray(arrays.joint_directions, betas.dtype))
    offsets = offsets.reshape(*betas.shape[:-1], constants.MANO_JOINTS, 3)
    return jnp.asarray(arrays.joint_template, betas.dtype) + offsets


def _kinematics(rotations: jax.Array, rest: jax.Array) -> tuple[jax.Array, jax.Array]:
    """World rotations (B, 16, 3, 3) and positions (B, 16, 3) along the tree, fingers together."""
    batch, fingers, levels = rotations.shape[0], 5, 3
    wrist_rotation, wrist_position = rotations[:, :1], rest[:, :1]
    parent_rotation, parent_position, parent_rest = wrist_rotation, wrist_position, wrist_position
    rotations = rotations[:, 1:].reshape(batch, fingers, levels, 3, 3)
    rest = rest[:, 1:].reshape(batch, fingers, levels, 3)
    world_rotations, world_positions = [], []
    for level in range(levels):
        rest_here = rest[:, :, level]
        bone = (rest_here - parent_rest)[..., None]
        parent_position = parent_position + matmul(parent_rotation, bone)[..., 0]
        parent_rotation = matmul(parent_rotation, rotations[:, :, level])
        parent_rest = rest_here
        world_rotations.append(parent_rotation)
        world_positions.append(parent_position)
    turned = jnp.stack(world_rotations, axis=2).reshape(batch, fingers * levels, 3, 3)
    moved = jnp.stack(world_positions, axis=2).reshape(batch, fingers * levels, 3)
    return jnp.concatenate([wrist_rotation, turned], 1), jnp.concatenate([wrist_position, moved], 1)


def skin(
    arrays: BlendArrays, rotations: jax.Array, betas: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Posed points and joints.

    Args:
      arrays: of V points.
      rotations: (B, 16, 3, 3), the root's and the finger joints'.
      betas: (B, 10) shape coefficients.

    Returns:
      points (B, V, 3) and MANO's joints (B, 16, 3), metres.
    """
    arrays = BlendArrays(*(jnp.asarray(array, betas.dtype) for array in arrays))
    whole = functools.partial(_skin, arrays)
    batch = betas.shape[0]
    if not isinstance(batch, int) or batch <= _CPU_CHUNK:  # an exported program's batch is a symbol
        return whole(rotations, betas)
    return jax.lax.platform_dependent(
        rotations, betas, cpu=functools.partial(_in_chunks, whole), default=whole
    )


def _in_chunks(function: Callable, *inputs: jax.Array) -> tuple[jax.Array, ...]:
    """Applies `function` to at most `_CPU_CHUNK` hands at a time, again for the gradient."""
    batch = inputs[0].shape[0]
    chunks = -(-batch // _CPU_CHUNK)
    size = -(-batch // chunks)

    def split(x: jax.Array) -> jax.Array:
        padding = [(0, chunks * size - batch)] + [(0, 0)] * (x.ndim - 1)
        return jnp.pad(x, padding).reshape(chunks, size, *x.shape[1:])

    results = jax.lax.map(
        jax.checkpoint(lambda chunk: function(*chunk)), [split(x) for x in inputs]
    )
    return tuple(x.reshape(-1, *x.shape[2:])[:batch] for x in results)


def _skin(
    arrays: BlendArrays, rotations: jax.Array, betas: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """`skin` for any number of hands at once."""
    dtype, batch = betas.dtype, betas.shape[0]
    correctives = rotations[:, 1:] - jnp.eye(3, dtype=dtype)
    correctives = correctives.reshape(batch, constants.POSE_CORRECTIVES)
    offsets = matmul(jnp.concatenate([betas, correctives], axis=-1), arrays.directions)
    shaped = arrays.template + offsets.reshape(batch, *arrays.template.shape)

    rest = rest_positions(arrays, betas)
    world_rotations, joints = _kinematics(rotations, rest)
    translations = joints - matmul(world_rotations, rest[..., None])[..., 0]
    transforms = jnp.concatenate([world_rotations, translations[..., None]], axis=-1)
    transforms = transforms.transpose(0, 2, 3, 1).reshape(-1, constants.MANO_JOINTS)
    blended = matmul(transforms, arrays.weights).reshape(batch, 12, arrays.weights.shape[1])
    shaped = jnp.concatenate([shaped, jnp.ones_like(shaped[:, :1])], axis=1)
    # Sums written out: XLA's CPU loops over these short axes are forty times slower, also the
    # gradient's over the three coordinates.
    coordinates = []
    for row in jax.lax.split(blended, (4, 4, 4), axis=1):
        terms = jax.lax.split(row * shaped, (1, 1, 1, 1), axis=1)
        coordinates.append(terms[0] + terms[1] + terms[2] + terms[3])
    return jnp.concatenate(coordinates, axis=1).transpose(0, 2, 1), joints


class HandMesh(NamedTuple):
    """Posed hands.

    Attributes:
      vertices: (..., 778, 3) metres.
      joints: (..., 21, 3) metres; wrist, then four each of thumb, index, middle, ring, pinky.
    """

    vertices: jax.Array
    joints: jax.Array


def tip_indices(side: str, tips: str) -> np.ndarray:
    """Vertex numbers of thumb, index, middle, ring and pinky tips.

    Args:
      side: "left", "right" or "both".
      tips: name of the convention, a key of `constants.TIPS`.

    Returns:
      (5,) int32, or (2, 5) (left, right) for "both".

    Raises:
      HandError: for a convention or side that does not exist.
    """
    if tips not in constants.TIPS:
        raise HandError(f"tips is {tips!r}; wanted one of {', '.join(constants.TIPS)}")
    if side == "both":
        return np.array([constants.TIPS[tips][s] for s in constants.SIDES], np.int32)
    if side not in constants.SIDES:
        raise HandError(f"side is {side!r}; wanted left, right or both")
    return np.array(constants.TIPS[tips][side], np.int32)


def resolve_tips(hand: Hand, tips: Tips) -> jax.Array | np.ndarray:
    """Vertex numbers (5,) of a convention, or those given."""
    if not isinstance(tips, str):
        return jnp.asarray(tips, jnp.int32)
    if hand.side == "both":
        raise HandError(
            f"tips is {tips!r} with a stacked pair; give vertex numbers of each hand instead: "
            "tip_indices('both', name)"
        )
    return tip_indices(hand.side, tips)


def rest_joints(hand: Hand, betas: Array) -> jax.Array:
    """MANO's 16 joints of the shaped hand in its rest pose, MANO's order.

    Args:
      hand: the hand model.
      betas: (..., 10) shape coefficients.

    Returns:
      (..., 16, 3) metres.
    """
    return rest_positions(blend_arrays(hand), jnp.asarray(betas))


def order_joints(joints: jax.Array, tips: jax.Array) -> jax.Array:
    """MANO's (..., 16, 3) joints and (..., 5, 3) tips as (..., 21, 3) in our order."""
    return jnp.concatenate([joints, tips], axis=-2)[..., np.array(constants.JOINT_ORDER), :]


def pose_hand(
    hand: Hand,
    global_orient: Array,
    hand_pose: Array,
    betas: Array,
    transl: Array | None = None,
    *,
    root_joint: int | None = None,
    tips: Tips = "manopth",
    rotations: str = "exact",
) -> HandMesh:
    """Poses and shapes hands by linear blend skinning.

    Works in the floating dtype of its inputs, under `jit`, `grad` and `vmap` (also over the
    leading axis of `HandPair.stacked()`).

    Args:
      hand: the hand model.
      global_orient: (..., 3, 3) rotation about the wrist's rest position.
      hand_pose: (..., 15, 3) axis-angle of the finger joints in MANO's order, radians, with
        `hands_mean` included (see `pca_to_axis_angle`).
      betas: (..., 10) shape coefficients.
      transl: (..., 3) metres, added last.
      root_joint: joint of the 21 that is moved to the origin before `transl` is added (0 wrist,
        9 middle knuckle); None leaves MANO's own origin.
      tips: convention of the five tip vertices (`constants.TIPS`), or five vertex numbers.
      rotations: "exact", or "manopth" for the reference's approximate finger rotations.

    Returns:
      vertices (..., 778, 3) and joints (..., 21, 3), metres. Batch dimensions broadcast.

    Raises:
      HandError: when a shape, `root_joint`, `tips` or `rotations` is not as described.
    """
    tip_vertices = resolve_tips(hand, tips)
    if root_joint is not None and not 0 <= root_joint < constants.JOINTS:
        raise HandError(f"root_joint is {root_joint}; wanted None or 0 to {constants.JOINTS - 1}")
    if rotations not in ROTATIONS:
        raise HandError(f"rotations is {rotations!r}; wanted one of {', '.join(ROTATIONS)}")
    arrays: dict[str, tuple[Any, tuple[int, ...]]]
    arrays = {"global_orient": (global_orient, (3, 3)), "hand_pose": (hand_pose, (15, 3))}
    arrays |= {"betas": (betas, (constants.BETAS,))}
    if transl is not None:
        arrays |= {"transl": (transl, (3,))}
    batch, values = _broadcast(arrays)
    vertices, joints = _posed(blend_arrays(hand), values, tip_vertices, root_joint, rotations)
    return HandMesh(
        vertices.reshape(*batch, constants.VERTICES, 3), joints.reshape(*batch, constants.JOINTS, 3)
    )


@functools.partial(jax.jit, static_argnums=(3, 4), inline=True)
def _posed(
    arrays: BlendArrays,
    values: dict[str, jax.Array],
    tip_vertices: jax.Array,
    root_joint: int | None,
    rotations: str,
) -> HandMesh:
    """`pose_hand` for checked inputs with one batch dimension; one program when not within one."""
    finger_rotations = ROTATIONS[rotations](values["hand_pose"])
    matrices = jnp.concatenate([values["global_orient"][:, None], finger_rotations], axis=1)
    vertices, joints = skin(arrays, matrices, values["betas"])
    joints = order_joints(joints, vertices[:, tip_vertices])
    move = 0 if root_joint is None else -joints[:, root_joint, None]
    if "transl" in values:
        move = move + values["transl"][:, None]
    return HandMesh(vertices + move, joints + move)


def _broadcast(arrays: dict) -> tuple[tuple[int, ...], dict[str, jax.Array]]:
    """Checks trailing shapes, brings all to one dtype and to one flat batch dimension."""
    values = {name: jnp.asarray(value) for name, (value, _) in arrays.items()}
    for name, (_, wanted) in arrays.items():
        shape = values[name].shape
        if shape[len(shape) - len(wanted) :] != wanted:
            wanted_text = ", ".join(["...", *map(str, wanted)])
            raise HandError(f"{name} has shape {shape}; wanted ({wanted_text})")
    batches = {n: v.shape[: v.ndim - len(arrays[n][1])] for n, v in values.items()}
    try:
        batch = jnp.broadcast_shapes(*batches.values())
    except ValueError:
        raise HandError(f"batch shapes do not fit together: {batches}") from None
    dtype = jnp.result_type(*values.values(), jnp.bfloat16)
    if dtype in (jnp.bfloat16, jnp.float16):
        dtype = jnp.dtype(jnp.float32)  # half precision would cost millimetres
    flat = {}
    for name, value in values.items():
        wanted = arrays[name][1]
        flat[name] = jnp.broadcast_to(value.astype(dtype), (*batch, *wanted)).reshape(-1, *wanted)
    return batch, flat


def joints_from_vertices(hand: Hand, vertices: Array, tips: Tips = "intaghand") -> jax.Array:
    """Evaluation's joints: MANO's regressor applied to the posed vertices, and five tips.

    They differ from `pose_hand`'s joints by millimetres, since skinning bends the mesh that the
    regressor averages. DIR and IntagHand measure with these.

    Args:
      hand: the hand model.
      vertices: (..., 778, 3) posed.
      tips: convention of the five tip vertices, or five vertex numbers.

    Returns:
      (..., 21, 3) in the vertices' unit.
    """
    vertices = jnp.asarray(vertices)
    tip_vertices = resolve_tips(hand, tips)
    joints = matmul(jnp.asarray(hand.J_regressor, vertices.dtype), vertices)
    return order_joints(joints, vertices[..., tip_vertices, :])


def pca_to_axis_angle(hand: Hand, coefficients: Array) -> jax.Array:
    """Finger pose from principal components: hands_mean + coefficients @ hands_components.

    Args:
      hand: the hand model.
      coefficients: (..., n), n at most 45.

    Returns:
      (..., 15, 3) axis-angle, the mean included.
    """
    coefficients = jnp.asarray(coefficients)
    dtype, count = coefficients.dtype, coefficients.shape[-1]
    if count > constants.POSE_COMPONENTS:
        raise HandError(f"{count} pose coefficients; wanted at most {constants.POSE_COMPONENTS}")
    components = jnp.asarray(hand.hands_components, dtype)[:count]
    pose = jnp.asarray(hand.hands_mean, dtype) + matmul(coefficients, components)
    return pose.reshape(*coefficients.shape[:-1], 15, 3)


def axis_angle_to_pca(
    hand: Hand, hand_pose: Array, components: int = constants.POSE_COMPONENTS
) -> jax.Array:
    """Principal components of a finger pose, the inverse of `pca_to_axis_angle`.

    Args:
      hand: the hand model.
      hand_pose: (..., 15, 3) axis-angle, the mean included.
      components: how many; with fewer than 45, the least-squares coefficients.

    Returns:
      (..., components).
    """
    hand_pose = jnp.asarray(hand_pose)
    flat = hand_pose.reshape(*hand_pose.shape[:-2], constants.POSE_COMPONENTS)
    flat = flat - jnp.asarray(hand.hands_mean, flat.dtype)
    if isinstance(hand.hands_components, np.ndarray):
        inverse = np.linalg.pinv(hand.hands_components[:components])  # in float64, at trace time
    else:
        inverse = jnp.linalg.pinv(hand.hands_components[:components])
    return matmul(flat, jnp.asarray(inverse, flat.dtype))
