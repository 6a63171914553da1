"""Reader of the official InterHand2.6M v1.0 layout (and so of the synthesiser's output).

source/images/<split>/Capture*/<sequence>/cam<id>/image<frame>.jpg
source/annotations/<split>/InterHand2.6M_<split>_{data,camera,joint_3d,MANO_NeuralAnnot}.json
"""

from __future__ import annotations

import functools
import os
import pathlib

import cv2
import numpy as np

from input_pipeline import annotations as files
from input_pipeline.annotations import ANNOTATED_JOINTS
from input_pipeline.fit_missing import MIN_JOINTS
from input_pipeline.frames import Camera, Frame, HandFit, Selection, wanted_hands
from input_pipeline.image_table import HAND_TYPES, ImageTable, read_images
from input_pipeline.troubles import SourceError, Tally, Trouble
from mano_jax.constants import JOINTS

SPLITS = ("train", "val", "test")
REQUIRED = ("data", "camera")
OPTIONAL = ("joint_3d", "MANO_NeuralAnnot")

# Our joint j of a hand is the official joint OFFICIAL_JOINT[j]: officially every finger runs from
# tip to base, thumb to pinky, and the wrist comes last.
OFFICIAL_JOINT = np.array([20, *(4 * finger + 3 - i for finger in range(5) for i in range(4))])
# Hands (left, right) among the 42: the right hand comes first.
OFFICIAL_ORDER = np.stack([OFFICIAL_JOINT + JOINTS, OFFICIAL_JOINT])


def is_official(source: str | os.PathLike) -> bool:
    """Whether a folder looks like the official layout (perhaps incomplete)."""
    return (pathlib.Path(source) / "annotations").is_dir()


def splits_present(source: str | os.PathLike) -> list[str]:
    """Splits with a folder of annotations."""
    return [s for s in SPLITS if (pathlib.Path(source) / "annotations" / s).is_dir()]


