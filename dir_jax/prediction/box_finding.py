"""Where both hands are in a photo: as told, as annotated, everywhere, or as a detector sees them.

A finder is called with the photo's path, which of the given names it belongs to, and its pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from dir_jax.prediction.boxes import Box, BoxFile, box_around, intersection_over_union
from dir_jax.prediction.inputs import Source
from dir_jax.prediction.photos import PhotoError

STEADY = 0.8
"""A tracked box stays where it is while the new one overlaps it by this much: less jitter."""
PATIENCE = 12
"""Frames of a video for which a lost box is kept (half a second at 25 frames a second)."""


class NoHandError(PhotoError):
    """The detector saw no hand."""


class Found(NamedTuple):
    """Where to look.

    Attributes:
      box: x, y, width, height around both hands, pixels; None: the whole photo.
      origin: "given", "annotated", "detected", "tracked" or "whole photo".
      hand_boxes: of single hands, where a detector saw them.
    """

    box: Box | None
    origin: str
    hand_boxes: tuple[Box, ...] = ()


class Finder(Protocol):
    """Finds the box of a photo; raises PhotoError when there is none."""

    def __call__(self, source: Source, image: np.ndarray) -> Found:
        """See `Finder`."""


class Detector(Protocol):
    """Sees hands: pixels (h, w, 3) uint8 RGB in, boxes of single hands out."""

    def __call__(self, image: np.ndarray) -> Sequence[Box]:
        """See `Detector`."""


def whole_photo(source: Source, image: np.ndarray) -> Found:
    """The crop is the whole photo."""
    return Found(None, "whole photo")


def given(boxes: Sequence[Box]) -> Finder:
    """One box for everything, or one for each of the given names."""

    def find(source: Source, image: np.ndarray) -> Found:
        return Found(boxes[0] if len(boxes) == 1 else boxes[source.argument], "given")

    return find


def annotated(file: BoxFile) -> Finder:
    """Boxes from an annotation file; of a video one box serves all frames."""

    def find(source: Source, image: np.ndarray) -> Found:
        box = file.find(source.path)
        if box is None:
            raise PhotoError(f"{source.path}: {file.path} has no box for it")
        return Found(box, "annotated")

    return find


def detected(detector: Detector) -> Finder:
    """One box around all hands that a detector sees."""

    def find(source: Source, image: np.ndarray) -> Found:
        hands = tuple(detector(image))
        if not hands:
            raise NoHandError(f"{source.path}: no hand found; give --box x,y,w,h")
        return Found(box_around(hands), "detected", hands)

    return find


class Tracked:
    """Steadies the boxes of a video: they move when the hands do, and outlive a lost frame."""

    def __init__(self, finder: Finder):
        self._finder = finder
        self._last: Box | None = None
        self._lost = 0

    def __call__(self, source: Source, image: np.ndarray) -> Found:
        """Finds the box of the next frame."""
        try:
            found = self._finder(source, image)
        except NoHandError:
            self._lost += 1
            if self._last is None or self._lost > PATIENCE:
                self._last = None
                raise
            return Found(self._last, "tracked")
        self._lost = 0
        if self._last and found.box and intersection_over_union(self._last, found.box) > STEADY:
            return found._replace(box=self._last, origin="tracked")
        self._last = found.box
        return found
