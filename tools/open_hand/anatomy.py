"""How the joints of the open right hand move: axes, ranges, positions of pads and bones."""

from __future__ import annotations

import numpy as np

from tools.open_hand.rig import bone_directions, rotation, transforms, unit

FINGER_BASES = {"index": 1, "middle": 4, "pinky": 7, "ring": 10, "thumb": 13}
UP = np.array([0.0, 1.0, 0.0])  # out of the back of the hand
ACROSS = np.array([0.0, 0.0, 1.0])  # towards the thumb's side

# Ranges in degrees of (flexion, deviation, twist). Deviation of the fingers is positive towards
# the thumb; the thumb's first joint flexes across the palm, deviates out of the palm's plane
# (palmar abduction) and twists its pad towards the fingers.
FINGER_RANGES = (
    ((-20, 88), (-16, 16), (-6, 6)),
    ((-4, 100), (-3, 3), (-3, 3)),
    ((-8, 65), (-2, 2), (-2, 2)),
)
THUMB_RANGES = (
    ((-20, 45), (-20, 32), (-15, 45)),
    ((-10, 55), (-8, 8), (-8, 8)),
    ((-20, 75), (-3, 3), (-3, 3)),
)


def joint_ranges() -> np.ndarray:
    """(16, 3, 2) lowest and highest flexion, deviation and twist in degrees; wrist zero."""
    return np.array([((0, 0),) * 3, *(FINGER_RANGES * 4), *THUMB_RANGES], float)


def joint_axes(vertices: np.ndarray, weights: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Unit axes (16, 3, 3): for each joint those of flexion, deviation and twist.

    Args:
      vertices: (N, 3) template.
      weights: (N, 16).
      joints: (21, 3): the 16 joints and the five ends.
    """
    directions = bone_directions(joints)
    axes = np.empty((16, 3, 3))
    for j in range(16):
        axes[j] = np.cross(directions[j], -UP), UP, directions[j]
    nail = thumb_nail(vertices, weights, joints)
    for j in (14, 15):
        flexion = unit(np.cross(nail, directions[j]))
        axes[j] = flexion, np.cross(directions[j], flexion), directions[j]
    first = directions[13]
    axes[13] = np.cross(first, -ACROSS), np.cross(first, -UP), -first
    return unit(axes)


def thumb_nail(vertices: np.ndarray, weights: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Direction (3,) out of the thumb's nail: across the bone, where the thumb is thinnest."""
    direction = bone_directions(joints)[15]
    end = vertices[weights[:, 15] > 0.9] - joints[15]
    end = end[end @ direction > 0.3 * np.linalg.norm(joints[20] - joints[15])]
    end = end - (end @ direction)[:, None] * direction
    end = end - end.mean(0)
    thinnest = np.linalg.svd(end)[2][1]
    return thinnest * np.sign(thinnest @ (UP - 0.5 * np.array([1.0, 0, 0])))


def joint_rotations(axes: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """Rotations (..., 16, 3, 3) of angles (..., 16, 3): twist first, then flexion, deviation."""
    radians = np.deg2rad(degrees)
    flexion, deviation, twist = (rotation(radians[..., k, None] * axes[:, k]) for k in range(3))
    return deviation @ flexion @ twist


def posed_bones(joints: np.ndarray, rotations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Posed (21, 3) joints and ends, and the joints' global rotations (16, 3, 3)."""
    turns, shifts = transforms(joints[:16], rotations)
    owners = [*range(16), 3, 6, 9, 12, 15]
    return np.einsum("jab,jb->ja", turns[owners], joints) + shifts[owners], turns
