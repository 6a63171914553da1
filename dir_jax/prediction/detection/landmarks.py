"""The landmark model's surroundings: from a palm to an upright hand, and to its 21 points.

Zhang et al., "MediaPipe Hands", 2020, section 2.2. How a palm becomes the square the model looks
at, and how its points become a better one, follows MediaPipe's published graphs
`modules/hand_landmark/palm_detection_detection_to_roi.pbtxt` (turned so that the wrist is below the
middle knuckle, moved half its height towards the fingers, 2.6 times as large) and
`hand_landmark_landmarks_to_roi.pbtxt` (twice the points' extent, moved a tenth).
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from dir_jax.prediction.detection.palms import MIDDLE_KNUCKLE, WRIST, Palms

SIDE = 224
_STEADY_POINTS = (0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18)
"""Wrist and the joints up to the middle of each finger."""


class Region(NamedTuple):
    """A turned square of a picture.

    Attributes:
      centre: (2,) pixels.
      side: pixels.
      angle: radians by which the square is turned, from x to y.
    """

    centre: np.ndarray
    side: float
    angle: float

    def matrix(self) -> np.ndarray:
        """(2, 3) from the model's pixels (edges at whole numbers) to the picture's."""
        scale = self.side / SIDE
        cos, sin = scale * np.cos(self.angle), scale * np.sin(self.angle)
        turn = np.array([[cos, -sin], [sin, cos]])
        return np.concatenate([turn, (self.centre - turn @ [SIDE / 2, SIDE / 2])[:, None]], axis=1)


def _upright(wrist: np.ndarray, finger: np.ndarray) -> float:
    """The angle that turns a hand so that its fingers point up."""
    along = finger - wrist
    return float(np.arctan2(along[0], -along[1]))


def _turned(vector: np.ndarray, angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.asarray(vector) @ np.array([[cos, sin], [-sin, cos]])


def region_of_palm(palms: Palms, number: int) -> Region:
    """Where the whole hand of a palm should be."""
    points = palms.points[number]
    angle = _upright(points[WRIST], points[MIDDLE_KNUCKLE])
    width, height = palms.size[number]
    centre = palms.centre[number] + _turned([0, -0.5 * height], angle)
    return Region(centre, 2.6 * float(max(width, height)), angle)


def region_of_points(points: np.ndarray) -> Region:
    """The square around a hand whose points (21, 2) are known."""
    finger = (points[6] + points[14] + 2 * points[10]) / 4
    angle = _upright(points[0], finger)
    flat = _turned(points[list(_STEADY_POINTS)], -angle)
    low, high = flat.min(0), flat.max(0)
    side = high - low
    centre = _turned((low + high) / 2 + [0, -0.1 * side[1]], angle)
    return Region(centre, 2.0 * float(side.max()), angle)


class Landmarks(NamedTuple):
    """What the model says of one region.

    Attributes:
      points: (21, 2) pixels of the picture.
      presence: in 0..1, whether there is a hand.
      right: in 0..1, whether it is a right one.
    """

    points: np.ndarray
    presence: float
    right: float


class LandmarkModel:
    """The 21 points of the hand in a region.

    Args:
      interpreter: of the landmark model.
    """

    def __init__(self, interpreter):
        self._interpreter = interpreter
        self._input = interpreter.get_input_details()[0]["index"]
        # In the order of the model: points, presence, handedness, points in metres.
        self._outputs = [o["index"] for o in interpreter.get_output_details()]

    def __call__(self, image: np.ndarray, region: Region) -> Landmarks:
        """Looks at a region of (h, w, 3) uint8 RGB."""
        matrix = region.matrix()
        centres = matrix.copy()  # of the model's pixels, for OpenCV
        centres[:, 2] += matrix[:, :2] @ [0.5, 0.5]
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        patch = cv2.warpAffine(
            image, centres, (SIDE, SIDE), flags=how, borderMode=cv2.BORDER_REPLICATE
        )
        self._interpreter.set_tensor(self._input, (patch / np.float32(255))[None])
        self._interpreter.invoke()
        points, presence, right = (
            self._interpreter.get_tensor(self._outputs[place]) for place in range(3)
        )
        flat = points.reshape(21, 3)[:, :2].astype(np.float64)
        placed = flat @ matrix[:, :2].T + matrix[:, 2]
        # The model was trained on mirrored pictures: its "right" is the photo's left hand.
        return Landmarks(placed, float(presence.item()), 1.0 - float(right.item()))
