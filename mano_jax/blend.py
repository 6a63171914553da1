"""Linear blend skinning of any set of a hand's points (Romero et al. 2017, eq. 1-5).

Arrays are laid out for speed: directions and coordinates come before points, so that the two large
matrix products and the skinning run over long contiguous rows, and the fingers, which are equal in
the kinematic tree, are followed together.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mano_jax import constants
from mano_jax.hand import Hand

Array = jax.Array | np.ndarray

_FINGER_BASES = np.array([1, 4, 7, 10, 13])
"""First joints of the five fingers; the next two of each follow directly."""

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
    root = rotations[:, :1]
    world_rotations, world_positions = [root], [rest[:, :1]]
    parent_rotation, parent_position, parent_rest = root, rest[:, :1], rest[:, :1]
    for level in range(3):
        joints = _FINGER_BASES + level
        rest_here = rest[:, joints]
        bone = (rest_here - parent_rest)[..., None]
        parent_position = parent_position + matmul(parent_rotation, bone)[..., 0]
        parent_rotation = matmul(parent_rotation, rotations[:, joints])
        parent_rest = rest_here
        world_rotations.append(parent_rotation)
        world_positions.append(parent_position)
    # Levels come as wrist, five bases, five middles, five ends: back to MANO's order.
    order = np.array([0, *(1 + finger + 5 * level for finger in range(5) for level in range(3))])
    rotations = jnp.concatenate(world_rotations, axis=1)[:, order]
    return rotations, jnp.concatenate(world_positions, axis=1)[:, order]


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
    blended = matmul(transforms, arrays.weights).reshape(batch, 3, 4, arrays.weights.shape[1])
    shaped = jnp.concatenate([shaped, jnp.ones_like(shaped[:, :1])], axis=1)
    # Four terms written out: XLA's CPU loop for a sum over this axis is forty times slower.
    terms = jax.lax.split(blended * shaped[:, None], (1, 1, 1, 1), axis=2)
    points = (terms[0] + terms[1] + terms[2] + terms[3])[:, :, 0]
    return points.transpose(0, 2, 1), joints
