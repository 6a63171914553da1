"""Reader of the official InterHand2.6M v1.0 layout (and so of the synthesiser's output).

source/images/<split>/Capture*/<sequence>/cam<id>/image<frame>.jpg
source/annotations/<split>/InterHand2.6M_<split>_{data,camera,joint_3d,MANO_NeuralAnnot}.json

Format: https://mks0601.github.io/InterHand2.6M and InterNet's README. Nothing in a file is
trusted: an entry of the wrong form is counted and passed over.
"""

from __future__ import annotations

import os
import pathlib
import struct
import sys
from typing import Any

import cv2
import numpy as np

from input_pipeline.image_files import safe_path
from input_pipeline.json_files import iterate_arrays, load_object
from input_pipeline.sources.frames import (
    BAD_ENTRY,
    LARGEST_INTEGER,
    LIMIT,
    MANO_LIMIT,
    SPLITS,
    Camera,
    Frame,
    HandFit,
    Reader,
    Selection,
    wanted_hands,
    within,
)
from input_pipeline.troubles import FrameTrouble, SourceError, Tally, Trouble
from mano_jax.constants import BETAS, JOINTS, SIDES

KINDS = ("data", "camera", "joint_3d", "MANO_NeuralAnnot")
HAND_TYPES = ("", "right", "left", "interacting")
ANNOTATED_JOINTS = 2 * JOINTS
# Of a hand: pose 48, betas 10, transl 3.
MANO_NUMBERS = 48 + BETAS + 3
# Our joint j of a hand is the official joint _OFFICIAL[j]: officially every finger runs from tip
# to base, thumb to pinky, and the wrist comes last. Of the 42 the right hand's come first.
_OFFICIAL = np.array([20, *(4 * finger + 3 - i for finger in range(5) for i in range(4))])
OFFICIAL_ORDER = np.stack([_OFFICIAL + JOINTS, _OFFICIAL])


def annotation_path(source: str | os.PathLike, split: str, kind: str) -> pathlib.Path:
    """Path of one annotation file; kind is one of `KINDS`."""
    return pathlib.Path(source) / "annotations" / split / f"InterHand2.6M_{split}_{kind}.json"


