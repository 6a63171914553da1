"""Hands through the frames of a video: where to look next, and numbers that do not tremble."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import jax
import numpy as np

from dir_jax.models.types import CAMERA_SCALE, CAMERA_TRANSLATION
from dir_jax.prediction.boxes import NoHandError, detected
from dir_jax.prediction.inputs import Source
from dir_jax.prediction.landmarks import posed
from dir_jax.prediction.photos import (
    Box,
    Photo,
    intersection_over_union,
    photo_from_image,
)
from dir_jax.prediction.predictor import Result

if TYPE_CHECKING:
    from dir_jax.prediction.detection import HandDetector

LOOK_AGAIN = 25
"""Frames between two looks of the detector while hands are tracked: they may be elsewhere."""
LOOK_FOR_LOST = 2
"""Frames between two quick looks while there are no hands; a thorough one every `LOOK_AGAIN`."""
CONFIRM = 5
"""Frames between two confirmations that there is a hand where one is taken to be."""
LEAST_PRESENCE = 0.4
"""Of the surer hand, to go on tracking."""
SAME_HANDS = 0.3
"""Intersection over union of one frame's box and the next from which hands are not lost."""
MIN_CUTOFF, SPEED_WEIGHT, SPEED_CUTOFF = 2.0, 1.0, 1.0
"""Hz, Hz per unit a second, Hz: the one-euro filter's three numbers at strength 1."""


class OneEuro:
    """Casiez, Roussel and Vogel's filter (CHI 2012): still when slow, prompt when fast.

    Args:
      strength: divides the cut-off of slow signals; 0 lets everything through.
    """

    def __init__(self, strength: float):
        self._strength = strength
        self.reset()

    def reset(self) -> None:
        """Forgets what was: the next value comes out as it is."""
        self._value = self._speed = None
        self._seconds = 0.0

    def __call__(self, value: np.ndarray, seconds: float) -> np.ndarray:
        """The filtered value (n,) at a time later than the last one."""
        value = np.asarray(value, np.float64)
        if self._value is None or self._strength == 0:
            self._value, self._speed = value, np.zeros_like(value)
        else:
            step = seconds - self._seconds
            speed = (value - self._value) / step
            self._speed = self._speed + _share(SPEED_CUTOFF, step) * (speed - self._speed)
            cutoff = MIN_CUTOFF / self._strength + SPEED_WEIGHT * np.abs(self._speed)
            self._value = self._value + _share(cutoff, step) * (value - self._value)
        self._seconds = seconds
        return self._value


