"""The four annotation files of one InterHand2.6M v1.0 split, as compact tables.

Format: https://mks0601.github.io/InterHand2.6M and InterNet's README. Nothing in a file is
trusted: an entry of the wrong form is counted and passed over.
"""

from __future__ import annotations

import array
import dataclasses
import gc
import itertools
import pathlib
import sys
from collections.abc import Callable

import numpy as np

from input_pipeline.json_files import iterate_pieces, load_object
from input_pipeline.sources.frames import (
    BAD_ENTRY,
    LARGEST_INTEGER,
    LIMIT,
    MANO_LIMIT,
    Camera,
    within,
)
from input_pipeline.troubles import Tally, Trouble
from mano_jax.constants import BETAS, JOINTS, SIDES

HAND_TYPES = ("", "right", "left", "interacting")
ANNOTATED_JOINTS = 2 * JOINTS
# Of a hand: pose 48, betas 10, transl 3.
MANO_NUMBERS = 48 + BETAS + 3


def read_images(path: pathlib.Path, tally: Tally) -> dict[str, np.ndarray]:
    """Reads data.json, a piece at a time, and joins images and annotations on image_id.

    A training split has 1.4 million images and the file a gigabyte, so columns are arrays and
    short repeated texts are shared: about 350 bytes an image.

    Args:
      path: InterHand2.6M_<split>_data.json.
      tally: receives the troubles.

    Returns:
      Columns of N images in file order: width, height, frame (N,) int64; file_name, capture,
      sequence, camera (N,) texts; annotated (N,) whether an annotation names the image; hand_type
      (N,) int8 index into `HAND_TYPES`; hand_type_valid (N,); joint_valid (N, 42) bool, official
      joint order.

    Raises:
      SourceError: when the file is missing or damaged.
    """
    images = _Columns(_image_columns, Trouble.MALFORMED_IMAGE_ENTRY)
    annotations = _Columns(_annotation_columns, Trouble.MALFORMED_ANNOTATION)
    columns = {"images": images, "annotations": annotations}
    # A piece is ten thousand lists, and Python's search for circular garbage would look through
    # everything there is again and again: several times as long as the decoding.
    collecting = gc.isenabled()
    gc.disable()
    try:
        for key, entries in iterate_pieces(path):
            if key in columns:
                columns[key].add(entries, tally)
    finally:
        if collecting:
            gc.enable()
    table, annotated = images.joined(), annotations.joined()
    rows = _join(table.pop("image_id"), annotated.pop("image_id"), tally)
    for name, column in annotated.items():
        nothing = np.zeros_like(column, shape=(1, *column.shape[1:]))
        table[name] = np.concatenate([column, nothing])[rows]
    return {**table, "annotated": rows >= 0}


class _Columns:
    """Arrays of what a file's entries hold, collected a piece of neighbouring entries at a time."""

    def __init__(self, convert: Callable[[list], dict[str, np.ndarray]], malformed: Trouble):
        self._convert, self._malformed = convert, malformed
        self._pieces = [convert([])]

    def add(self, entries: list, tally: Tally) -> None:
        """Adds entries; those that are not of the official form are counted instead."""
        try:
            self._pieces.append(self._convert(entries))
        except BAD_ENTRY:  # in any of them: which, is found one by one
            if len(entries) == 1:
                tally.add(self._malformed, repr(entries[0])[:80])
            else:
                for entry in entries:
                    self.add([entry], tally)

    def joined(self) -> dict[str, np.ndarray]:
        """The columns of all entries."""
        return {name: np.concatenate([p[name] for p in self._pieces]) for name in self._pieces[0]}


def _integers(entries: list, name: str) -> np.ndarray:
    column = np.array(array.array("q", [entry[name] for entry in entries]), np.int64)
    if (np.abs(column) >= LARGEST_INTEGER).any():
        raise ValueError(f"{name} out of range")
    return column


