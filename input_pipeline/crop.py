"""The crop around both hands: a square of the photo brought to 256x256, camera included.

Conventions of the public DIR code, kept because its numbers depend on them: the square's half side
is half the larger extent of the hands' projected vertices divided by 0.8 (`HAND_SHARE`), and the
affine map takes pixel coordinates as OpenCV does (integers at pixel centres), for image, points
and intrinsics alike. numpy and OpenCV only, so that prediction can use it.
"""

from __future__ import annotations

import cv2
import numpy as np

from input_pipeline import IMAGE_SIZE as CROP_SIZE

# Side of the stored window around the crop the network sees: the rest is margin. The largest
# augmentation (any rotation, scale 0.9, 10 px shift along both axes) reaches
# (256 / 2 + 10) * sqrt(2) / 0.9 = 216.8 px from the centre; half of 440 covers it.
STORED_SIZE = 440
MARGIN = (STORED_SIZE - CROP_SIZE) // 2

# The hands fill this share of the crop's side.
HAND_SHARE = 0.8

# Of augmentation, `augment` and whatever else changes crops: smallest and largest half side of an
# occluding patch, as parts of the crop's side, and of the qualities of a second compression.
PATCH = (0.03, 0.25)
JPEG_QUALITIES = (20, 90)


def square_around(points_px: np.ndarray, share: float = HAND_SHARE) -> np.ndarray:
    """Square of the photo that holds the points with room around them.

    Args:
      points_px: (..., 2) pixels of the photo.
      share: part of the square's side that the points' larger extent fills.

    Returns:
      (3,) centre x, centre y, half side, pixels.

    Raises:
      ValueError: when a point is not finite or all points coincide.
    """
    points_px = np.asarray(points_px, np.float64).reshape(-1, 2)
    low, high = points_px.min(0), points_px.max(0)
    half_side = (high - low).max() / 2 / share
    if not np.isfinite(half_side) or half_side <= 0:
        raise ValueError(f"no square can be put around points from {low} to {high}")
    return np.array([*(low + high) / 2, half_side])


def square_around_box(box_xywh: np.ndarray, share: float = HAND_SHARE) -> np.ndarray:
    """The same square for a box (x, y, width, height) in pixels of the photo."""
    x, y, width, height = (float(value) for value in box_xywh)
    if not (width > 0 and height > 0):
        raise ValueError(f"a box needs a positive width and height, got {width} x {height}")
    return square_around(np.array([[x, y], [x + width, y + height]]), share)


def crop_affine(square: np.ndarray, size: int = CROP_SIZE, margin: int = 0) -> np.ndarray:
    """(2, 3) map from pixels of the photo to those of the crop.

    Args:
      square: (3,) as from `square_around`.
      size: side of the crop, pixels.
      margin: pixels added on every side at the same scale; the crop is the window's centre.

    Returns:
      The affine matrix as `cv2.warpAffine` takes it.
    """
    x, y, half_side = (float(value) for value in square)
    scale = size / 2 / half_side
    shift = scale * (half_side - np.array([x, y])) + margin
    return np.column_stack([scale * np.eye(2), shift])


def crop_image(image: np.ndarray, square: np.ndarray, margin: int = 0) -> np.ndarray:
    """The (256 + 2 margin) square window of a photo; black where the photo ends."""
    side = CROP_SIZE + 2 * margin
    return cv2.warpAffine(image, crop_affine(square, margin=margin), (side, side))


def crop_points(points_px: np.ndarray, square: np.ndarray) -> np.ndarray:
    """Pixels (..., 2) of the photo as pixels of the crop."""
    matrix = crop_affine(square)
    return np.asarray(points_px) @ matrix[:, :2].T + matrix[:, 2]


def crop_camera(camera: np.ndarray, square: np.ndarray) -> np.ndarray:
    """Intrinsics (3, 3) of the photo as intrinsics of the crop, pixels."""
    return np.vstack([crop_affine(square), [0, 0, 1]]) @ np.asarray(camera, np.float64)


def project(camera: np.ndarray, points_xyz: np.ndarray) -> np.ndarray:
    """Camera-space points (..., 3) as pixels (..., 2) of a pinhole camera (3, 3)."""
    image = np.asarray(points_xyz) @ np.asarray(camera).T
    return image[..., :2] / image[..., 2:]
