"""data.json of one InterHand2.6M v1.0 split: images joined with their annotations.

A training split has 1.4 million images and the file a gigabyte, so entries are decoded piece by
piece, columns are arrays and short repeated texts are shared: about 350 bytes an image. Entries of
the official form are taken over a whole piece at a time, any other piece entry by entry.
"""

from __future__ import annotations

import array
import dataclasses
import itertools
import operator
import pathlib
import sys

import numpy as np

from input_pipeline.annotations import ANNOTATED_JOINTS, BAD_ENTRY
from input_pipeline.json_files import iterate_pieces, no_search_for_cycles
from input_pipeline.troubles import Tally, Trouble

HAND_TYPES = ("", "right", "left", "interacting")

_NUMBERS = ("id", "width", "height", "frame_idx")
_LABELS = ("capture", "seq_name", "camera")
_LARGEST = 1 << 62
_TRUTH = bytes([0, *[1] * 255])


@dataclasses.dataclass(eq=False)
class ImageTable:
    """images[] joined with annotations[] (N images in file order).

    Attributes:
      image_id, width, height, frame: (N,) int64.
      file_name, capture, sequence, camera: N texts each.
      annotated: (N,) whether an annotation names the image.
      hand_type: (N,) int8 index into `HAND_TYPES`.
      hand_type_valid: (N,) bool.
      box: (N, 4) x, y, width, height, pixels.
      joint_valid: (N, 42) bool, official joint order.
    """

    image_id: np.ndarray
    width: np.ndarray
    height: np.ndarray
    frame: np.ndarray
    file_name: list[str]
    capture: list[str]
    sequence: list[str]
    camera: list[str]
    annotated: np.ndarray
    hand_type: np.ndarray
    hand_type_valid: np.ndarray
    box: np.ndarray
    joint_valid: np.ndarray


def read_images(path: pathlib.Path, tally: Tally) -> ImageTable:
    """Reads data.json: images and annotations joined on image_id.

    Args:
      path: InterHand2.6M_<split>_data.json.
      tally: receives the troubles.

    Raises:
      SourceError: when the file is missing or damaged.
    """
    tables = {"images": _Images(), "annotations": _Annotations()}
    bad = {
        "images": Trouble.MALFORMED_IMAGE_ENTRY,
        "annotations": Trouble.MALFORMED_ANNOTATION,
    }
    with no_search_for_cycles():
        for key, entries in iterate_pieces(path):
            if key not in tables:
                continue
            try:
                tables[key].add_all(entries)
            except BAD_ENTRY:  # in any of them: which, is found one by one
                for entry in entries:
                    try:
                        tables[key].add(entry)
                    except BAD_ENTRY:
                        tally.add(bad[key], repr(entry)[:80])
    images, annotations = tables["images"], tables["annotations"]
    image_id, width, height, frame = (np.array(column, np.int64) for column in images.numbers)
    rows, annotated = _join(image_id, annotations.image_id(), tally)
    joined = annotations.take(rows)
    return ImageTable(image_id, width, height, frame, *images.texts, annotated, *joined)


class _Images:
    """Columns of images[] while they are read: id, width, height, frame; name and labels."""

    _fields = operator.itemgetter(*_NUMBERS, "file_name", *_LABELS)

    def __init__(self):
        self.numbers = [array.array("q") for _ in _NUMBERS]
        self.texts: list[list[str]] = [[] for _ in ("file_name", *_LABELS)]

    def add(self, entry) -> None:
        """Adds one entry, or raises one of `BAD_ENTRY` and adds nothing."""
        row = [int(entry[name]) for name in _NUMBERS]
        if max(map(abs, row)) >= _LARGEST:
            raise ValueError("number out of range")
        name = entry["file_name"]
        if not isinstance(name, str):
            raise TypeError("file_name is no text")
        labels = [sys.intern(str(entry[label])) for label in _LABELS]
        for column, value in zip(self.numbers, row, strict=True):
            column.append(value)
        for column, text in zip(self.texts, [name, *labels], strict=True):
            column.append(text)

    def add_all(self, entries: list) -> None:
        """Adds entries of the official form, or raises one of `BAD_ENTRY` and adds nothing."""
        columns = list(zip(*map(self._fields, entries), strict=True))
        numbers = [array.array("q", column) for column in columns[:4]]
        if any(min(column) <= -_LARGEST or max(column) >= _LARGEST for column in numbers):
            raise ValueError("number out of range")
        names = columns[4]
        if set(map(type, names)) != {str}:
            raise TypeError("file_name is no text")
        labels = [[sys.intern(str(value)) for value in column] for column in columns[5:]]
        for column, values in zip(self.numbers, numbers, strict=True):
            column.extend(values)
        for column, values in zip(self.texts, [names, *labels], strict=True):
            column.extend(values)


