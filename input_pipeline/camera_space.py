"""Annotated MANO parameters (world axes) to the camera's axes, and the vertices they make.

With J0 the wrist of the shaped rest hand, MANO rotates about J0 and then translates, so a camera
with X_cam = R X + t sees the same hand under
    global_orient = R R_g,    transl = R (J0 + transl) + t - J0.
"""

from __future__ import annotations

import dataclasses
import functools

import cv2
import jax
import numpy as np

from input_pipeline.frames import Frame, HandFit
from mano_jax import HandPair, pca_to_axis_angle, pose_hand, rest_joints
from mano_jax.constants import BETAS, POSE_COMPONENTS, SIDES, VERTICES

# One compiled program serves every batch: the last is filled up.
_BATCH = 256
_NO_HAND = HandFit(np.eye(3), np.zeros(POSE_COMPONENTS), np.zeros(BETAS), np.zeros(3))


@dataclasses.dataclass(frozen=True, eq=False)
class CameraHands:
    """Hands of n frames in camera axes; left, right; zeros where a hand is not known.

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

    Returns:
      Arrays for all frames.
    """
    sides = [
        _one_side([frame.fits[i] for frame in frames], frames, hands[side])
        for i, side in enumerate(SIDES)
    ]
    return CameraHands(*(np.stack(parts, axis=1) for parts in zip(*sides, strict=True)))


def _one_side(fits: list[HandFit | None], frames: list[Frame], hand) -> tuple[np.ndarray, ...]:
    valid = np.array([fit is not None for fit in fits], bool)
    known = [fit or _NO_HAND for fit in fits]
    camera_rotation = np.stack([frame.camera.rotation for frame in frames])
    rotation = camera_rotation @ np.stack([fit.rotation for fit in known])
    # A fit's root may come in float32 or slightly off a rotation: Rodrigues takes the nearest one.
    orient = np.stack([cv2.Rodrigues(matrix)[0][:, 0] for matrix in rotation])
    rotation = np.stack([cv2.Rodrigues(vector)[0] for vector in orient])
    pose = np.stack([fit.pose for fit in known]).astype(np.float64)
    pca = np.array([fit.pca for fit in known], bool)
    betas = np.stack([fit.betas for fit in known]).astype(np.float64)
    pose, wrist = _batched(functools.partial(_pose_and_wrist, hand), len(fits), pose, pca, betas)
    world = np.stack([fit.transl for fit in known]) + wrist
    moved = np.einsum("nij,nj->ni", camera_rotation, world)
    transl = moved + np.stack([frame.camera.translation for frame in frames]) - wrist
    (vertices,) = _batched(
        functools.partial(_vertices, hand), len(fits), rotation, pose, betas, transl
    )
    values = (orient, pose, betas, transl)
    values = tuple(np.where(valid[:, None], value, 0.0) for value in values)
    return (*values, valid, vertices)


def _pose_and_wrist(hand, pose, pca, betas):
    pose = np.where(
        pca[:, None],
        np.asarray(pca_to_axis_angle(hand, pose)).reshape(pose.shape),
        pose + hand.hands_mean,
    )
    return pose, np.asarray(rest_joints(hand, betas))[:, 0]


@jax.jit
def _posed(hand, rotation, pose, betas, transl):
    return pose_hand(hand, rotation, pose.reshape(-1, 15, 3), betas, transl).vertices


def _vertices(hand, rotation, pose, betas, transl):
    return (np.asarray(_posed(hand, rotation, pose, betas, transl)),)


def _batched(function, count: int, *arrays: np.ndarray) -> list[np.ndarray]:
    """Calls function on slices of `_BATCH` rows, the last filled up with copies of its first."""
    results = []
    with jax.enable_x64(True):
        for start in range(0, count, _BATCH):
            rows = np.minimum(np.arange(start, start + _BATCH), count - 1)
            results.append(function(*(array[rows] for array in arrays)))
    return [np.concatenate(parts)[:count] for parts in zip(*results, strict=True)]


def crop_points(frame: Frame, vertices_xyz: np.ndarray, wanted: tuple[bool, bool]) -> np.ndarray:
    """Camera-space points (n, 3) the crop must hold: the wanted hands' vertices.

    A wanted hand without parameters is stood for by its annotated joints.

    Args:
      frame: the frame.
      vertices_xyz: (2, 778, 3) metres.
      wanted: hands (left, right) the configuration takes.
    """
    points = [np.zeros((0, 3))]
    for side, want in enumerate(wanted):
        if want and frame.fits[side] is not None:
            points.append(vertices_xyz[side].reshape(VERTICES, 3))
        elif want:
            points.append(frame.joints_xyz[side][frame.joint_valid[side]])
    return np.concatenate(points)
