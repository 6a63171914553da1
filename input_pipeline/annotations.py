"""Cameras, joints and MANO parameters of one InterHand2.6M v1.0 split, as compact tables.

Format: https://mks0601.github.io/InterHand2.6M and InterNet's README. `image_table.py` reads the
fourth file. Nothing in a file is trusted: an entry of the wrong form is counted and passed over.
"""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np

from input_pipeline.frames import Camera
from input_pipeline.json_files import load_object
from input_pipeline.troubles import Tally, Trouble
from mano_jax.constants import BETAS, JOINTS, SIDES

ANNOTATED_JOINTS = 2 * JOINTS
_POSE = 48
# What an entry of the wrong form raises while it is taken apart.
BAD_ENTRY = (KeyError, TypeError, ValueError, OverflowError, IndexError)

# Beyond these (pixels, millimetres; radians, metres) numbers are damage, and would overflow later.
LIMIT = 1e6
MANO_LIMIT = 1e3


def within(values: np.ndarray, limit: float = LIMIT) -> bool:
    """Whether all values are finite and below the limit in size."""
    return bool((np.abs(values) < limit).all())


def annotation_path(source: pathlib.Path, split: str, kind: str) -> pathlib.Path:
    """Path of one file; kind is data, camera, joint_3d or MANO_NeuralAnnot."""
    return source / "annotations" / split / f"InterHand2.6M_{split}_{kind}.json"


def read_cameras(path: pathlib.Path, tally: Tally) -> dict[tuple[str, str], Camera]:
    """Reads camera.json: (capture, camera) to calibration; unusable ones are left out.

    The file gives campos in millimetres with X_cam = camrot (X - campos).
    """
    cameras = {}
    for capture, tables in load_object(path).items():
        names = tables.get("campos", {}) if isinstance(tables, dict) else {}
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
    if not all(within(part) for part in (rotation, position, focal, centre)):
        raise ValueError("numbers that are not finite or absurd")
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-2 or np.linalg.det(rotation) < 0:
        raise ValueError("camrot is no rotation")
    if focal.min() <= 0:
        raise ValueError("focal length not positive")
    intrinsics = np.array([[focal[0], 0, centre[0]], [0, focal[1], centre[1]], [0, 0, 1.0]])
    return Camera(rotation, -rotation @ position / 1000, intrinsics)


@dataclasses.dataclass(eq=False)
class JointTable:
    """Annotated joints by (capture, frame).

    Attributes:
      row: (capture, frame number) to row.
      world_mm: (F, 42, 3) millimetres, world axes, official joint order.
      valid: (F, 42) bool.
    """

    row: dict[tuple[str, int], int]
    world_mm: np.ndarray
    valid: np.ndarray


def read_joints(path: pathlib.Path, tally: Tally) -> JointTable:
    """Reads joint_3d.json; frames in the v0.0 form are counted and left out."""
    table = JointTable({}, np.zeros((0, ANNOTATED_JOINTS, 3)), np.zeros((0, ANNOTATED_JOINTS)))
    world, valid = [], []
    for capture, frame, entry in _frames(path, tally, Trouble.JOINTS_MALFORMED):
        where = f"capture {capture} frame {frame}"
        if isinstance(entry, list):
            tally.add(Trouble.JOINTS_V0, where)
            continue
        try:
            points = np.array(entry["world_coord"], np.float64).reshape(ANNOTATED_JOINTS, 3)
            flags = entry.get("joint_valid", [1] * ANNOTATED_JOINTS)
            flags = np.array(flags, np.float64).reshape(ANNOTATED_JOINTS) > 0
        except (*BAD_ENTRY, AttributeError):
            tally.add(Trouble.JOINTS_MALFORMED, where)
            continue
        flags &= (np.abs(points) < LIMIT).all(-1)  # false for NaN
        table.row[capture, frame] = len(world)
        world.append(np.where(flags[:, None], points, 0.0))
        valid.append(flags)
    if world:
        table.world_mm, table.valid = np.stack(world), np.stack(valid)
    return table


@dataclasses.dataclass(eq=False)
class ManoTable:
    """MANO_NeuralAnnot.json by (capture, frame); hands in the order left, right.

    Attributes:
      row: (capture, frame number) to row.
      pose: (F, 2, 48) axis-angle, root first, hands_mean not included.
      betas: (F, 2, 10).
      transl: (F, 2, 3) metres, world axes.
      trouble: (F, 2) None where the hand is usable, else its `Trouble`.
    """

    row: dict[tuple[str, int], int]
    pose: np.ndarray
    betas: np.ndarray
    transl: np.ndarray
    trouble: np.ndarray


def read_mano(path: pathlib.Path, tally: Tally) -> ManoTable:
    """Reads MANO_NeuralAnnot.json; unusable hands carry their reason."""
    row: dict[tuple[str, int], int] = {}
    numbers: list[np.ndarray] = []
    troubles: list[list[Trouble | None]] = []
    for capture, frame, entry in _frames(path, tally, Trouble.MANO_MALFORMED):
        hands = [_hand(entry, side) for side in SIDES]
        row[capture, frame] = len(numbers)
        numbers.append(np.stack([values for values, _ in hands]))
        troubles.append([trouble for _, trouble in hands])
    table = np.stack(numbers) if numbers else np.zeros((0, 2, _POSE + BETAS + 3))
    reasons = np.empty((len(troubles), 2), object)
    reasons[:] = troubles or reasons
    pose, betas, transl = np.split(table, [_POSE, _POSE + BETAS], axis=-1)
    return ManoTable(row, pose, betas, transl, reasons)


def _hand(entry: object, side: str) -> tuple[np.ndarray, Trouble | None]:
    nothing = np.zeros(_POSE + BETAS + 3)
    if not isinstance(entry, dict):
        return nothing, Trouble.MANO_MALFORMED
    hand = entry.get(side)
    if hand is None:
        return nothing, Trouble.MANO_HAND_NULL
    try:
        parts = [np.array(hand[k], np.float64).ravel() for k in ("pose", "shape", "trans")]
    except BAD_ENTRY:
        return nothing, Trouble.MANO_MALFORMED
    if [len(part) for part in parts] != [_POSE, BETAS, 3]:
        return nothing, Trouble.MANO_MALFORMED
    values = np.concatenate(parts)
    if not np.isfinite(values).all():
        return nothing, Trouble.MANO_NOT_FINITE
    return (values, None) if within(values, MANO_LIMIT) else (nothing, Trouble.MANO_MALFORMED)


def _frames(path: pathlib.Path, tally: Tally, malformed: Trouble):
    """(capture, frame number, entry) of a file nested capture -> frame -> entry."""
    for capture, frames in load_object(path).items():
        if not isinstance(frames, dict):
            tally.add(malformed, f"capture {capture}")
            continue
        for frame, entry in frames.items():
            try:
                yield capture, int(frame), entry
            except ValueError:
                tally.add(malformed, f"capture {capture} frame {frame[:20]}")
