"""What the demo answers to a photo: a picture, a GLB and lines of text; the page is `__main__`."""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Sequence

import cv2
import jax
import numpy as np

from dir_jax.pictures.drawing import draw_box
from dir_jax.prediction.boxes import Finder, NoHandError, given, parse_box
from dir_jax.prediction.command import found
from dir_jax.prediction.inputs import Source
from dir_jax.prediction.outputs import about, overlay, write_glb
from dir_jax.prediction.photos import PhotoError, read_image
from dir_jax.prediction.predictor import Predictor, Result

LONGEST_SIDE = 1600
"""Pixels; larger photos are made smaller, so that answers come soon and sessions stay small."""


@dataclasses.dataclass(frozen=True, eq=False)
class Look:
    """A photo, and what was found in it.

    Attributes:
      name: of the photo, for people.
      image: (h, w, 3) uint8 RGB; None: there is none that can be read.
      results: one for each pair of hands.
      trouble: why there are no results, one plain line.
      corner: (x, y) in pixels of one corner of a box, while the opposite one is awaited.
    """

    name: str = ""
    image: np.ndarray | None = None
    results: tuple[Result, ...] = ()
    trouble: str = ""
    corner: tuple[int, int] | None = None


def open_photo(path: str | os.PathLike) -> Look:
    """Reads a photo as predict.py does, and makes a large one smaller."""
    name = pathlib.PurePath(path).name
    try:
        image = read_image(path)
    except PhotoError as error:
        return Look(name, trouble=str(error).replace(str(path), name))
    scale = LONGEST_SIDE / max(image.shape[:2])
    if scale < 1:
        height, width = (max(1, round(scale * side)) for side in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return Look(name, image)


def find_hands(look: Look, box: str, predictor: Predictor, finder: Finder) -> Look:
    """Reconstructs the hands in a photo; what is in the way becomes the answer's `trouble`.

    Args:
      look: whose photo is looked at.
      box: "x,y,width,height" around both hands, pixels of `look.image`; "": they are looked for.
      predictor: answers.
      finder: looks for them.
    """
    if look.image is None:
        return look
    fresh = Look(look.name, look.image)
    try:
        finder = given([parse_box(box)]) if box.strip() else finder
        photos = finder(Source(look.name, look.name, False, 0), look.image)
        results = tuple(predictor.photos(photos))
        if not all(result.finite for result in results):
            raise PhotoError("The network's answer is not finite; check the weights.")
        return dataclasses.replace(fresh, results=results)
    except NoHandError:
        trouble = f"No hands found in {look.name}. Click two corners of a box around both hands."
    except (PhotoError, argparse.ArgumentTypeError) as error:
        trouble = str(error)
    return dataclasses.replace(fresh, trouble=trouble)


def click(look: Look, place: Sequence[int]) -> tuple[Look, str]:
    """Two clicks are a box: the first is kept, the second gives the box as text."""
    if look.corner is None:
        return dataclasses.replace(look, corner=(int(place[0]), int(place[1]))), ""
    low, high = np.minimum(look.corner, place), np.maximum(look.corner, place)
    box = ",".join(str(int(value)) for value in (*low, *(high - low)))
    return dataclasses.replace(look, corner=None), box


def show(
    look: Look, pair: int, stage: int, folder: str | os.PathLike
) -> tuple[np.ndarray | None, str | None, str]:
    """What is seen of one pair of hands at one stage of the refinement.

    Args:
      look: what was found.
      pair: which of `look.results`.
      stage: 0 for the network's first estimate.
      folder: where the GLB goes, under a name of its own.

    Returns:
      The photo (h, w, 3) uint8 with both hands drawn over it, or as it is without any; the GLB's
      path, or None; Markdown that says what was found and what with.
    """
    if not look.results:
        picture = look.image
        if picture is not None and look.corner:
            cross = cv2.drawMarker(picture.copy(), look.corner, (60, 220, 100), thickness=2)
            picture = cross
        return picture, None, _plain(look.trouble) or "Choose a photo of hands."
    result = look.results[min(pair, len(look.results) - 1)]
    at_stage = dataclasses.replace(
        result, stages=jax.tree.map(lambda values: values[: stage + 1], result.stages)
    )
    picture = overlay(at_stage)
    if result.photo.box is not None:
        picture = draw_box(picture, result.photo.box)
    if look.corner:
        picture = cv2.drawMarker(picture, look.corner, (60, 220, 100), thickness=2)
    handle, path = tempfile.mkstemp(".glb", "hands_", folder)
    os.close(handle)
    write_glb(path, at_stage)
    return picture, path, "\n\n".join(_plain(line) for line in _lines(look, at_stage))


def _lines(look: Look, result: Result) -> list[str]:
    lines = [f"{look.name}: {found(result)}.", *result.warnings]
    if result.photo.box is not None:
        lines.append("Box: " + ",".join(f"{value:.0f}" for value in result.photo.box))
    if result.present.all():
        x, y, z = 1000 * result.offset_xyz[-1]
        lines.append(
            f"Right wrist relative to left, mm: {x:.0f} (+ right), {y:.0f} (+ down), "
            f"{z:.0f} (+ away)"
        )
    return [*lines, about(result.loaded)]


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: a photo's name comes from anyone."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]()<>#+-.!|~&$" else c for c in text)
