"""Joints as a mesh, so that predictions without meshes can be looked at in space too."""

from __future__ import annotations

import numpy as np

from mano_jax.constants import BONES

THICKNESS = 0.0045
"""Metres from a bone's axis to its edges."""

_SPINDLE = np.array([(end, 2 + i, 2 + (i + 1) % 4) for i in range(4) for end in (0, 1)])
_SPINDLE[0::2] = _SPINDLE[0::2, [0, 2, 1]]  # outwards at both ends

SKELETON_FACES = np.concatenate([_SPINDLE + 6 * bone for bone in range(len(BONES))])
"""(160, 3) triangles of every skeleton."""


def skeleton_mesh(joints_xyz: np.ndarray) -> np.ndarray:
    """A spindle with four edges for each of a hand's 20 bones.

    Args:
      joints_xyz: (..., 21, 3) metres.

    Returns:
      (..., 120, 3) vertices.
    """
    joints_xyz = np.asarray(joints_xyz, np.float64)
    start, end = (joints_xyz[..., [bone[i] for bone in BONES], :] for i in range(2))
    along = end - start
    along = along / np.maximum(np.linalg.norm(along, axis=-1, keepdims=True), 1e-9)
    # Any direction that is not along the bone will do to find the two across it.
    helper = np.where(np.abs(along[..., :1]) < 0.7, np.array([1.0, 0, 0]), np.array([0.0, 1, 0]))
    across = np.cross(along, helper)
    across = across / np.maximum(np.linalg.norm(across, axis=-1, keepdims=True), 1e-9)
    other = np.cross(along, across)
    waist = start + 0.25 * (end - start)
    corners = [waist + THICKNESS * side for side in (across, other, -across, -other)]
    mesh = np.stack([start, end, *corners], axis=-2)
    return mesh.reshape(*joints_xyz.shape[:-2], -1, 3)
