"""data.json of one InterHand2.6M v1.0 split: images joined with their annotations.

A training split has 1.4 million images and the file a gigabyte, so entries are decoded one at a
time, columns are arrays and short repeated texts are shared: about 350 bytes an image.
"""

from __future__ import annotations

import array
import dataclasses
import pathlib
import sys

import numpy as np

from input_pipeline.annotations import ANNOTATED_JOINTS, BAD_ENTRY
from input_pipeline.json_files import iterate_arrays
from input_pipeline.troubles import Tally, Trouble

HAND_TYPES = ("", "right", "left", "interacting")


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
    numbers = [array.array("q") for _ in range(4)]  # id, width, height, frame
    texts: list[list[str]] = [[] for _ in range(4)]  # file name, capture, sequence, camera
    annotations = _Annotations()
    for key, entry in iterate_arrays(path):
        try:
            if key == "images":
                row = [int(entry[name]) for name in ("id", "width", "height", "frame_idx")]
                if max(map(abs, row)) >= 1 << 62:
                    raise ValueError("number out of range")
                name = entry["file_name"]
                if not isinstance(name, str):
                    raise TypeError("file_name is no text")
                labels = [sys.intern(str(entry[k])) for k in ("capture", "seq_name", "camera")]
                for column, value in zip(numbers, row, strict=True):
                    column.append(value)
                for column, text in zip(texts, [name, *labels], strict=True):
                    column.append(text)
            elif key == "annotations":
                annotations.add(entry)
        except BAD_ENTRY:
            bad = Trouble.MALFORMED_IMAGE_ENTRY
            if key == "annotations":
                bad = Trouble.MALFORMED_ANNOTATION
            tally.add(bad, repr(entry)[:80])
    image_id, width, height, frame = (np.array(column, np.int64) for column in numbers)
    rows, annotated = _join(image_id, annotations.image_id(), tally)
    joined = annotations.take(rows)
    return ImageTable(image_id, width, height, frame, *texts, annotated, *joined)


class _Annotations:
    """Columns of annotations[] while they are read."""

    def __init__(self):
        self._image_id = array.array("q")
        self._hand_type = array.array("b")
        self._valid = array.array("b")
        self._box = array.array("f")
        self._joint_valid = bytearray()

    def add(self, entry) -> None:
        image_id = int(entry["image_id"])
        hand_type = HAND_TYPES.index(entry["hand_type"])
        valid = bool(entry["hand_type_valid"])
        box = array.array("f", entry["bbox"])
        flags = bytes([1 if flag[0] else 0 for flag in entry["joint_valid"]])
        if len(box) != 4 or len(flags) != ANNOTATED_JOINTS or abs(image_id) >= 1 << 62:
            raise ValueError("wrong size")
        self._image_id.append(image_id)
        self._hand_type.append(hand_type)
        self._valid.append(valid)
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
    _, first = np.unique(image_id, return_index=True)
    for row in np.setdiff1d(np.arange(len(image_id)), first):
        tally.add(Trouble.DUPLICATE_IMAGE_ID, f"id {image_id[row]}")
    known, annotation_row, uses = np.unique(named, return_index=True, return_counts=True)
    for value in known[uses > 1]:
        tally.add(Trouble.DUPLICATE_ANNOTATION, f"image_id {value}")
    for value in np.setdiff1d(known, image_id):
        tally.add(Trouble.NO_IMAGE_ENTRY, f"image_id {value}")
    rows = np.full(len(image_id), -1)
    if len(known):
        place = np.minimum(np.searchsorted(known, image_id), len(known) - 1)
        rows = np.where(known[place] == image_id, annotation_row[place], -1)
    duplicate = np.ones(len(image_id), bool)
    duplicate[first] = False
    rows[duplicate] = -1  # which of the two an annotation means cannot be known: the first counts
    for row in np.flatnonzero((rows < 0) & ~duplicate):
        tally.add(Trouble.NO_ANNOTATION, f"id {image_id[row]}")
    return rows, rows >= 0