class _Annotations:
    """Columns of annotations[] while they are read."""

    _fields = operator.itemgetter("image_id", "hand_type", "hand_type_valid", "bbox", "joint_valid")

    def __init__(self):
        self._image_id = array.array("q")
        self._hand_type = array.array("b")
        self._valid = array.array("b")
        self._box = array.array("f")
        self._joint_valid = bytearray()

    def add(self, entry) -> None:
        """Adds one entry, or raises one of `BAD_ENTRY` and adds nothing."""
        image_id = int(entry["image_id"])
        hand_type = HAND_TYPES.index(entry["hand_type"])
        valid = bool(entry["hand_type_valid"])
        box = array.array("f", entry["bbox"])
        flags = bytes([1 if flag[0] else 0 for flag in entry["joint_valid"]])
        if len(box) != 4 or len(flags) != ANNOTATED_JOINTS or abs(image_id) >= _LARGEST:
            raise ValueError("wrong size")
        self._image_id.append(image_id)
        self._hand_type.append(hand_type)
        self._valid.append(valid)
        self._box.extend(box)
        self._joint_valid.extend(flags)

    def add_all(self, entries: list) -> None:
        """Adds entries of the official form, or raises one of `BAD_ENTRY` and adds nothing."""
        images, types, valid, boxes, flags = zip(*map(self._fields, entries), strict=True)
        images = array.array("q", images)
        types = array.array("b", map(HAND_TYPES.index, types))
        valid = array.array("b", map(bool, valid))
        flat = list(itertools.chain.from_iterable(flags))
        sizes = (set(map(len, boxes)), set(map(len, flags)), set(map(len, flat)))
        if sizes != ({4}, {ANNOTATED_JOINTS}, {1}):
            raise ValueError("wrong size")
        if min(images) <= -_LARGEST or max(images) >= _LARGEST:
            raise ValueError("number out of range")
        box = array.array("f", itertools.chain.from_iterable(boxes))
        flags = bytes(itertools.chain.from_iterable(flat)).translate(_TRUTH)
        self._image_id.extend(images)
        self._hand_type.extend(types)
        self._valid.extend(valid)
        self._box.extend(box)
        self._joint_valid.extend(flags)

    def image_id(self) -> np.ndarray:
        return np.array(self._image_id, np.int64)

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        """hand_type, hand_type_valid, box, joint_valid of the rows; zeros for row -1."""
        columns = (
            np.array(self._hand_type, np.int8),
            np.array(self._valid, bool),
            np.array(self._box, np.float32).reshape(-1, 4),
            np.frombuffer(bytes(self._joint_valid), bool).reshape(-1, ANNOTATED_JOINTS),
        )
        padded = [np.concatenate([c, np.zeros((1, *c.shape[1:]), c.dtype)]) for c in columns]
        return tuple(column[rows] for column in padded)


def _join(image_id: np.ndarray, named: np.ndarray, tally: Tally) -> tuple[np.ndarray, np.ndarray]:
    """For every image the row of the first annotation that names it, -1 for none."""
    ids, first = np.unique(image_id, return_index=True)
    duplicate = np.ones(len(image_id), bool)
    duplicate[first] = False
    for row in np.flatnonzero(duplicate):
        tally.add(Trouble.DUPLICATE_IMAGE_ID, f"id {image_id[row]}")
    known, annotation_row, uses = np.unique(named, return_index=True, return_counts=True)
    for value in known[uses > 1]:
        tally.add(Trouble.DUPLICATE_ANNOTATION, f"image_id {value}")
    for value in known[_place(ids, known) < 0]:
        tally.add(Trouble.NO_IMAGE_ENTRY, f"image_id {value}")
    place = _place(known, image_id)
    rows = np.where(place >= 0, np.append(annotation_row, -1)[place], -1)
    rows[duplicate] = -1  # which of the two an annotation means cannot be known: the first counts
    for row in np.flatnonzero((rows < 0) & ~duplicate):
        tally.add(Trouble.NO_ANNOTATION, f"id {image_id[row]}")
    return rows, rows >= 0


def _place(rising: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Where each value stands in a rising array, -1 for nowhere."""
    if not len(rising):
        return np.full(len(values), -1)
    place = np.minimum(np.searchsorted(rising, values), len(rising) - 1)
    return np.where(rising[place] == values, place, -1)
