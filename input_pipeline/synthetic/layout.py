"""InterHand2.6M's annotation files, v1.0 (data, camera, joint_3d, MANO_NeuralAnnot)."""

from __future__ import annotations

import json
import pathlib

import numpy as np
from scipy.spatial.transform import Rotation

from input_pipeline.synthetic.frame import Pictures
from input_pipeline.synthetic.plan import FrameTask, PosedHand
from input_pipeline.synthetic.studio import Capture

FILE_ORDER = (4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9, 16, 15, 14, 13, 20, 19, 18, 17, 0)
"""The files' order of a hand's joints, in numbers of ours: fingers from tip to base, wrist last."""

ABSENT = 1.0
"""What the official files put for the coordinates of a joint that is not valid."""

BOX_GROWTH = 1.2
"""The official boxes are those of the joints, this much larger about the same centre."""

MILLIMETRES = 1000.0


class Annotations:
    """The four files of one split, filled frame by frame."""

    def __init__(self):
        self.data = {"images": [], "annotations": []}
        self.cameras, self.joints, self.mano = {}, {}, {}

    def add(self, task: FrameTask, pictures: Pictures) -> None:
        """Adds one frame, its hands placed in the world, with all of its pictures."""
        capture, frame = str(task.capture.number), str(task.number)
        self.cameras.setdefault(capture, camera_entry(task.capture))
        world_mm, valid = world_joints(task.hands)
        self.joints.setdefault(capture, {})[frame] = {
            "world_coord": _rounded(world_mm, 4),
            "joint_valid": [[bool(value)] for value in valid],
            "hand_type": task.hand_type, "hand_type_valid": True, "seq": task.sequence,
        }  # fmt: skip
        self.mano.setdefault(capture, {})[frame] = {
            side: mano_entry(task, side) for side in ("right", "left")
        }
        for camera, file_name in pictures:
            number, (height, width) = len(self.data["images"]), camera.size
            self.data["images"].append({
                "id": number, "file_name": file_name, "width": width, "height": height,
                "capture": task.capture.number, "subject": task.capture.subject,
                "seq_name": task.sequence, "camera": camera.name, "frame_idx": task.number,
            })  # fmt: skip
            self.data["annotations"].append({
                "id": number, "image_id": number,
                "bbox": joint_box(camera.pixels(world_mm[valid] / MILLIMETRES)),
                "joint_valid": [[int(value)] for value in valid],
                "hand_type": task.hand_type, "hand_type_valid": 1,
            })  # fmt: skip

    def write(self, folder: pathlib.Path, split: str) -> None:
        """Writes the four files into `folder`/<split>."""
        folder = folder / split
        folder.mkdir(parents=True, exist_ok=True)
        contents = {"data": self.data, "camera": self.cameras, "joint_3d": self.joints}
        for name, content in {**contents, "MANO_NeuralAnnot": self.mano}.items():
            path = folder / f"InterHand2.6M_{split}_{name}.json"
            path.write_text(json.dumps(content), encoding="utf-8")


def world_joints(placed: dict[str, PosedHand]) -> tuple[np.ndarray, np.ndarray]:
    """(42, 3) millimetres and (42,) bool in the files' order: right hand, then left."""
    world, valid = np.full((42, 3), ABSENT), np.zeros(42, bool)
    for start, side in ((0, "right"), (21, "left")):
        if side in placed:
            world[start : start + 21] = MILLIMETRES * placed[side].joints[list(FILE_ORDER)]
            valid[start : start + 21] = True
    return world, valid


def mano_entry(task: FrameTask, side: str) -> dict | None:
    """One hand's MANO parameters, world axes, metres; None when the hand is absent."""
    if side not in task.hands:
        return None
    placed = task.hands[side]
    pose = np.concatenate([Rotation.from_matrix(placed.rotation).as_rotvec(), placed.pose])
    return {
        "pose": _rounded(pose, 7),
        "shape": _rounded(task.capture.betas, 6),
        "trans": _rounded(placed.transl, 7),
    }


def camera_entry(capture: Capture) -> dict:
    """A capture's cameras: positions in mm, rotations, focal lengths, principal points."""
    cameras = capture.cameras
    return {
        "campos": {c.name: _rounded(MILLIMETRES * c.position, 4) for c in cameras},
        "camrot": {c.name: _rounded(c.rotation, 8) for c in cameras},
        "focal": {c.name: _rounded(c.focal, 4) for c in cameras},
        "princpt": {c.name: _rounded(c.princpt, 4) for c in cameras},
    }


def joint_box(pixels: np.ndarray) -> list[float]:
    """[x, y, width, height] about the joints' pixels (J, 2), enlarged as the official ones are."""
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    size = BOX_GROWTH * (high - low)
    return _rounded(np.concatenate([(low + high - size) / 2, size]), 4)


def _rounded(values: np.ndarray, digits: int) -> list:
    return np.asarray(values, np.float64).round(digits).tolist()