class InterhandSplit(Reader):
    """One split of the official layout; `images` is the table of `read_images`."""

    def __init__(self, source: str | os.PathLike, split: str):
        """Reads the annotation files; no image is opened.

        Raises:
          SourceError: when data.json or camera.json is missing or damaged. A missing joint_3d or
            MANO file is noted in `missing` instead.
        """
        super().__init__(pathlib.Path(source) / "images" / split)
        data, camera, joint_3d, mano = (annotation_path(source, split, kind) for kind in KINDS)
        self.images = table = read_images(data, self.tally)
        self.file_names = table["file_name"]
        self.hand_types = np.array(HAND_TYPES, object)[table["hand_type"]]
        cameras = read_cameras(camera, self.tally)
        self._cameras = [
            cameras.get(k) for k in zip(table["capture"], table["camera"], strict=True)
        ]
        self._camera_known = np.array([camera is not None for camera in self._cameras], bool)
        joints, columns = self._optional("joint_3d", read_joints, joint_3d)
        self._joints_mm, self._joints_valid = columns
        hands, columns = self._optional("MANO_NeuralAnnot", read_mano, mano)
        self._mano, self._mano_trouble = columns
        keys = list(zip(table["capture"], table["frame"].tolist(), strict=True))
        self._joint_row, self._mano_row = (
            np.array([row.get(key, -1) for key in keys], np.int64) for row in (joints, hands)
        )

    def _optional(self, kind: str, read, path: pathlib.Path) -> FrameTable:
        try:
            return read(path, self.tally)
        except SourceError as error:
            self.missing[kind] = str(error)
            return read(None, self.tally)

    @staticmethod
    def splits(source: pathlib.Path) -> list[str] | None:
        """Splits with a folder of annotations; None without a folder for them all."""
        folder = source / "annotations"
        return [s for s in SPLITS if (folder / s).is_dir()] if folder.is_dir() else None

    def select(self, config: str) -> Selection:
        """As `Reader.select`, for all images at once."""
        wanted = [wanted_hands(hand_type, config) for hand_type in HAND_TYPES]
        taken = np.array([hands is not None for hands in wanted])
        wanted = np.array([hands or (False, False) for hands in wanted])
        table = self.images
        rows = np.flatnonzero(table["annotated"] & taken[table["hand_type"]])
        wanted = wanted[table["hand_type"][rows]]
        troubles = self._mano_trouble[self._mano_row[rows]]
        unusable = wanted & np.not_equal(troubles, None).astype(bool)
        # In "all", one usable hand of two is enough: hand_valid tells them apart.
        bad = ~(wanted & ~unusable).any(1) if config == "all" else unusable.any(1)
        reasons = np.where(bad, troubles[np.arange(len(rows)), unusable.argmax(1)], None)
        reasons = np.where(self._camera_known[rows], reasons, Trouble.CAMERA_MISSING)
        reasons = np.where(table["hand_type_valid"][rows], reasons, Trouble.HAND_TYPE_NOT_VALID)
        dropped = np.not_equal(reasons, None).astype(bool)
        chosen = Selection(kept=rows[~dropped].tolist())
        chosen.other_type = int(table["annotated"].sum()) - len(rows)
        for index, reason in zip(rows[dropped].tolist(), reasons[dropped], strict=True):
            chosen.dropped.append((self.file_names[index], Trouble(reason)))
        for index in np.flatnonzero(~table["annotated"]):
            chosen.dropped.append((self.file_names[index], Trouble.NO_ANNOTATION))
        return chosen

    def frame(self, index: int) -> Frame:
        """Everything annotated about one image, 0 .. len - 1; no file is opened."""
        table, camera = self.images, self._cameras[index]
        joints, valid = np.zeros((2, JOINTS, 3)), np.zeros((2, JOINTS), bool)
        if camera is not None:
            world = self._joints_mm[self._joint_row[index]][OFFICIAL_ORDER] / 1000
            valid = self._joints_valid[self._joint_row[index]] & table["joint_valid"][index]
            valid = valid[OFFICIAL_ORDER]
            joints = np.where(valid[..., None], world @ camera.rotation.T + camera.translation, 0)
        return Frame(
            **{name: table[name][index] for name in ("file_name", "capture", "sequence")},
            hand_type=self.hand_types[index],
            camera=camera,
            fits=self._fits(self._mano_row[index]),
            camera_name=table["camera"][index],
            frame=int(table["frame"][index]),
            size=(int(table["width"][index]), int(table["height"][index])),
            joints_xyz=joints,
            joint_valid=valid,
        )

    def _fits(self, row: int) -> tuple[HandFit | None, HandFit | None]:
        fits: list[HandFit | None] = [None, None]
        for side, trouble in enumerate(self._mano_trouble[row]):
            if trouble is None:
                root, pose, betas, transl = np.split(self._mano[row, side], [3, 48, 48 + BETAS])
                fits[side] = HandFit(cv2.Rodrigues(root)[0], pose, betas, transl)
        return tuple(fits)

    def describe(self) -> dict[str, Any]:
        """What the annotations name, for `check`; adds troubles seen only in several"""
        table = self.images
        annotated = np.flatnonzero(table["annotated"])
        for reason, known in (
            (Trouble.JOINTS_MISSING, self._joint_row[annotated] >= 0),
            (Trouble.CAMERA_MISSING, self._camera_known[annotated]),
        ):
            told = reason is Trouble.JOINTS_MISSING and (
                "joint_3d" in self.missing or self.tally.counts[Trouble.JOINTS_V0]
            )
            absent = annotated[~known]
            if len(absent) and not told:
                self.tally.add(reason, self.file_names[absent[0]], len(absent))
        return {
            **super().describe(),
            "annotation_files": {kind: self.missing.get(kind, "ok") for kind in KINDS},
            "captures": sorted(set(table["capture"]), key=lambda name: (len(name), name)),
            "missing_folders": self._missing_folders(),
        }

    def _missing_folders(self) -> list[str]:
        """Captures, and sequences of others, that a half unpacked archive lacks as a whole."""
        folders = {
            name.rsplit("/", 2)[0] for name in self.images["file_name"] if name.count("/") > 1
        }
        missing: list[str] = []
        for name in sorted({name.split("/", 1)[0] for name in folders}) + sorted(folders):
            try:
                there = safe_path(self.images_folder, name).is_dir()
            except FrameTrouble:
                continue  # counted with its image
            if not there and name.split("/", 1)[0] not in missing:
                missing.append(name)
        return missing


