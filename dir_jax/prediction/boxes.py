"""Where both hands are in a photo: as told, as annotated, as a detector sees them, or everywhere.

A finder is called with where a photo comes from and its pixels, and puts the crop in it: one for
every pair of hands.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from dir_jax.prediction.detection import SeenHand, pairs
from dir_jax.prediction.inputs import Source
from dir_jax.prediction.photos import Box, Photo, PhotoError, box_around, photo_from_image
from input_pipeline.json_files import iterate_arrays
from input_pipeline.troubles import SourceError

FORMATS = 'InterHand2.6M\'s *_data.json, or {"photo.jpg": [x, y, width, height], ...}'

Finder = Callable[[Source, np.ndarray], list[Photo]]
"""Puts the crops in a photo (h, w, 3) uint8, at least one; raises PhotoError where there is no box
for it."""


class NoHandError(PhotoError):
    """The detector saw no hand."""


def whole_photo(source: Source, image: np.ndarray) -> list[Photo]:
    """The crop is the whole photo."""
    return [photo_from_image(image, source.path)]


def given(boxes: Sequence[Box]) -> Finder:
    """One box for everything, or one for each of the given names."""

    def find(source: Source, image: np.ndarray) -> list[Photo]:
        box = boxes[0] if len(boxes) == 1 else boxes[source.argument]
        return [photo_from_image(image, source.path, box)]

    return find


def annotated(path: str | os.PathLike) -> Finder:
    """Boxes from a file (see `read_boxes`); of a video one box serves all frames."""
    boxes = read_boxes(path)

    def find(source: Source, image: np.ndarray) -> list[Photo]:
        parts = _parts(os.path.abspath(source.path))
        for start in range(len(parts)):
            if parts[start:] in boxes:
                photo = photo_from_image(image, source.path, boxes[parts[start:]])
                return [photo._replace(box_from="annotated")]
        raise PhotoError(f"{source.path}: {path} has no box for it")

    return find


def detected(look: Callable[[np.ndarray], Sequence[SeenHand]]) -> Finder:
    """A box around each pair of hands that a detector sees (`HandDetector.hands`), surest first."""

    def find(source: Source, image: np.ndarray) -> list[Photo]:
        hands, photos = look(image), []
        for pair in pairs(hands):
            boxes = tuple(hand.box for hand in pair.hands)
            photo = photo_from_image(image, source.path, box_around(boxes))
            others = [hand.box for hand in hands if hand.box not in boxes]
            doubt = pair.doubt
            if any(_inside(box, photo.square) for box in others):
                doubt = doubt or "another hand is in the crop: are the two one person's?"
            photos.append(photo._replace(box_from="detected", seen=pair.hands, doubt=doubt))
        if not photos:
            raise NoHandError(
                f"No hands found in {source.path}. Give a box around both: --box x,y,w,h"
            )
        return photos

    return find


def _inside(box: Box, square: np.ndarray) -> bool:
    """Whether a box's centre lies in a square (centre, half side)."""
    return np.abs(np.add(box[:2], np.divide(box[2:], 2)) - square[:2]).max() < square[2]


def parse_box(text: str) -> Box:
    """Reads "x,y,w,h".

    Raises:
      argparse.ArgumentTypeError: not four numbers, or an empty box.
    """
    try:
        x, y, width, height = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text.strip()!r} is no box; wanted x,y,width,height in pixels, "
            "for example 120,80,240,200"
        ) from None
    if not all(map(math.isfinite, (x, y, width, height))) or not (width > 0 and height > 0):
        raise argparse.ArgumentTypeError(
            f"the box {text.strip()!r} is empty; wanted a width and a height"
        )
    return x, y, width, height


def read_boxes(path: str | os.PathLike) -> dict[tuple[str, ...], Box]:
    """Boxes of a file of one of the `FORMATS`, by the parts of the photos' names.

    A photo is recognised by the end of its path: an entry a/b.jpg means any file called b.jpg in a
    folder called a. Of several entries that fit, the longest counts.

    Raises:
      ValueError: the file is missing, damaged or of another form; one plain line.
    """
    boxes: dict[tuple[str, ...], Box] = {}
    try:
        for name, values in _entries(pathlib.Path(path)):
            try:
                x, y, width, height = (float(value) for value in values)
            except (TypeError, ValueError):
                raise ValueError(
                    f"{path}: {values!r} of {name} is no box; wanted x, y, width, height"
                ) from None
            boxes[_parts(name)] = x, y, width, height
    except SourceError as error:
        raise ValueError(str(error)) from None
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(f"{path} cannot be read: {why}") from None
    if not boxes:
        raise ValueError(f"{path}: no boxes in it; wanted {FORMATS}")
    return boxes


def _parts(name: str | os.PathLike) -> tuple[str, ...]:
    return tuple(part for part in str(name).replace("\\", "/").split("/") if part not in ("", "."))


def _entries(path: pathlib.Path) -> Iterator[tuple[str, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        if '"images"' in file.read(1 << 16):  # of hundreds of MB, so read piece by piece
            yield from _interhand_entries(path)
            return
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); wanted {FORMATS}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: no names of photos in it; wanted {FORMATS}")
    yield from content.items()


def _interhand_entries(path: pathlib.Path) -> Iterator[tuple[str, Any]]:
    """Joins annotations[].bbox to images[].file_name; takes images[].box where that stands."""
    names: dict[Any, str] = {}
    boxes: dict[Any, Any] = {}
    for key, entry in iterate_arrays(path):
        if not isinstance(entry, dict):
            continue
        if key == "images" and isinstance(entry.get("file_name"), str):
            if "box" in entry:
                yield entry["file_name"], entry["box"]
            elif isinstance(entry.get("id"), int | str):
                names[entry["id"]] = entry["file_name"]
        elif key == "annotations" and isinstance(entry.get("image_id"), int | str):
            boxes.setdefault(entry["image_id"], entry.get("bbox"))
    for number, name in names.items():
        if boxes.get(number) is not None:
            yield name, boxes[number]
