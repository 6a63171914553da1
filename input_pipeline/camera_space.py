"""Annotated MANO parameters (world axes) to the camera's axes, and the vertices they make.

With J0 the wrist of the shaped rest hand, MANO rotates about J0 and then translates, so a camera
with X_cam = R X + t sees the same hand under
    global_orient = R R_g,    transl = R (J0 + transl) + t - J0.
"""

from __future__ import annotations

import dataclasses

import cv2
import jax
import numpy as np

from input_pipeline.sources.frames import Frame, HandFit
from mano_jax import HandPair, pca_to_axis_angle, pose_hand, rest_joints
from mano_jax.constants import BETAS, POSE_COMPONENTS, SIDES

# One compiled program serves every batch: the last is filled up.
_BATCH = 256
_NO_HAND = HandFit(np.eye(3), np.zeros(POSE_COMPONENTS), np.zeros(BETAS), np.zeros(3))


@dataclasses.dataclass(frozen=True, eq=False)
class CameraHands:
    """Hands of n frames in camera axes; left, right; parameters are zero where not known.

    Attributes:
      global_orient: (n, 2, 3) axis-angle.
      hand_pose: (n, 2, 45) axis-angle, hands_mean included.
      betas: (n, 2, 10).
      transl: (n, 2, 3) metres.
      valid: (n, 2) bool.
      vertices_xyz: (n, 2, 778, 3) metres.
    """

    global_orient: np.ndarray
    hand_pose: np.ndarray
    betas: np.ndarray
    transl: np.ndarray
    valid: np.ndarray
    vertices_xyz: np.ndarray


def hands_in_camera(frames: list[Frame], hands: HandPair) -> CameraHands:
    """Brings the frames' MANO parameters into their cameras' axes, in float64.

    Args:
      frames: frames with a camera.
      hands: the hand models the parameters were made for.
    """
    sides = [_one_side(frames, i, hands[side]) for i, side in enumerate(SIDES)]
    return CameraHands(*(np.stack(parts, axis=1) for parts in zip(*sides, strict=True)))


def _one_side(frames: list[Frame], side: int, hand) -> tuple[np.ndarray, ...]:
    valid = np.array([frame.fits[side] is not None for frame in frames], bool)
    known = [frame.fits[side] or _NO_HAND for frame in frames]
    camera_rotation = np.stack([frame.camera.rotation for frame in frames])
    camera_transl = np.stack([frame.camera.translation for frame in frames])
    rotation = camera_rotation @ np.stack([fit.rotation for fit in known])
    # A fit's root may come in float32 or slightly off a rotation: Rodrigues takes the nearest one.
    orient = np.stack([cv2.Rodrigues(matrix)[0][:, 0] for matrix in rotation])
    rotation = np.stack([cv2.Rodrigues(vector)[0] for vector in orient])
    pose = np.stack([fit.pose for fit in known]).astype(np.float64)
    pca = np.array([fit.pca for fit in known], bool)[:, None]
    betas = np.stack([fit.betas for fit in known]).astype(np.float64)
    transl = np.stack([fit.transl for fit in known])
    parts = []
    with jax.enable_x64(True):
        for start in range(0, len(frames), _BATCH):
            rows = np.minimum(np.arange(start, start + _BATCH), len(frames) - 1)
            from_pca = np.asarray(pca_to_axis_angle(hand, pose[rows])).reshape(_BATCH, -1)
            full = np.where(pca[rows], from_pca, pose[rows] + hand.hands_mean)
            wrist = np.asarray(rest_joints(hand, betas[rows]))[:, 0]
            moved = np.einsum("nij,nj->ni", camera_rotation[rows], transl[rows] + wrist)
            moved = moved + camera_transl[rows] - wrist
            vertices = np.asarray(_vertices(hand, rotation[rows], full, betas[rows], moved))
            parts.append((full, moved, vertices))
    pose, transl, vertices = (
        np.concatenate(part)[: len(frames)] for part in zip(*parts, strict=True)
    )
    values = (np.where(valid[:, None], value, 0.0) for value in (orient, pose, betas, transl))
    return (*values, valid, vertices)


@jax.jit
def _vertices(hand, rotation, pose, betas, transl):
    return pose_hand(hand, rotation, pose.reshape(-1, 15, 3), betas, transl).vertices
