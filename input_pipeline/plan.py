"""From a raw frame's annotations to a record that lacks only its image.

Everything that needs the hand model happens here, in the preparing process; the image files are
left to the workers (`shards.py`).
"""

from __future__ import annotations

import dataclasses
import zlib
from typing import Protocol

import numpy as np

from input_pipeline import crop
from input_pipeline.annotations import within
from input_pipeline.camera_space import CameraHands, crop_points, hands_in_camera
from input_pipeline.fit_missing import MissingFits
from input_pipeline.frames import Frame, Selection, wanted_hands
from input_pipeline.records import Record
from input_pipeline.troubles import FrameTrouble, Trouble
from mano_jax import HandPair

# The "_small" subsets hold one frame in this many, chosen by file name alone.
SMALL_SHARE = 20
# A hand nearer than this to the camera's plane is no photograph of a hand.
_MIN_DEPTH = 0.05
# Half side of the smallest crop with anything in it, pixels of the photo.
_MIN_HALF_SIDE = 2.0


class Reader(Protocol):
    """What a raw layout's reader offers for one split."""

    images_folder: object

    def __len__(self) -> int: ...

    def select(self, config: str, fit_missing: bool = False) -> Selection:
        """Frames kept and dropped, by their annotations."""

    def frame(self, index: int) -> Frame:
        """Everything annotated about one frame; raises FrameTrouble when it cannot be read."""

    def file_name(self, index: int) -> str:
        """The frame's file name, relative to `images_folder`."""


@dataclasses.dataclass(frozen=True, eq=False)
class ShardPlan:
    """The records of one shard without their images, and the frames dropped on the way."""

    templates: list[Record]
    dropped: list[tuple[str, Trouble]]


def in_small_subset(file_name: str) -> bool:
    """Whether a frame belongs to the small subset."""
    return zlib.crc32(file_name.encode("utf-8", "surrogatepass")) % SMALL_SHARE == 0


def plan_shard(
    reader: Reader,
    indices: list[int],
    config: str,
    hands: HandPair,
    fits: MissingFits | None = None,
) -> ShardPlan:
    """Plans one shard.

    Args:
      reader: raw split.
      indices: frames of the shard, as `reader.select` numbers them.
      config: "interacting", "single" or "all".
      hands: hand models the annotations were made for.
      fits: fits for hands without parameters, when asked for.
    """
    frames, dropped = [], []
    for index in indices:
        try:
            frame = reader.frame(index)
            frames.append(fits.complete(frame, config) if fits else frame)
        except FrameTrouble as trouble:
            dropped.append((reader.file_name(index), trouble.reason))
    if not frames:
        return ShardPlan([], dropped)
    solved = hands_in_camera(frames, hands)
    templates = []
    for row, frame in enumerate(frames):
        try:
            templates.append(_template(frame, solved, row, wanted_hands(frame.hand_type, config)))
        except FrameTrouble as trouble:
            dropped.append((frame.file_name, trouble.reason))
    return ShardPlan(templates, dropped)


def _template(
    frame: Frame, solved: CameraHands, row: int, wanted: tuple[bool, bool] | None
) -> Record:
    wanted = wanted or (True, True)
    valid = solved.valid[row] & np.array(wanted)
    square, intrinsics = frame.square, frame.camera.intrinsics
    if square is None:
        points = crop_points(frame, solved.vertices_xyz[row], wanted)
        if len(points) == 0 or points[:, 2].min() < _MIN_DEPTH:
            raise FrameTrouble(Trouble.BEHIND_CAMERA)
        try:
            square = crop.square_around(crop.project(intrinsics, points))
        except ValueError as error:
            raise FrameTrouble(Trouble.OUTSIDE_PHOTO, str(error)) from None
    if not (within(square) and square[2] > _MIN_HALF_SIDE):
        raise FrameTrouble(Trouble.OUTSIDE_PHOTO, f"square {square}")
    clear = valid[:, None]
    return Record(
        image=b"",
        camera=crop.crop_camera(intrinsics, square),
        global_orient=np.where(clear, solved.global_orient[row], 0),
        hand_pose=np.where(clear, solved.hand_pose[row], 0),
        betas=np.where(clear, solved.betas[row], 0),
        transl=np.where(clear, solved.transl[row], 0),
        hand_valid=valid,
        joints_xyz=frame.joints_xyz,
        joint_valid=frame.joint_valid,
        source_square=square,
        source_size=np.array(frame.size),
        hand_type=frame.hand_type,
        capture=frame.capture,
        sequence=frame.sequence,
        camera_name=frame.camera_name,
        frame=frame.frame,
        file_name=frame.file_name,
    )