def _image_columns(entries: list) -> dict[str, np.ndarray]:
    names = [entry["file_name"] for entry in entries]
    if not set(map(type, names)) <= {str}:
        raise TypeError("file_name is no text")
    numbers = {"image_id": "id", "width": "width", "height": "height", "frame": "frame_idx"}
    labels = {"capture": "capture", "sequence": "seq_name", "camera": "camera"}
    return {
        "file_name": np.array(names, object),
        **{ours: _integers(entries, name) for ours, name in numbers.items()},
        **{
            ours: np.array([sys.intern(str(entry[name])) for entry in entries], object)
            for ours, name in labels.items()
        },
    }


def _annotation_columns(entries: list) -> dict[str, np.ndarray]:
    flags = [entry["joint_valid"] for entry in entries]
    flat = list(itertools.chain.from_iterable(flags))
    if not (set(map(len, flags)) <= {ANNOTATED_JOINTS} and set(map(len, flat)) <= {1}):
        raise ValueError("joint_valid of another size")
    flat = np.frombuffer(bytes(itertools.chain.from_iterable(flat)), np.uint8) > 0
    types = [HAND_TYPES.index(entry["hand_type"]) for entry in entries]
    return {
        "image_id": _integers(entries, "image_id"),
        "hand_type": np.array(types, np.int8),
        "hand_type_valid": np.array([bool(entry["hand_type_valid"]) for entry in entries], bool),
        "joint_valid": flat.reshape(len(entries), ANNOTATED_JOINTS),
    }


def _join(image_id: np.ndarray, named: np.ndarray, tally: Tally) -> np.ndarray:
    """For every image the row of the first annotation that names it, -1 for none."""
    ids, first, place = np.unique(image_id, return_index=True, return_inverse=True)
    known, annotation, uses = np.unique(named, return_index=True, return_counts=True)
    row_of_id = np.full(len(ids), -1)
    shared, at_id, at_known = np.intersect1d(ids, known, return_indices=True)
    row_of_id[at_id] = annotation[at_known]
    rows = row_of_id[place]
    # Which image of several with one id an annotation means cannot be known: the first counts.
    repeated = np.ones(len(image_id), bool)
    repeated[first] = False
    for reason, values in (
        (Trouble.DUPLICATE_IMAGE_ID, image_id[repeated]),
        (Trouble.DUPLICATE_ANNOTATION, known[uses > 1]),
        (Trouble.NO_IMAGE_ENTRY, np.setdiff1d(known, shared)),
        (Trouble.NO_ANNOTATION, image_id[(rows < 0) & ~repeated]),
    ):
        if len(values):
            for value in values[:3]:
                tally.add(reason, f"id {value}", 0)
            tally.counts[reason] += len(values)
    return np.where(repeated, -1, rows)


def read_cameras(path: pathlib.Path, tally: Tally) -> dict[tuple[str, str], Camera]:
    """Reads camera.json: (capture, camera) to calibration; unusable ones are left out.

    The file gives campos in millimetres with X_cam = camrot (X - campos).
    """
    cameras = {}
    for capture, tables in load_object(path).items():
        names = tables.get("campos") if isinstance(tables, dict) else None
        if not isinstance(names, dict) or not names:
            tally.add(Trouble.CAMERA_MALFORMED, f"capture {capture}")
            continue
        for name in names:
            try:
                cameras[capture, name] = _camera(tables, name)
            except BAD_ENTRY as error:
                tally.add(Trouble.CAMERA_MALFORMED, f"capture {capture} camera {name}: {error}")
    return cameras


def _camera(tables: dict, name: str) -> Camera:
    rotation = np.array(tables["camrot"][name], np.float64).reshape(3, 3)
    position = np.array(tables["campos"][name], np.float64).reshape(3)
    focal = np.array(tables["focal"][name], np.float64).reshape(2)
    centre = np.array(tables["princpt"][name], np.float64).reshape(2)
    intrinsics = np.array([[focal[0], 0, centre[0]], [0, focal[1], centre[1]], [0, 0, 1.0]])
    if not within(position):
        raise ValueError("position not finite or absurd")
    return Camera(rotation, -rotation @ position / 1000, intrinsics)


@dataclasses.dataclass(eq=False)
class FrameTable:
    """What a file says of every (capture, frame).

    Attributes:
      row: (capture, frame number) to row; -1, the last row, stands for frames the file lacks.
      columns: arrays of F + 1 rows each.
    """

    row: dict[tuple[str, int], int]
    columns: list[np.ndarray]


