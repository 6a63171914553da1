"""Writes small raw data in the official InterHand2.6M layout from the toy hand.

An oracle apart from the package: hands are posed in world axes, the annotation files are written
from the format's description, and what a camera sees is computed by its definition.
"""

from __future__ import annotations

import json
import pathlib

import cv2
import numpy as np

from mano_jax import pose_hand
from mano_jax.constants import SIDES
from tests.hands import toy_hands

OFFICIAL_FINGERS = ("thumb", "index", "middle", "ring", "pinky")


def official_joints(joints_xyz: np.ndarray) -> np.ndarray:
    """(21, 3) wrist first, base to tip -> the official order, tip to base, wrist last."""
    fingers = [joints_xyz[1 + 4 * f + level] for f in range(5) for level in (3, 2, 1, 0)]
    return np.stack([*fingers, joints_xyz[0]])


class RawFrame:
    """One (capture, frame): both hands in world axes, metres."""

    def __init__(self, rng, pair, hand_type="interacting"):
        self.hand_type = hand_type
        self.mano, self.vertices, self.joints = {}, {}, {}
        for side, x in zip(SIDES, (-0.05, 0.05), strict=True):
            pose = np.concatenate([rng.normal(size=3), 0.3 * rng.normal(size=45)])
            shape, trans = 0.5 * rng.normal(size=10), [x, 0, 0] + 0.02 * rng.normal(size=3)
            mesh = pose_hand(
                pair[side],
                cv2.Rodrigues(pose[:3])[0].astype(np.float32),
                (pose[3:] + pair[side].hands_mean).reshape(15, 3).astype(np.float32),
                shape.astype(np.float32),
                trans.astype(np.float32),
            )
            self.vertices[side], self.joints[side] = np.array(mesh.vertices), np.array(mesh.joints)
            values = {"pose": pose.tolist(), "shape": shape.tolist(), "trans": trans.tolist()}
            self.mano[side] = values if hand_type in ("interacting", side) else None

    def valid42(self):
        right, left = (self.hand_type in ("interacting", s) for s in ("right", "left"))
        return [[int(right)]] * 21 + [[int(left)]] * 21


def make_camera(rng, width, height):
    """A camera about 0.8 m from the world's origin that looks at it."""
    eye = rng.normal(size=3)
    eye *= 800 / np.linalg.norm(eye)
    forward = -eye / np.linalg.norm(eye)
    right = np.cross([0.1, 1.0, 0.2], forward)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    return dict(
        campos=eye.tolist(),
        camrot=rotation.tolist(),
        focal=[1000.0, 995.0],
        princpt=[width / 2 + 3.0, height / 2 - 2.0],
    )


def write_raw(
    root: pathlib.Path,
    splits=("train", "test"),
    frames=3,
    cameras=2,
    seed=0,
    hand_types=("interacting",),
    change=None,
) -> dict:
    """Writes the layout; returns {split: {"frames": {n: RawFrame}, files...}}.

    Args:
      change: called as change(split, files) before the annotation files are written.
    """
    pair, made = toy_hands(), {}
    for number, split in enumerate(splits):
        rng = np.random.default_rng([seed, number])
        sizes = [(334, 512), (512, 334)]
        names = [f"40{number}{c:03d}" for c in range(cameras)]
        rig = {name: make_camera(rng, *sizes[c % 2]) for c, name in enumerate(names)}
        camera = {"3": {k: {n: rig[n][k] for n in names} for k in rig[names[0]]}}
        data, joints, mano = {"images": [], "annotations": []}, {"3": {}}, {"3": {}}
        raw_frames = {}
        for f in range(frames):
            frame = RawFrame(rng, pair, hand_types[f % len(hand_types)])
            index = 1000 + 3 * f
            raw_frames[index] = frame
            world = np.concatenate([official_joints(frame.joints[s]) for s in ("right", "left")])
            joints["3"][str(index)] = dict(
                world_coord=(1000 * world).tolist(),
                joint_valid=frame.valid42(),
                hand_type=frame.hand_type,
                seq="0001_test",
            )
            mano["3"][str(index)] = frame.mano
            for c, name in enumerate(names):
                _add_image(root, split, data, frame, index, name, sizes[c % 2], rng)
        files = dict(data=data, camera=camera, joint_3d=joints, MANO_NeuralAnnot=mano)
        if change:
            change(split, files)
        folder = root / "annotations" / split
        folder.mkdir(parents=True)
        for kind, value in files.items():
            (folder / f"InterHand2.6M_{split}_{kind}.json").write_text(json.dumps(value))
        made[split] = {"frames": raw_frames, "cameras": rig, **files}
    return made


def _add_image(root, split, data, frame, index, name, size, rng):
    width, height = size
    image_id = 7 * len(data["images"]) + 11
    file_name = f"Capture3/0001_test/cam{name}/image{index}.jpg"
    path = root / "images" / split / file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = rng.integers(30, 255, (height // 30 + 1, width // 30 + 1, 3), np.uint8)
    cv2.imwrite(str(path), cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC))
    data["images"].append({
        "id": image_id, "file_name": file_name, "width": width, "height": height, "capture": 3,
        "subject": 1, "seq_name": "0001_test", "camera": name, "frame_idx": index,
    })  # fmt: skip
    # annotations[] in reverse: only image_id joins them.
    data["annotations"].insert(0, {
        "id": image_id, "image_id": image_id, "bbox": [10.0, 20.0, 200.0, 150.0],
        "joint_valid": frame.valid42(), "hand_type": frame.hand_type, "hand_type_valid": 1,
    })  # fmt: skip


def camera_view(camera: dict, world_xyz: np.ndarray) -> np.ndarray:
    """World metres -> camera metres by the format's definition, X_cam = R (X - campos)."""
    return (world_xyz - np.array(camera["campos"]) / 1000) @ np.array(camera["camrot"]).T