class InterhandSplit:
    """One split of the official layout.

    Attributes:
      source, split: where it came from.
      images_folder: folder that file names are relative to.
      images: the `ImageTable`.
      tally: troubles found while reading the annotation files.
      missing: kinds of annotation files that are not there or not readable, with the reason.
      mano_row, joint_row: (N,) row of each image in `mano` and `joints`, -1 for none.
    """

    def __init__(self, source: str | os.PathLike, split: str):
        """Reads the annotation files; no image is opened.

        Raises:
          SourceError: when data.json or camera.json is missing or damaged. A missing joint_3d or
            MANO file is noted in `missing` instead.
        """
        self.source, self.split = pathlib.Path(source), split
        self.images_folder = self.source / "images" / split
        self.tally = Tally()
        self.missing: dict[str, str] = {}
        paths = {kind: files.annotation_path(self.source, split, kind) for kind in REQUIRED}
        self.images: ImageTable = read_images(paths["data"], self.tally)
        self.cameras = files.read_cameras(paths["camera"], self.tally)
        self.joints = self._optional("joint_3d", files.read_joints)
        self.mano = self._optional("MANO_NeuralAnnot", files.read_mano)
        keys = list(zip(self.images.capture, self.images.frame.tolist(), strict=True))
        self.joint_row = _rows(self.joints.row if self.joints else {}, keys)
        self.mano_row = _rows(self.mano.row if self.mano else {}, keys)

    def _optional(self, kind: str, read):
        path = files.annotation_path(self.source, self.split, kind)
        try:
            return read(path, self.tally)
        except SourceError as error:
            self.missing[kind] = str(error)
            return None

    def __len__(self) -> int:
        return len(self.images.file_name)

    def file_name(self, index: int) -> str:
        """As annotated, relative to `images_folder`."""
        return self.images.file_name[index]

    def camera(self, index: int) -> Camera | None:
        """Calibration of one image's camera, None when camera.json does not have it."""
        return self.cameras.get((self.images.capture[index], self.images.camera[index]))

    def hand_type(self, index: int) -> str:
        """Annotated "interacting", "left" or "right"; "" without an annotation."""
        return HAND_TYPES[self.images.hand_type[index]]

    def mano_trouble(self, index: int) -> tuple[Trouble | None, Trouble | None]:
        """What keeps the left and right hand's MANO parameters from use; None for nothing."""
        row = self.mano_row[index]
        if row < 0:
            return Trouble.MANO_MISSING, Trouble.MANO_MISSING
        return tuple(self.mano.trouble[row])

    def select(self, config: str, fit_missing: bool = False) -> Selection:
        """Splits the images into those a configuration keeps and those it drops, with reasons.

        Only annotations are looked at; image files and geometry are judged while preparing.

        Args:
          config: "interacting", "single" or "all" (see `wanted_hands`).
          fit_missing: keep frames without MANO parameters too, if they have joints to fit.
        """
        wanted = [wanted_hands(hand_type, config) for hand_type in HAND_TYPES]
        taken = np.array([hands is not None for hands in wanted])
        wanted = np.array([hands or (False, False) for hands in wanted])
        table = self.images
        rows = np.flatnonzero(table.annotated & taken[table.hand_type])
        wanted = wanted[table.hand_type[rows]]
        unusable = wanted & self._hand_unusable[self.mano_row[rows]]
        if fit_missing:
            unusable &= ~self._joints_known(rows)
        # In "all", one usable hand of two is enough: hand_valid tells them apart.
        bad = ~(wanted & ~unusable).any(1) if config == "all" else unusable.any(1)
        drop = ~table.hand_type_valid[rows] | ~self.camera_known[rows] | bad
        chosen = Selection(kept=rows[~drop].tolist())
        chosen.other_type = int(table.annotated.sum()) - len(rows)
        for index, unusable_hands in zip(rows[drop].tolist(), unusable[drop], strict=True):
            chosen.dropped.append((table.file_name[index], self._reason(index, unusable_hands)))
        for index in np.flatnonzero(~table.annotated):
            chosen.dropped.append((table.file_name[index], Trouble.NO_ANNOTATION))
        return chosen

    @functools.cached_property
    def camera_known(self) -> np.ndarray:
        """(N,) whether camera.json has each image's camera."""
        keys = zip(self.images.capture, self.images.camera, strict=True)
        return np.fromiter((key in self.cameras for key in keys), bool, len(self))

    @functools.cached_property
    def _hand_unusable(self) -> np.ndarray:
        """(F + 1, 2) for each row of `mano` whether a hand is of no use; both in the last, none."""
        known = np.zeros((0, 2), bool)
        if self.mano is not None:
            known = np.not_equal(self.mano.trouble, None).astype(bool)
        return np.concatenate([known, np.ones((1, 2), bool)])

    def _reason(self, index: int, unusable: np.ndarray) -> Trouble:
        """Why an image is dropped, given which (2,) hands keep it from use."""
        if not self.images.hand_type_valid[index]:
            return Trouble.HAND_TYPE_NOT_VALID
        if not self.camera_known[index]:
            return Trouble.CAMERA_MISSING
        return self.mano_trouble(index)[int(np.argmax(unusable))]

    def _joints_known(self, rows: np.ndarray) -> np.ndarray:
        """(n, 2) whether images' hands have joints enough for a fit."""
        if self.joints is None:
            return np.zeros((len(rows), 2), bool)
        joint_row = self.joint_row[rows]
        known = np.zeros((len(rows), ANNOTATED_JOINTS), bool)
        there = joint_row >= 0
        known[there] = self.joints.valid[joint_row[there]] & self.images.joint_valid[rows[there]]
        return known[:, OFFICIAL_ORDER].sum(-1) >= MIN_JOINTS

    def frame(self, index: int) -> Frame:
        """Everything annotated about one image; no file is opened.

        Args:
          index: position in images[], 0 .. len - 1.
        """
        table, camera = self.images, self.camera(index)
        joints, valid = np.zeros((2, JOINTS, 3)), np.zeros((2, JOINTS), bool)
        if camera is not None and self.joint_row[index] >= 0:
            row = self.joint_row[index]
            known = self.joints.valid[row] & table.joint_valid[index]
            world = self.joints.world_mm[row][OFFICIAL_ORDER] / 1000
            valid = known[OFFICIAL_ORDER]
            joints = np.where(valid[..., None], world @ camera.rotation.T + camera.translation, 0)
        return Frame(
            folder=str(self.images_folder),
            file_name=table.file_name[index],
            size=(int(table.width[index]), int(table.height[index])),
            hand_type=self.hand_type(index),
            capture=table.capture[index],
            sequence=table.sequence[index],
            camera_name=table.camera[index],
            frame=int(table.frame[index]),
            box=table.box[index] if table.annotated[index] else None,
            camera=camera,
            fits=self._fits(index),
            joints_xyz=joints,
            joint_valid=valid,
        )

    def _fits(self, index: int) -> tuple[HandFit | None, HandFit | None]:
        row = self.mano_row[index]
        return tuple(
            None
            if trouble is not None
            else HandFit(
                cv2.Rodrigues(self.mano.pose[row, side, :3])[0],
                self.mano.pose[row, side, 3:],
                self.mano.betas[row, side],
                self.mano.transl[row, side],
            )
            for side, trouble in enumerate(self.mano_trouble(index))
        )


def _rows(known: dict, keys: list) -> np.ndarray:
    return np.array([known.get(key, -1) for key in keys], np.int64)