# --- The four files as compact tables ------------------------------------------------------------


def read_images(path: pathlib.Path, tally: Tally) -> dict[str, np.ndarray]:
    """Reads data.json, an entry at a time, and joins images and annotations on image_id.

    A training split has 1.4 million images, so rows are packed into arrays and short repeated
    texts are shared: about 350 bytes an image.

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
    texts, images, annotations = [], bytearray(), bytearray()
    for key, entry in iterate_arrays(path):
        try:
            if key == "images":
                words, numbers = _image_row(entry)
                texts.append(words)
                images += numbers
            elif key == "annotations":
                annotations += _annotation_row(entry)
        except (*BAD_ENTRY, struct.error):
            image = key == "images"
            reason = Trouble.MALFORMED_IMAGE_ENTRY if image else Trouble.MALFORMED_ANNOTATION
            tally.add(reason, repr(entry)[:80])
    images, annotations = np.frombuffer(images, _IMAGE), np.frombuffer(annotations, _ANNOTATION)
    table = dict(zip(_TEXTS, np.array(texts, object).reshape(-1, len(_TEXTS)).T, strict=True))
    table |= {name: images[name] for name in ("width", "height", "frame")}
    rows = _join(images["image_id"], annotations["image_id"], tally)
    annotations = np.append(annotations, np.zeros(1, _ANNOTATION))[
        rows
    ]  # -1: the nothing at the end
    table |= {name: annotations[name] for name in ("hand_type", "hand_type_valid", "joint_valid")}
    return {**table, "annotated": rows >= 0}


_TEXTS = ("file_name", "capture", "sequence", "camera")
_IMAGE = np.dtype([(name, "<i8") for name in ("image_id", "width", "height", "frame")])
_ANNOTATION = np.dtype(
    [("image_id", "<i8"), ("hand_type", "i1"), ("hand_type_valid", "?")]
    + [("joint_valid", "?", (ANNOTATED_JOINTS,))]
)
_pack_image = struct.Struct("<4q").pack
_pack_annotation = struct.Struct(f"<qb?{ANNOTATED_JOINTS}?").pack


def _image_row(entry: dict) -> tuple[tuple[str, ...], bytes]:
    """An image's texts, shared where they repeat, and its numbers."""
    numbers = [entry[name] for name in ("id", "width", "height", "frame_idx")]
    if not isinstance(entry["file_name"], str) or max(map(abs, numbers)) >= LARGEST_INTEGER:
        raise ValueError("no text or no number")
    words = (sys.intern(str(entry[name])) for name in ("capture", "seq_name", "camera"))
    return (entry["file_name"], *words), _pack_image(*numbers)


def _annotation_row(entry: dict) -> bytes:
    valid = [flag > 0 for (flag,) in entry["joint_valid"]]
    kind = HAND_TYPES.index(entry["hand_type"])
    return _pack_annotation(entry["image_id"], kind, bool(entry["hand_type_valid"]), *valid)


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


FrameTable = tuple[dict[tuple[str, int], int], list[np.ndarray]]
"""What a file says of every (capture, frame): the row of each, and columns of F + 1 rows, of which
the last, -1, stands for frames that the file lacks."""


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
    return row, [np.stack(column) for column in zip(*rows, strict=True)]
