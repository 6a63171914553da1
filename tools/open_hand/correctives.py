"""Pose correctives: keep bent joints from collapsing as linear blending would let them.

For each joint the wanted surface is the one of dual quaternion blending (Kavan et al. 2008), which
for a single joint turns every vertex about the joint by its share of the angle and so keeps its
distance. The difference, taken back to the rest pose, is regressed on R - I over the joint's range.
"""

from __future__ import annotations

import numpy as np

from mano_jax.constants import PARENTS
from tools.open_hand.anatomy import joint_axes, joint_ranges
from tools.open_hand.rig import rotation

SAMPLES = 160
STRENGTH = 0.9
RIDGE = 1e-2


def pose_correctives(vertices: np.ndarray, weights: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Correctives (778, 3, 135), zero at rest, for the right hand.

    Args:
      vertices: (778, 3) template.
      weights: (778, 16).
      joints: (21, 3): the 16 joints and the five ends.
    """
    generator = np.random.RandomState(7)
    axes, ranges = joint_axes(vertices, weights, joints), joint_ranges()
    out = np.zeros((len(vertices), 3, 15, 9))
    for j in range(1, 16):
        low, high = np.deg2rad(ranges[j]).T
        angles = low + (high - low) * generator.uniform(size=(SAMPLES, 3))
        turns = rotation(angles[:, :1] * axes[j, 0])
        turns = rotation(angles[:, 1:2] * axes[j, 1]) @ turns @ rotation(angles[:, 2:] * axes[j, 2])
        share = weights[:, _subtree(j)].sum(1)
        moving = (share > 1e-3) & (share < 1 - 1e-3)
        wanted = _wanted(vertices[moving] - joints[j], share[moving], turns)
        features = (turns - np.eye(3)).reshape(SAMPLES, 9)
        gram = features.T @ features + RIDGE * SAMPLES * np.eye(9)
        solution = np.linalg.solve(gram, features.T @ wanted.reshape(SAMPLES, -1))
        out[moving, :, j - 1] = np.moveaxis(solution.reshape(9, -1, 3), 0, -1)
    return STRENGTH * out.reshape(len(vertices), 3, 135)


def _subtree(joint: int) -> list[int]:
    found = [joint]
    for k in range(joint + 1, 16):
        if PARENTS[k] in found:
            found.append(k)
    return found


def _wanted(offset: np.ndarray, share: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Rest-pose corrections (S, N, 3) for offsets (N, 3) from the joint, shares (N,), turns."""
    from scipy.spatial.transform import Rotation

    quaternions = Rotation.from_matrix(turns).as_quat()
    quaternions *= np.where(quaternions[:, 3:] < 0, -1, 1)
    still = np.array([0.0, 0.0, 0.0, 1.0])
    blended = (1 - share)[None, :, None] * still + share[None, :, None] * quaternions[:, None]
    partial = Rotation.from_quat(blended.reshape(-1, 4)).as_matrix()
    partial = partial.reshape(len(turns), len(offset), 3, 3)
    linear = (1 - share)[None, :, None, None] * np.eye(3) + share[None, :, None, None] * turns[
        :, None
    ]
    gap = np.einsum("snab,nb->sna", partial - linear, offset)
    return np.linalg.solve(linear, gap[..., None])[..., 0]
