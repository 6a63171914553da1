"""One shard of prepared data: plan its records from annotations, then crop, encode and write.

A shard's file and its note (a small JSON file: key, records, bytes, what was dropped) appear under
their names only when complete, the note last; a shard whose note carries the right key is done.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import pathlib
from typing import Any

import numpy as np

from input_pipeline import crop
from input_pipeline.camera_space import CameraHands, hands_in_camera
from input_pipeline.crop import MARGIN, STORED_SIZE
from input_pipeline.dataset import Record, encode_jpeg, serialize, write_shard
from input_pipeline.files import write_json
from input_pipeline.image_files import is_black, read_photo, safe_path
from input_pipeline.sources.frames import Frame, Reader, wanted_hands, within
from input_pipeline.troubles import FrameTrouble, Trouble
from mano_jax import HandPair

# Part of every shard's key: raise the first number when the same input shall give other bytes.
FORMAT = f"1, {STORED_SIZE} px"
# A hand nearer than this to the camera's plane is no photograph of a hand.
_MIN_DEPTH = 0.05
# Half side of the smallest crop with anything in it, pixels of the photo.
_MIN_HALF_SIDE = 2.0
# What unpacking the photographs once more may mend: looked for again when prepare runs again.
_MENDABLE = {Trouble.IMAGE_MISSING, Trouble.IMAGE_TRUNCATED, Trouble.IMAGE_UNREADABLE}


@dataclasses.dataclass(frozen=True, eq=False)
class Shard:
    """A planned shard.

    Attributes:
      path: its final name.
      note: final name of its note.
      images_folder: folder the records' file names are relative to.
      templates: records that lack only their images.
      dropped: (file name, reason) of frames already dropped.
    """

    path: pathlib.Path
    note: pathlib.Path
    images_folder: pathlib.Path
    templates: list[Record]
    dropped: list[tuple[str, Trouble]]

    @functools.cached_property
    def key(self) -> str:
        """A digest of everything that goes into the shard but the photographs themselves."""
        digest = hashlib.sha256(FORMAT.encode())
        for template in self.templates:
            digest.update(serialize(template))
        digest.update(json.dumps(self.dropped).encode())
        return digest.hexdigest()

    def earlier_note(self) -> dict[str, Any] | None:
        """What an earlier run noted when it wrote this very shard; None for nothing."""
        try:
            note = json.loads(self.note.read_text())
            return note if note["key"] == self.key else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def is_done(self, note: dict[str, Any]) -> bool:
        """Whether the file of that run is there, and no lost photograph has turned up since."""
        if not self.path.is_file() or self.path.stat().st_size != note["bytes"]:
            return False
        return not any(
            reason in _MENDABLE and _trouble_of(self.images_folder, name) != reason
            for name, reason in note["dropped"]
        )


def plan_records(
    reader: Reader,
    indices: list[int],
    config: str,
    hands: HandPair,
) -> tuple[list[Record], list[tuple[str, Trouble]]]:
    """Records without their images; everything here comes from annotations and the hand model.

    Args:
      reader: raw split.
      indices: frames, as `reader.select` numbers them.
      config: "interacting", "single" or "all".
      hands: hand models the annotations were made for.

    Returns:
      The records, and (file name, reason) of the frames that give none.
    """
    frames, templates, dropped = [], [], []
    for index in indices:
        try:
            frames.append(reader.frame(index))
        except FrameTrouble as trouble:
            dropped.append((reader.file_names[index], trouble.reason))
    solved = hands_in_camera(frames, hands) if frames else None
    for row, frame in enumerate(frames):
        try:
            templates.append(_template(frame, solved, row, config))
        except FrameTrouble as trouble:
            dropped.append((frame.file_name, trouble.reason))
    return templates, dropped


def _template(frame: Frame, solved: CameraHands, row: int, config: str) -> Record:
    wanted = wanted_hands(frame.hand_type, config) or (True, True)
    valid = solved.valid[row] & np.array(wanted)
    square = frame.square
    if square is None:
        square = _square(frame, solved.vertices_xyz[row], wanted)
    if not (within(square) and square[2] > _MIN_HALF_SIDE):
        raise FrameTrouble(Trouble.OUTSIDE_PHOTO, f"square {square}")
    parameters = ("global_orient", "hand_pose", "betas", "transl")
    annotated = ("joints_xyz", "joint_valid", "hand_type", "file_name")
    identity = ("capture", "sequence", "camera_name", "frame")
    return Record(
        image=b"",
        camera=crop.crop_camera(frame.camera.intrinsics, square),
        **{name: np.where(valid[:, None], getattr(solved, name)[row], 0) for name in parameters},
        **{name: getattr(frame, name) for name in (*annotated, *identity)},
        hand_valid=valid,
        source_square=square,
        source_size=np.array(frame.size),
    )


def _square(frame: Frame, vertices_xyz: np.ndarray, wanted: tuple[bool, bool]) -> np.ndarray:
    """The crop around the wanted hands' vertices; the joints stand in for a hand without a mesh."""
    points = [np.zeros((0, 3))]
    for side in np.flatnonzero(wanted):
        known = frame.fits[side] is not None
        joints = frame.joints_xyz[side][frame.joint_valid[side]]
        points.append(vertices_xyz[side] if known else joints)
    points = np.concatenate(points)
    if len(points) == 0 or points[:, 2].min() < _MIN_DEPTH:
        raise FrameTrouble(Trouble.BEHIND_CAMERA)
    try:
        return crop.square_around(crop.project(frame.camera.intrinsics, points))
    except ValueError as error:
        raise FrameTrouble(Trouble.OUTSIDE_PHOTO, str(error)) from None


def make_shard(shard: Shard) -> dict[str, Any]:
    """Writes one shard and its note.

    Returns:
      The note: key, records, bytes, dropped [[file name, reason]], notes {reason: count}.

    Raises:
      OSError: when the disk is full or not writable.
    """
    dropped = [list(pair) for pair in shard.dropped]
    differs = 0

    def records():
        nonlocal differs
        for template in shard.templates:
            try:
                record = _with_image(template, shard.images_folder)
            except FrameTrouble as trouble:
                dropped.append([template.file_name, trouble.reason])
                continue
            claimed = template.source_size
            differs += bool(claimed.any() and (claimed != record.source_size).any())
            yield serialize(record)

    count = write_shard(shard.path, records())
    note = {
        "key": shard.key,
        "records": count,
        "bytes": shard.path.stat().st_size,
        "dropped": dropped,
        "notes": {Trouble.IMAGE_SIZE_DIFFERS: differs} if differs else {},
    }
    write_json(shard.note, note)
    return note


def _with_image(template: Record, folder: pathlib.Path) -> Record:
    photo = read_photo(safe_path(folder, template.file_name))
    if is_black(photo):
        raise FrameTrouble(Trouble.IMAGE_BLACK)
    size = np.array(photo.shape[1::-1])
    *centre, half_side = template.source_square
    if not ((np.negative(half_side) < centre) & (centre < size + half_side)).all():
        raise FrameTrouble(Trouble.OUTSIDE_PHOTO)
    window = crop.crop_image(photo, template.source_square, margin=MARGIN)
    return dataclasses.replace(template, image=encode_jpeg(window), source_size=size)


def _trouble_of(folder: pathlib.Path, name: str) -> Trouble | None:
    """What is wrong with a photograph's file."""
    try:
        read_photo(safe_path(folder, name))
    except FrameTrouble as trouble:
        return trouble.reason
    return None
