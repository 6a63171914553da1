"""Small numpy kinematics for building the open hand: rotations, skinning, straightening."""

from __future__ import annotations

import numpy as np

from mano_jax.constants import PARENTS

# Where the straightened fingers of the right hand point: degrees from -x towards the thumb (+z).
SPREAD_DEGREES = {"index": 6.0, "middle": -2.0, "pinky": -19.0, "ring": -10.0}
DROOP = 0.03  # the fingers sink this much (sine) below the plane of the palm


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) scaled to length 1."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def rotation(axis_angle: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3) of axis-angle vectors (..., 3) (Rodrigues' formula)."""
    axis_angle = np.asarray(axis_angle, float)
    angle = np.linalg.norm(axis_angle, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(axis_angle, -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*x.shape, 3, 3)
    sine = np.sinc(angle / np.pi)
    cosine = 0.5 * np.sinc(angle / (2 * np.pi)) ** 2
    return np.eye(3) + sine * cross + cosine * cross @ cross


def rotation_between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The smallest rotation (3, 3) that takes direction `start` to direction `end`."""
    start, end = unit(start), unit(end)
    axis = np.cross(start, end)
    sine, cosine = np.linalg.norm(axis), start @ end
    return rotation(axis / max(sine, 1e-12) * np.arctan2(sine, cosine))


def axis_angle(matrices: np.ndarray) -> np.ndarray:
    """Axis-angle (..., 3) of rotation matrices (..., 3, 3); angles below pi."""
    from scipy.spatial.transform import Rotation

    flat = Rotation.from_matrix(matrices.reshape(-1, 3, 3)).as_rotvec()
    return flat.reshape(*matrices.shape[:-2], 3)


def transforms(joints: np.ndarray, rotations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Global rotations (16, 3, 3) and translations (16, 3) taking rest space to posed space.

    Args:
      joints: (16, 3) rest joints.
      rotations: (16, 3, 3), each relative to its parent.
    """
    turns, shifts = np.empty((16, 3, 3)), np.empty((16, 3))
    for j, parent in enumerate(PARENTS):
        local_shift = joints[j] - rotations[j] @ joints[j]
        if parent < 0:
            turns[j], shifts[j] = rotations[j], local_shift
        else:
            turns[j] = turns[parent] @ rotations[j]
            shifts[j] = turns[parent] @ local_shift + shifts[parent]
    return turns, shifts


def skin(
    vertices: np.ndarray, weights: np.ndarray, turns: np.ndarray, shifts: np.ndarray
) -> np.ndarray:
    """Linear blend skinning: (N, 3) vertices by weights (N, 16) of rigid motions."""
    blended = np.einsum("nj,jab->nab", weights, turns)
    return np.einsum("nab,nb->na", blended, vertices) + weights @ shifts


def bone_directions(joints: np.ndarray) -> np.ndarray:
    """(16, 3) unit directions joint -> next joint along the finger (joint 0: towards joint 4).

    Args:
      joints: (21, 3), the 16 joints and the five ends (index, middle, pinky, ring, thumb).
    """
    ends = [4] + [k for f in range(5) for k in (3 * f + 2, 3 * f + 3, 16 + f)]
    return unit(joints[ends] - joints[:16])


def lengthen(
    vertices: np.ndarray, joints: np.ndarray, weights: np.ndarray, base: int, ratio: float
) -> tuple[np.ndarray, np.ndarray]:
    """Stretches one finger along its bones.

    Args:
      vertices: (N, 3).
      joints: (21, 3), the 16 joints and the five ends.
      weights: (N, 16).
      base: the finger's first joint.
      ratio: new length over old.

    Returns:
      vertices (N, 3), joints (21, 3).
    """
    directions, stretched = bone_directions(joints), joints.copy()
    shift, carried = np.zeros_like(vertices), np.zeros(3)
    for k, following in ((base, base + 1), (base + 1, base + 2), (base + 2, 16 + base // 3)):
        length = np.linalg.norm(joints[following] - joints[k])
        along = np.maximum((vertices - joints[k]) @ directions[k], 0)
        if following < 16:
            along = np.minimum(along, length)
        moved = carried + (ratio - 1) * along[:, None] * directions[k]
        shift += weights[:, k, None] * moved
        carried = carried + (ratio - 1) * length * directions[k]
        stretched[following] += carried
    return vertices + shift, stretched


def flatten(
    vertices: np.ndarray, joints: np.ndarray, weights: np.ndarray, reference: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Straightens the fingers into the flat template pose.

    Args:
      vertices: (N, 3).
      joints: (21, 3) wrist, then per finger base, second, third, end (index first, thumb last).
      weights: (N, 16).
      reference: (21, 3) joints in the same order; its thumb's directions are taken over.

    Returns:
      vertices (N, 3), joints (21, 3) as 16 joints followed by the five ends.
    """
    order = (
        [0] + [1 + 4 * f + k for f in range(5) for k in range(3)] + [4 + 4 * f for f in range(5)]
    )
    joints, reference = joints[order], reference[order]
    now, wanted = bone_directions(joints), bone_directions(reference)
    for finger, degrees in enumerate(SPREAD_DEGREES.values()):
        angle = np.deg2rad(degrees)
        wanted[1 + 3 * finger : 4 + 3 * finger] = unit(
            np.array([-np.cos(angle), -DROOP, np.sin(angle)])
        )
    turns = np.stack([np.eye(3)] + [rotation_between(now[j], wanted[j]) for j in range(1, 16)])
    placed = joints.copy()
    for j in range(1, 16):
        parent = PARENTS[j]
        placed[j] = placed[parent] + turns[parent] @ (joints[j] - joints[parent])
    for finger in range(5):
        last = 3 * finger + 3
        placed[16 + finger] = placed[last] + turns[last] @ (joints[16 + finger] - joints[last])
    shifts = placed[:16] - np.einsum("jab,jb->ja", turns, joints[:16])
    return skin(vertices, weights, turns, shifts), placed
