"""One moment in the studio: place the hands, light them, photograph, annotate.

This is what each drawing process does, frame by frame; everything random comes from the frame's
own seed, so the result does not depend on who draws it.
"""

from __future__ import annotations

import dataclasses
import pathlib

import cv2
import numpy as np

from input_pipeline.render import vertex_normals
from input_pipeline.synthetic import interaction
from input_pipeline.synthetic.meetings import MEETINGS
from input_pipeline.synthetic.photograph import photograph
from input_pipeline.synthetic.scene import light_scene
from input_pipeline.synthetic.studio import MIDDLE, Camera
from input_pipeline.synthetic.types import FrameResult, FrameTask, HandModel, PlacedHand

JPEG_QUALITY = 88
MARGIN_PX = 6
"""Views in which every joint is this far inside the picture are preferred."""


def place(task: FrameTask, models: dict[str, HandModel]) -> dict[str, PlacedHand]:
    """Puts the frame's hands into the world, pushed apart where they would run into each other."""
    meeting = MEETINGS[task.meeting]
    anatomies = {side: model.anatomy for side, model in models.items()}
    placed, apart = interaction.placements(meeting, task.exchanged, anatomies, task.numbers)
    turned = {}
    for side in task.sides:
        rotation, at = placed[side]
        rotation = interaction.WORLD_FROM_BODY @ rotation
        if task.hand_type != "interacting":
            at = 0.4 * at
        hand, centre = task.hands[side], anatomies[side].centre
        shift = interaction.WORLD_FROM_BODY @ at + MIDDLE - rotation @ (centre - hand.wrist)
        turned[side] = (rotation, shift - hand.wrist)
    if task.hand_type == "interacting":
        _push_apart(task, models, turned, interaction.WORLD_FROM_BODY @ apart)
    result = {}
    for side, (rotation, transl) in turned.items():
        hand = task.hands[side]
        move = hand.wrist + transl
        result[side] = PlacedHand(
            rotation, transl, (hand.vertices - hand.wrist) @ rotation.T + move,
            (hand.joints - hand.wrist) @ rotation.T + move, hand.pose,
        )  # fmt: skip
    return result


def _push_apart(task: FrameTask, models: dict, turned: dict, direction: np.ndarray) -> None:
    """Moves both hands along `direction` in `turned` until neither is deep in the other."""
    solids = {}
    for side, (rotation, transl) in turned.items():
        hand = task.hands[side]
        normals = vertex_normals(hand.vertices, models[side].faces) @ rotation.T
        vertices = (hand.vertices - hand.wrist) @ rotation.T + hand.wrist + transl
        solids[side] = interaction.Solid(vertices, normals)
    move = interaction.make_room(solids["right"], solids["left"], direction)
    for side, share in (("right", 0.5), ("left", -0.5)):
        rotation, transl = turned[side]
        turned[side] = (rotation, transl + share * move)


def choose_cameras(task: FrameTask, placed: dict[str, PlacedHand]) -> list[Camera]:
    """The frame's views: drawn among the cameras that see every joint, then among the others."""
    generator = np.random.default_rng((*task.seed, 3))
    joints = np.concatenate([hand.joints for hand in placed.values()])
    order = generator.permutation(len(task.capture.cameras))
    cameras = [task.capture.cameras[number] for number in order]

    def missed(camera: Camera) -> int:
        pixels, size = camera.pixels(joints), np.array(camera.size[::-1])
        inside = (pixels > MARGIN_PX) & (pixels < size - MARGIN_PX)
        return int((~inside.all(axis=1)).sum())

    chosen = sorted(cameras, key=missed)[: task.views]
    return sorted(chosen, key=lambda camera: camera.name)


def make_frame(task: FrameTask, models: dict[str, HandModel]) -> FrameResult:
    """Draws and writes all views of one frame.

    Args:
      task: what to make.
      models: hands by side.

    Returns:
      what the annotation files need.
    """
    placed = place(task, models)
    parts = light_scene(task, placed, models)
    pictures = []
    for number, camera in enumerate(choose_cameras(task, placed)):
        generator = np.random.default_rng((*task.seed, 4, number))
        picture = photograph(parts, task.capture, camera, generator)
        name = f"Capture{task.capture.number}/{task.sequence}/cam{camera.name}"
        file = pathlib.Path(task.folder) / name / f"image{task.number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        if not cv2.imwrite(str(file), picture[..., ::-1], options):
            raise OSError(f"could not write {file}")
        pictures.append((camera, f"{name}/{file.name}"))
    return FrameResult(dataclasses.replace(task, hands={}), placed, pictures)
