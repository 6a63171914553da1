"""Reader of a plain folder of photographs with boxes, and joints when they are known.

    source/annotations.json
    source/images/...            any folders, JPEG or PNG

annotations.json holds {"images": [entry, ...]}; an entry has

    file_name   relative to source/images
    box         [x, y, width, height] around both hands, pixels
    hand_type   "interacting" (default), "left" or "right"
    camera      optional 3x3 intrinsics, pixels
    joints_xyz  optional [left, right], each 21 x [x, y, z] metres in camera axes or null; order
                wrist, then four each of thumb, index, middle, ring, pinky, base to tip; a joint
                that is not known is null
    sequence, frame  optional identity

For photographs in the wild (RGB2Hands, EgoHands, 100DOH: boxes) and sets with measured joints
(Tzionas et al.). There are no meshes, so such data serves evaluation and prediction only; it is
prepared as the split "test".
"""

from __future__ import annotations

import os
import pathlib

import numpy as np

from input_pipeline.crop import square_around_box
from input_pipeline.json_files import iterate_arrays
from input_pipeline.sources.frames import (
    BAD_ENTRY,
    LARGEST_INTEGER,
    Camera,
    Frame,
    Reader,
    within,
)
from input_pipeline.troubles import Trouble
from mano_jax.constants import JOINTS

ANNOTATIONS = "annotations.json"
# Stands in where no calibration is known; predictions are relative and do not depend on it.
_NOMINAL_FOCAL = 1500.0


class FolderSplit(Reader):
    """The photographs of one folder."""

    def __init__(self, source: str | os.PathLike, split: str = "test"):
        """Reads annotations.json.

        Raises:
          SourceError: when it is damaged.
        """
        super().__init__(pathlib.Path(source) / "images")
        self._frames: list[Frame] = []
        for key, entry in iterate_arrays(pathlib.Path(source) / ANNOTATIONS):
            if key != "images":
                continue
            try:
                self._frames.append(_frame(entry, len(self._frames)))
            except BAD_ENTRY:
                self.tally.add(Trouble.MALFORMED_IMAGE_ENTRY, repr(entry)[:80])
        self.file_names = [frame.file_name for frame in self._frames]
        self.hand_types = [frame.hand_type for frame in self._frames]

    @staticmethod
    def splits(source: pathlib.Path) -> list[str] | None:
        """Always the one split, test; None without annotations.json."""
        return ["test"] if (source / ANNOTATIONS).is_file() else None

    def frame(self, index: int) -> Frame:
        """One photograph with its square and joints."""
        return self._frames[index]


def _frame(entry: dict, number: int) -> Frame:
    name, hand_type = entry["file_name"], entry.get("hand_type", "interacting")
    if not isinstance(name, str) or hand_type not in ("interacting", "left", "right"):
        raise ValueError("file_name or hand_type")
    square = square_around_box(np.array(entry["box"], np.float64).reshape(4))
    intrinsics = entry.get("camera")
    if intrinsics is None:
        x, y = square[:2]
        intrinsics = [[_NOMINAL_FOCAL, 0, x], [0, _NOMINAL_FOCAL, y], [0, 0, 1]]
    intrinsics = np.array(intrinsics, np.float64).reshape(3, 3)
    joints, valid = _joints(entry.get("joints_xyz") or (None, None))
    frame_number = int(entry.get("frame", number))
    if not within(square) or abs(frame_number) >= LARGEST_INTEGER:
        raise ValueError("box or frame")
    return Frame(
        file_name=name,
        hand_type=hand_type,
        camera=Camera(np.eye(3), np.zeros(3), intrinsics),
        sequence=str(entry.get("sequence", "")),
        frame=frame_number,
        square=square,
        joints_xyz=joints,
        joint_valid=valid,
    )


def _joints(hands) -> tuple[np.ndarray, np.ndarray]:
    joints, valid = np.zeros((2, JOINTS, 3)), np.zeros((2, JOINTS), bool)
    for side, points in enumerate(hands):
        if points is None:
            continue
        if len(points) != JOINTS:
            raise ValueError("joints_xyz")
        for joint, point in enumerate(points):
            if point is not None:
                joints[side, joint] = np.array(point, np.float64).reshape(3)
                valid[side, joint] = within(joints[side, joint])
    return np.where(valid[..., None], joints, 0.0), valid
