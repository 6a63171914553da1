"""Hands through the frames of a video: where to look next, and numbers that do not tremble."""

from __future__ import annotations

import dataclasses
import functools

import jax
import numpy as np

from dir_jax.models.hands import decode
from dir_jax.models.types import CAMERA_SCALE, CAMERA_TRANSLATION
from dir_jax.prediction.boxes import Finder, NoHandError, intersection_over_union
from dir_jax.prediction.inputs import Source
from dir_jax.prediction.photos import Box, Photo, PhotoError, photo_from_image
from dir_jax.prediction.predictor import Result

LOOK_AGAIN = 30
"""Frames after which the detector confirms that the hands are where they are taken to be."""
LOOK_FOR_LOST = 4
"""Frames between two searches while there are no hands: a search of a whole photo is slow."""
SAME_HANDS = 0.3
"""Intersection over union from which two boxes hold the same hands."""
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

    The detector is asked at the beginning, every `LOOK_AGAIN` frames, when the hands moved further
    than hands do, and every `LOOK_FOR_LOST` frames while there are none.

    Args:
      finder: asks the detector.
      rate: frames a second.
      smooth: strength of the filter on the box.
    """

    def __init__(self, finder: Finder, rate: float, smooth: float):
        self._finder = finder
        self._rate = rate
        self._filter = OneEuro(smooth)
        self._box: Box | None = None
        self._frame = -1
        self._look_at = 0
        self._photo: Photo | None = None

    def __call__(self, source: Source, image: np.ndarray) -> Photo:
        """Puts the crop in the next frame.

        Raises:
          NoHandError: there are no hands in it, as far as is known.
        """
        self._frame += 1
        self._photo = None
        if self._frame >= self._look_at:
            self._photo = self._look(source, image)
        elif self._box is None:
            raise NoHandError(f"{source.path}: no hands found")
        if self._photo is None:
            photo = photo_from_image(image, source.path, self._box)
            self._photo = photo._replace(box_from="tracked")
        return self._photo

    def _look(self, source: Source, image: np.ndarray) -> Photo | None:
        """Asks the detector; None: the hands are where they were taken to be."""
        self._look_at = self._frame + LOOK_FOR_LOST
        before, self._box = self._box, None
        photo = self._finder(source, image)  # or NoHandError: they are lost
        self._look_at = self._frame + LOOK_AGAIN
        if before and intersection_over_union(before, photo.box) > SAME_HANDS:
            self._box = before
            return None
        self._filter.reset()
        self._box = photo.box
        return photo

    def saw(self, result: Result | None) -> None:
        """Tells what became of the last frame; None: there was nothing to see."""
        if self._photo is None:
            return
        box = None if result is None else _box_of(result)
        if box is None or intersection_over_union(box, self._photo.box) < SAME_HANDS:
            self._box, self._look_at = None, 0  # nobody knows: look at once
            return
        x, y, width, height = box
        middle = np.array([x + width / 2, y + height / 2, width, height])
        unit = max(self._photo.image.shape)
        x, y, width, height = unit * self._filter(middle / unit, self._frame / self._rate)
        self._box = (x - width / 2, y - height / 2, width, height)


def _box_of(result: Result) -> Box | None:
    """Around both hands as the network sees them, as crops of training are made; None: no box."""
    points = result.vertices_px[-1].reshape(-1, 2)
    low, high = points.min(0), points.max(0)
    box = (*low.tolist(), *(high - low).tolist())
    try:
        photo_from_image(result.photo.image, "", box)
    except PhotoError:
        return None
    return box


class Smoother:
    """Filters both hands' parameters over the frames of a video and poses the hands anew.

    Args:
      strength: of the filter; 0: results stay as they are.
    """

    def __init__(self, strength: float):
        self._strength = strength
        self._filter = OneEuro(strength)
        self._square: np.ndarray | None = None

    def __call__(self, result: Result | None, seconds: float) -> Result | None:
        """The last stage of a result, filtered; None (no hands) starts afresh."""
        if self._strength == 0:
            return result
        jumped = result is None or (
            self._square is not None
            and np.abs(result.photo.square - self._square).max() > self._square[2]
        )
        if jumped:
            self._filter.reset()
        self._square = None if result is None else result.photo.square
        if result is None:
            return None
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
        stages = _posed(result.hands, result.loaded.model.config, params[None], offset[None])
        return dataclasses.replace(result, stages=jax.tree.map(np.asarray, stages))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _posed(hands, config, params, offset):
    return decode(hands, params, offset, config)
