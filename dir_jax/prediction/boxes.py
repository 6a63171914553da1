"""Where both hands are in a photo: as told, as annotated, as a detector sees them, or everywhere.

A finder is called with where a photo comes from and its pixels, and puts the crop in it.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dir_jax.prediction.inputs import Source
from dir_jax.prediction.photos import Box, Photo, PhotoError, photo_from_image
from input_pipeline.json_files import iterate_arrays
from input_pipeline.troubles import SourceError

if TYPE_CHECKING:
    from dir_jax.prediction.detection import SeenHand

FORMATS = (
    'InterHand2.6M\'s *_data.json; {"photo.jpg": [x, y, w, h], ...}; '
    'a list of {"file_name": ..., "box": [x, y, w, h]}; or lines of photo.jpg,x,y,w,h'
)

Finder = Callable[[Source, np.ndarray], Photo]
"""Puts the crop in a photo (h, w, 3) uint8; raises PhotoError where there is no box for it."""


class NoHandError(PhotoError):
    """The detector saw no hand."""


def whole_photo(source: Source, image: np.ndarray) -> Photo:
    """The crop is the whole photo."""
    return photo_from_image(image, source.path)


def given(boxes: Sequence[Box]) -> Finder:
    """One box for everything, or one for each of the given names."""

    def find(source: Source, image: np.ndarray) -> Photo:
        box = boxes[0] if len(boxes) == 1 else boxes[source.argument]
        return photo_from_image(image, source.path, box)

    return find


def annotated(path: str | os.PathLike) -> Finder:
    """Boxes from a file (see `read_boxes`); of a video one box serves all frames."""
    boxes = read_boxes(path)

    def find(source: Source, image: np.ndarray) -> Photo:
        parts = _parts(os.path.abspath(source.path))
        for start in range(len(parts)):
            if parts[start:] in boxes:
                photo = photo_from_image(image, source.path, boxes[parts[start:]])
                return photo._replace(box_from="annotated")
        raise PhotoError(f"{source.path}: {path} has no box for it")

    return find


def detected(look: Callable[[np.ndarray], Sequence[SeenHand]]) -> Finder:
    """One box around all hands that a detector sees in an image (`HandDetector.hands`)."""

    def find(source: Source, image: np.ndarray) -> Photo:
        hands = look(image)
        if not hands:
            raise NoHandError(f"{source.path}: no hands found; give a box: --box x,y,w,h")
        boxes = tuple(hand.box for hand in hands)
        photo = photo_from_image(image, source.path, box_around(boxes))
        sure = tuple(round(float(hand.presence), 3) for hand in hands)
        return photo._replace(box_from="detected", hand_boxes=boxes, confidence=sure)

    return find


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


def intersection_over_union(first: Sequence[float], second: Sequence[float]) -> float:
    """Shared area of two boxes (x, y, width, height) over the area of both together."""
    one, two = np.asarray(first, float), np.asarray(second, float)
    low = np.maximum(one[:2], two[:2])
    high = np.minimum(one[:2] + one[2:], two[:2] + two[2:])
    shared = float(np.prod(np.maximum(high - low, 0)))
    both = float(np.prod(one[2:]) + np.prod(two[2:])) - shared
    return shared / both if both > 0 else 0.0


def box_around(boxes: Iterable[Sequence[float]]) -> Box:
    """The smallest box that holds all of them."""
    every = np.asarray(list(boxes), float)
    low = every[:, :2].min(0)
    return tuple(float(v) for v in (*low, *((every[:, :2] + every[:, 2:]).max(0) - low)))


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
    except (OSError, UnicodeDecodeError, csv.Error, RecursionError) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(f"{path} cannot be read: {why}") from None
    if not boxes:
        raise ValueError(f"{path}: no boxes in it; wanted {FORMATS}")
    return boxes


def _parts(name: str | os.PathLike) -> tuple[str, ...]:
    return tuple(part for part in str(name).replace("\\", "/").split("/") if part not in ("", "."))


def _entries(path: pathlib.Path) -> Iterator[tuple[str, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        start = file.read(1 << 16).lstrip()
    if start[:1] == "{" and '"images"' in start:
        return _interhand_entries(path)
    return _json_entries(path) if start[:1] in ("{", "[") else _csv_entries(path)


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


def _json_entries(path: pathlib.Path) -> Iterator[tuple[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); wanted {FORMATS}") from None
    if isinstance(content, dict):
        yield from content.items()
        return
    for entry in content:
        name = entry.get("file_name", entry.get("file")) if isinstance(entry, dict) else None
        if not isinstance(name, str):
            raise ValueError(f"{path}: an entry without file_name; wanted {FORMATS}")
        yield name, entry.get("box", entry.get("bbox"))


def _csv_entries(path: pathlib.Path) -> Iterator[tuple[str, Any]]:
    text = path.read_text(encoding="utf-8-sig")
    for number, row in enumerate(csv.reader(io.StringIO(text))):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 0 and cells[1:3] == ["x", "y"]):
            continue
        if len(cells) != 5:
            raise ValueError(f"{path}: line {number + 1} has {len(cells)} cells; wanted {FORMATS}")
        yield cells[0], cells[1:]