def read_joints(path: pathlib.Path | None, tally: Tally) -> FrameTable:
    """Reads joint_3d.json; frames in the v0.0 form are counted and left out.

    Args:
      path: the file, or None for the table of a file that is not there.
      tally: receives the troubles.

    Returns:
      Columns: (F + 1, 42, 3) millimetres, world axes, official joint order; (F + 1, 42) valid.
    """

    def convert(entry: object) -> tuple[np.ndarray, ...] | Trouble:
        if isinstance(entry, list):
            return Trouble.JOINTS_V0
        points = np.array(entry["world_coord"], np.float64).reshape(ANNOTATED_JOINTS, 3)
        valid = np.array(entry.get("joint_valid", [1] * ANNOTATED_JOINTS), np.float64)
        valid = (valid.reshape(ANNOTATED_JOINTS) > 0) & (np.abs(points) < LIMIT).all(-1)
        return np.where(valid[:, None], points, 0.0), valid

    absent = np.zeros((ANNOTATED_JOINTS, 3)), np.zeros(ANNOTATED_JOINTS, bool)
    return _frame_table(path, tally, Trouble.JOINTS_MALFORMED, convert, absent)


def read_mano(path: pathlib.Path | None, tally: Tally) -> FrameTable:
    """Reads MANO_NeuralAnnot.json; unusable hands carry their reason.

    Args:
      path: the file, or None for the table of a file that is not there.
      tally: receives the troubles.

    Returns:
      Columns, hands in the order left, right: (F + 1, 2, 61) pose 48 (axis-angle, root first,
      hands_mean not included), betas 10, transl 3 (metres, world axes); (F + 1, 2) objects, None
      where the hand is usable, else its `Trouble`.
    """

    def row_of(hands: list[np.ndarray | Trouble]) -> tuple[np.ndarray, ...]:
        values = [np.zeros(MANO_NUMBERS) if isinstance(h, Trouble) else h for h in hands]
        reasons = np.array([h if isinstance(h, Trouble) else None for h in hands], object)
        return np.stack(values), reasons

    def convert(entry: object) -> tuple[np.ndarray, ...]:
        return row_of([_hand(entry, side) for side in SIDES])

    absent = row_of([Trouble.MANO_MISSING] * 2)
    return _frame_table(path, tally, Trouble.MANO_MALFORMED, convert, absent)


def _hand(entry: object, side: str) -> np.ndarray | Trouble:
    if not isinstance(entry, dict):
        return Trouble.MANO_MALFORMED
    hand = entry.get(side)
    if hand is None:
        return Trouble.MANO_HAND_NULL
    try:
        parts = [np.array(hand[k], np.float64).ravel() for k in ("pose", "shape", "trans")]
    except BAD_ENTRY:
        return Trouble.MANO_MALFORMED
    if [len(part) for part in parts] != [MANO_NUMBERS - BETAS - 3, BETAS, 3]:
        return Trouble.MANO_MALFORMED
    values = np.concatenate(parts)
    if not np.isfinite(values).all():
        return Trouble.MANO_NOT_FINITE
    return values if within(values, MANO_LIMIT) else Trouble.MANO_MALFORMED


def _frame_table(path, tally: Tally, malformed: Trouble, convert, absent: tuple) -> FrameTable:
    """Table of a file nested capture -> frame -> entry; `convert` gives an entry's row."""
    row: dict[tuple[str, int], int] = {}
    rows: list[tuple[np.ndarray, ...]] = []
    for capture, frames in load_object(path).items() if path else ():
        if not isinstance(frames, dict):
            tally.add(malformed, f"capture {capture}")
            continue
        for frame, entry in frames.items():
            try:
                number, found = int(frame), convert(entry)
            except BAD_ENTRY:
                found = malformed
            if isinstance(found, Trouble):
                tally.add(found, f"capture {capture} frame {frame[:20]}")
                continue
            row[capture, number] = len(rows)
            rows.append(found)
    rows.append(absent)
    return FrameTable(row, [np.stack(column) for column in zip(*rows, strict=True)])
