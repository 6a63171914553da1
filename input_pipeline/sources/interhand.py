"""Reader of the official InterHand2.6M v1.0 layout (and so of the synthesiser's output).

source/images/<split>/Capture*/<sequence>/cam<id>/image<frame>.jpg
source/annotations/<split>/InterHand2.6M_<split>_{data,camera,joint_3d,MANO_NeuralAnnot}.json
"""

from __future__ import annotations

import os
import pathlib
from typing import Any

import cv2
import numpy as np

from input_pipeline.image_files import safe_path
from input_pipeline.sources import interhand_files as files
from input_pipeline.sources.frames import SPLITS, Frame, HandFit, Reader, Selection, wanted_hands
from input_pipeline.sources.interhand_files import HAND_TYPES
from input_pipeline.troubles import FrameTrouble, SourceError, Trouble
from mano_jax.constants import BETAS, JOINTS

KINDS = ("data", "camera", "joint_3d", "MANO_NeuralAnnot")
# Fewer joints of a hand leave too much to guess for a fit.
MIN_JOINTS = 16

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
        self.images = table = files.read_images(data, self.tally)
        self.file_names = table["file_name"]
        self.hand_types = np.array(HAND_TYPES, object)[table["hand_type"]]
        cameras = files.read_cameras(camera, self.tally)
        self._cameras = [
            cameras.get(k) for k in zip(table["capture"], table["camera"], strict=True)
        ]
        self._camera_known = np.array([camera is not None for camera in self._cameras], bool)
        joints = self._optional("joint_3d", files.read_joints, joint_3d)
        self._joints_mm, self._joints_valid = joints.columns
        hands = self._optional("MANO_NeuralAnnot", files.read_mano, mano)
        self._mano, self._mano_trouble = hands.columns
        keys = list(zip(table["capture"], table["frame"].tolist(), strict=True))
        self._joint_row, self._mano_row = (
            np.array([found.row.get(key, -1) for key in keys], np.int64)
            for found in (joints, hands)
        )

    def _optional(self, kind: str, read, path: pathlib.Path) -> files.FrameTable:
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

    def select(self, config: str, fit_missing: bool = False) -> Selection:
        """As `Reader.select`, for all images at once."""
        wanted = [wanted_hands(hand_type, config) for hand_type in HAND_TYPES]
        taken = np.array([hands is not None for hands in wanted])
        wanted = np.array([hands or (False, False) for hands in wanted])
        table = self.images
        rows = np.flatnonzero(table["annotated"] & taken[table["hand_type"]])
        wanted = wanted[table["hand_type"][rows]]
        troubles = self._mano_trouble[self._mano_row[rows]]
        unusable = wanted & np.not_equal(troubles, None).astype(bool)
        if fit_missing:
            known = self._known_joints(rows)[:, OFFICIAL_ORDER].sum(-1)
            unusable &= known < MIN_JOINTS
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

    def _known_joints(self, rows) -> np.ndarray:
        """(..., 42) which joints of images are annotated, in both files that say so."""
        return self._joints_valid[self._joint_row[rows]] & self.images["joint_valid"][rows]

    def frame(self, index: int) -> Frame:
        """Everything annotated about one image, 0 .. len - 1; no file is opened."""
        table, camera = self.images, self._cameras[index]
        joints, valid = np.zeros((2, JOINTS, 3)), np.zeros((2, JOINTS), bool)
        if camera is not None:
            world = self._joints_mm[self._joint_row[index]][OFFICIAL_ORDER] / 1000
            valid = self._known_joints(index)[OFFICIAL_ORDER]
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
        """What the annotations name, for `check`; adds troubles seen only in several files."""
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
