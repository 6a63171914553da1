"""Hands in a photo: palms are proposed in several views of it, landmarks confirm and outline them.

One look at the whole photo finds hands that are large in it and seen as in everyday photos. Others
need a second look: at the mirrored photo, at parts of it, around a hand already found.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dir_jax.prediction.boxes import Box
from dir_jax.prediction.detection.landmarks import (
    LandmarkModel,
    Landmarks,
    region_of_palm,
    region_of_points,
)
from dir_jax.prediction.detection.model_files import LANDMARKS, PALM, interpreter, read_model
from dir_jax.prediction.detection.palms import PalmModel

PALM_SCORE = 0.08
"""Less sure palms are not looked at. Low, because hands that touch make unusual palms; what is no
hand is left to the landmark model to say."""
PRESENCE = 0.6
"""Of the landmark model, to believe in a hand."""
MOST_HANDS = 2
FLESH = 0.1
"""Room around the landmarks, as a share of their extent: they lie inside the fingers."""
SAME = 0.25
"""Two sightings whose points differ by less than this share of their extent are one hand."""
_PARTS = (0.66, 0.45)
"""Sides of the windows of the second look, as shares of the photo's shorter side."""


class SeenHand(NamedTuple):
    """One hand.

    Attributes:
      box: x, y, width, height, pixels, around skin.
      points: (21, 2) pixels; wrist, then thumb, index, middle, ring, pinky from base to tip.
      presence: in 0..1.
      right: in 0..1; often wrong for hands that touch.
    """

    box: Box
    points: np.ndarray
    presence: float
    right: float


class Window(NamedTuple):
    """An upright part of a photo, pixels; `mirrored` is how it is looked at."""

    left: int
    top: int
    right: int
    bottom: int
    mirrored: bool = False


class HandDetector:
    """Finds up to two hands. Not for several threads at a time.

    Args:
      palms: proposes.
      landmarks: confirms.
    """

    def __init__(self, palms: PalmModel, landmarks: LandmarkModel):
        self._palms = palms
        self._landmarks = landmarks

    def __call__(self, image: np.ndarray) -> list[Box]:
        """Boxes of the hands in (h, w, 3) uint8 RGB, the surest first."""
        return [hand.box for hand in self.hands(image)]

    def hands(self, image: np.ndarray) -> list[SeenHand]:
        """At most two hands, the surest first; [] when none is seen."""
        height, width = image.shape[:2]
        whole = Window(0, 0, width, height)
        seen = self._look(image, whole, [])
        if len(seen) < MOST_HANDS:
            seen = self._look(image, whole._replace(mirrored=True), seen)
        if not seen:
            for window in _windows(width, height):
                seen = self._look(image, window, seen)
                if len(seen) >= MOST_HANDS:
                    break
        if len(seen) == 1:
            for window in _around(seen[0].box, width, height):
                seen = self._look(image, window, seen)
        seen.sort(key=lambda hand: -hand.presence)
        return seen[:MOST_HANDS]

    def _look(self, image: np.ndarray, window: Window, seen: list[SeenHand]) -> list[SeenHand]:
        """Adds the hands that one view shows."""
        view = image[window.top : window.bottom, window.left : window.right]
        if window.mirrored:
            view = view[:, ::-1]
        view = np.ascontiguousarray(view)
        palms = self._palms(view, PALM_SCORE)
        for number in range(len(palms.score)):
            marks = self._landmarks(view, region_of_palm(palms, number))
            if marks.presence >= PRESENCE:  # again, in the square its own points ask for
                marks = self._landmarks(view, region_of_points(marks.points))
            if marks.presence >= PRESENCE:
                seen = _with(seen, _on_photo(marks, window))
        return seen


def _on_photo(marks: Landmarks, window: Window) -> SeenHand:
    points, right = marks.points.copy(), marks.right
    if window.mirrored:
        points[:, 0] = window.right - window.left - 1 - points[:, 0]
        right = 1 - right
    points += [window.left, window.top]
    low, high = points.min(0), points.max(0)
    room = FLESH * (high - low).max()
    box = (*(low - room), *(high - low + 2 * room))
    return SeenHand(tuple(float(v) for v in box), points, marks.presence, right)


def _with(seen: list[SeenHand], hand: SeenHand) -> list[SeenHand]:
    """Adds a hand, or lets it replace a less sure sighting of the same one."""
    extent = max(hand.box[2:])
    kept = []
    for other in seen:
        apart = np.linalg.norm(other.points - hand.points, axis=1).mean()
        if apart >= SAME * extent:
            kept.append(other)
        elif other.presence >= hand.presence:
            return seen
    return [*kept, hand]


def _windows(width: int, height: int) -> Iterator[Window]:
    """Overlapping squares over the photo, plain and mirrored, large ones first."""
    for share in _PARTS:
        side = max(1, round(share * min(width, height)))
        columns, rows = (max(2, -(-2 * length // side) - 1) for length in (width, height))
        for top in np.linspace(0, height - side, rows).round().astype(int):
            for left in np.linspace(0, width - side, columns).round().astype(int):
                for mirrored in (False, True):
                    yield Window(int(left), int(top), int(left + side), int(top + side), mirrored)


def _around(box: Box, width: int, height: int) -> Iterator[Window]:
    """Squares around a hand, where the other one is likely to be."""
    centre = np.array([box[0] + box[2] / 2, box[1] + box[3] / 2])
    for size in (2.0, 3.0):
        half = size * max(box[2:]) / 2
        low = np.maximum(np.floor(centre - half), 0).astype(int)
        high = np.minimum(np.ceil(centre + half), [width, height]).astype(int)
        if (high - low >= 2).all():
            for mirrored in (False, True):
                yield Window(*low.tolist(), *high.tolist(), mirrored)


def load_detector(folder: str | os.PathLike | None = None) -> HandDetector:
    """The detector, from models that `python -m dir_jax.prediction.detection --download` has left.

    Args:
      folder: where they are; None: the cache.

    Raises:
      DetectorError: models or their runtime are missing or damaged.
    """
    palms, landmarks = (interpreter(read_model(model, folder)) for model in (PALM, LANDMARKS))
    return HandDetector(PalmModel(palms), LandmarkModel(landmarks))