def _share(cutoff: np.ndarray | float, step: float) -> np.ndarray | float:
    """How much of a new value a low-pass filter takes over after `step` seconds."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff * step))


class Tracker:
    """A finder for the frames of one video: the last frame's hands give the next crop.

    The detector is asked at the beginning, now and then while hands are tracked or lost, and at
    once when they seem to have moved further than hands do.

    Args:
      detector: sees hands, and tells whether one is where it is taken to be.
      rate: frames a second.
      smooth: strength of the filter on the box.
    """

    def __init__(self, detector: HandDetector, rate: float, smooth: float):
        self._detector = detector
        self._rate = rate
        self._filter = OneEuro(smooth)
        self._box: Box | None = None
        self._photo: Photo | None = None
        self._points: list[np.ndarray] = []  # of the last frame's hands that lie on landmarks
        self._frame = -1
        self._look_at = self._thorough_at = 0

    def __call__(self, source: Source, image: np.ndarray) -> list[Photo]:
        """Puts the crop in the next frame.

        Raises:
          NoHandError: there are no hands in it, as far as is known.
        """
        self._frame += 1
        self._photo = self._look(source, image) if self._frame >= self._look_at else None
        if self._photo is None and self._box is None:
            raise NoHandError(f"{source.path}: no hands found")
        if self._photo is None:
            photo = photo_from_image(image, source.path, self._box)
            # Where landmarks were, they are near: the network's own hands may be further off.
            seen = tuple(self._detector.sighting(image, points) for points in self._points)
            self._photo = photo._replace(box_from="tracked", seen=seen)
        return [self._photo]

    def _look(self, source: Source, image: np.ndarray) -> Photo | None:
        """Asks the detector; None: it sees nothing, or nothing new."""
        tracked = self._box
        thorough = tracked is None and self._frame >= self._thorough_at
        if thorough:
            self._thorough_at = self._frame + LOOK_AGAIN
        self._look_at = self._frame + (LOOK_FOR_LOST if tracked is None else LOOK_AGAIN)
        try:
            look = functools.partial(self._detector.hands, thorough=thorough)
            photos = detected(look)(source, image)
        except NoHandError:
            return None
        photo = photos[0]
        if tracked:  # other people's hands are not followed
            photo = max(photos, key=lambda one: intersection_over_union(one.box, tracked))
        if tracked and not _elsewhere(photo, tracked):
            return None
        self._look_at = self._frame + LOOK_AGAIN
        self._filter.reset()
        self._box = photo.box
        return photo

    def saw(self, result: Result | None) -> bool:
        """Tells what the network answered for the last frame; None: nothing to be shown.

        Returns:
          Whether there are hands in that frame.
        """
        photo, box, self._points = self._photo, None, []
        if result is not None:
            box = result.box
            self._points = list(result.joints_px[-1][result.fitted & result.present])
            if photo.box_from == "tracked" and self._frame % CONFIRM == 0:
                there = result.joints_px[-1][result.present]
                sure = [self._detector.sighting(photo.image, hand).presence for hand in there]
                box = box if max(sure) >= LEAST_PRESENCE else None
        if box is None or intersection_over_union(box, photo.box) < SAME_HANDS:
            self._box, self._look_at = None, 0  # nobody knows where they are: look at once
            return result is not None and photo.box_from == "detected"
        x, y, width, height = box
        unit = max(photo.image.shape)
        middle = np.array([x + width / 2, y + height / 2, width, height])
        x, y, width, height = unit * self._filter(middle / unit, self._frame / self._rate)
        self._box = (x - width / 2, y - height / 2, width, height)
        return True


def _elsewhere(photo: Photo, tracked: Box) -> bool:
    """Whether a detector sees hands that are not, or not all, where they are taken to be.

    It often sees only one of two hands that touch: a smaller box inside is no news.
    """
    overlap = intersection_over_union(photo.box, tracked)
    if len(photo.seen) > 1:
        return overlap < 0.5
    both = photo.box[2] * photo.box[3] + tracked[2] * tracked[3]
    return both * overlap / (1 + overlap) < 0.5 * photo.box[2] * photo.box[3]


class Smoother:
    """Filters both hands' parameters over the frames of a video and poses the hands anew.

    Args:
      strength: of the filter; 0: results stay as they are.
    """

    def __init__(self, strength: float):
        self._strength = strength
        self._filter = OneEuro(strength)
        self._square: np.ndarray | None = None
        self._present: np.ndarray | None = None

    def __call__(self, result: Result | None, seconds: float) -> Result | None:
        """The last stage of a result, filtered; None (no hands) starts afresh."""
        if self._strength == 0:
            return result
        jumped = result is None or (
            self._square is not None
            and (
                np.abs(result.photo.square - self._square).max() > self._square[2]
                or (result.present != self._present).any()
            )
        )
        if jumped:
            self._filter.reset()
        self._square = None if result is None else result.photo.square
        if result is None:
            return None
        self._present = result.present
        # Cameras are filtered on the photo: the crop they are relative to moves, too.
        centre, half_side = result.photo.square[:2], result.photo.square[2]
        unit = max(result.photo.image.shape) / half_side
        params = np.array(result.params[-1], np.float64)
        params[:, CAMERA_SCALE] /= unit
        params[:, CAMERA_TRANSLATION] = (params[:, CAMERA_TRANSLATION] + centre / half_side) / unit
        flat = np.concatenate([params.ravel(), result.stages.offset[-1]])
        flat = self._filter(flat, seconds).copy()
        params, offset = flat[:-3].reshape(params.shape), flat[-3:]
        params[:, CAMERA_SCALE] *= unit
        params[:, CAMERA_TRANSLATION] = params[:, CAMERA_TRANSLATION] * unit - centre / half_side
        stages = posed(result.hands, result.loaded.model.config, params[None], offset[None])
        return dataclasses.replace(result, stages=jax.tree.map(np.asarray, stages))
