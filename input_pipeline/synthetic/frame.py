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
from input_pipeline.synthetic import body, interaction, light, surface
from input_pipeline.synthetic.interaction import MEETINGS
from input_pipeline.synthetic.photograph import Lit, photograph
from input_pipeline.synthetic.plan import FrameTask, PosedHand
from input_pipeline.synthetic.studio import MIDDLE, Camera, Capture
from input_pipeline.synthetic.surface import HandModel

Pictures = list[tuple[Camera, str]]
"""(camera, file name relative to the split's image folder) of every view of a frame."""


def light_scene(
    task: FrameTask, placed: dict[str, PosedHand], models: dict[str, HandModel]
) -> list[Lit]:
    """Hands, arms and trunk of one frame with the lamps' light on them."""
    generator = np.random.default_rng((*task.seed, 1))
    rest = _body_parts(task, placed, models, generator)
    occluders = [(placed[side].vertices, models[side].faces) for side in placed]
    occluders += [(part.vertices, part.faces) for part in rest]
    middle = np.mean([hand.vertices.mean(axis=0) for hand in placed.values()], axis=0)
    views = light.lamp_views(occluders, task.capture.lights, middle)
    lamps = (task.capture, views)
    parts, arms = [], {part.hand: part for part in rest if part.hand}
    for side, hand in placed.items():
        parts += _lit_hand_and_arm(lamps, models[side], hand, arms[side], generator)
    for part in rest:
        if not part.hand:
            parts.append(_lit_part(lamps, part, generator))
    return parts


def _leaving(lamps: tuple, points: np.ndarray, normals: np.ndarray, skin: bool) -> tuple:
    """(light that falls on points (P, 3), shares of the lamps (L, P))."""
    capture, views = lamps
    shares = light.lit_shares(views, points)
    wrap = light.SKIN_WRAP if skin else light.CLOTH_WRAP
    return light.irradiance(capture, normals, shares, wrap), shares


def _lit_hand_and_arm(
    lamps: tuple, model: HandModel, hand: PosedHand, arm: body.Part, generator: np.random.Generator
) -> list[Lit]:
    """A hand and its forearm, whose normals and colours agree where they meet."""
    capture, ring = lamps[0], len(model.loop)
    skin = surface.skin(model, (*capture.seed, 2 + (model.side == "left")))
    _, faces = model.steps[-1]
    # One mesh for the normals: the arm's first ring is the hand's open edge.
    numbers = np.concatenate([model.loop, len(hand.vertices) + np.arange(len(arm.vertices) - ring)])
    whole = np.concatenate([hand.vertices, arm.vertices[ring:]])
    coarse = vertex_normals(whole, np.concatenate([model.faces, numbers[arm.faces]]))
    arm_normals, coarse = coarse[numbers], coarse[: len(hand.vertices)]
    vertices = surface.round_out(model.steps, hand.vertices, coarse)
    smooth = surface.spread(model.steps, coarse)
    bumpy = vertices + skin.height[:, None] * smooth
    normals = smooth + vertex_normals(bumpy, faces) - vertex_normals(vertices, faces)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    falls, shares = _leaving(lamps, vertices, normals, True)
    albedo = skin_albedo(capture, skin)
    shine, sharpness = 0.02 + 0.10 * skin.nail, 14 + 50 * skin.nail
    lit = Lit(vertices, faces, normals, falls * albedo, shares, shine, sharpness)

    rows = len(arm.vertices) // ring
    fade = np.clip(1 - np.arange(rows) / (0.45 * rows), 0, 1).repeat(ring)[:, None]
    mottled = _mottled(capture, arm.vertices, generator)
    mottled = fade * np.tile(albedo[model.loop], (rows, 1)) + (1 - fade) * mottled
    falls, shares = _leaving(lamps, arm.vertices, arm_normals, True)
    return [lit, Lit(arm.vertices, arm.faces, arm_normals, falls * mottled, shares)]


def _mottled(capture: Capture, points: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Albedo (P, 3) of plain skin at points (P, 3)."""
    mottle = 0.05 * surface.noise(points, 0.012, generator)
    return capture.skin * (1 + mottle[:, None] * [1, 1.2, 1.2])


def _lit_part(lamps: tuple, part: body.Part, generator: np.random.Generator) -> Lit:
    normals, bare = vertex_normals(part.vertices, part.faces), part.cloth is None
    leaves, shares = _leaving(lamps, part.vertices, normals, bare)
    if bare:
        leaves = leaves * _mottled(lamps[0], part.vertices, generator)
    return Lit(part.vertices, part.faces, normals, leaves, shares, cloth=part.cloth,
               torso=part.torso)  # fmt: skip


def skin_albedo(capture: Capture, skin: surface.Skin) -> np.ndarray:
    """(W, 3) linear albedo of one hand: the subject's tone with the painted detail."""
    darkness = 1 - np.sqrt(capture.skin.mean())
    # Palms of dark hands are much lighter than their backs; of light hands hardly.
    pale = 1 + (0.15 + 2.2 * darkness**3) * skin.pale[:, None]
    red = capture.red * skin.red[:, None] * np.array([0.05, -0.10, -0.09])
    albedo = capture.skin * pale * (1 + red) * skin.shade[:, None]
    nail = np.minimum(1.3 * capture.skin + [0.08, 0.04, 0.04], 0.9)
    share = 0.6 * skin.nail[:, None]
    return np.clip(albedo * (1 - share) + nail * share, 0.005, 0.95)


def _body_parts(task: FrameTask, placed: dict, models: dict, generator) -> list[body.Part]:
    """Arms of the seen hands, and the trunk when the capture shows one."""
    capture, parts, torso = task.capture, [], []
    for side, hand in placed.items():
        backward = -hand.rotation @ models[side].anatomy.frame[:, 0]
        ring = hand.vertices[models[side].loop]
        numbers = generator.normal(size=3)
        elbow, shoulder = body.elbow_and_shoulder(
            side, ring.mean(axis=0), backward, capture.shoulders, numbers
        )
        parts += body.forearm(side, ring, elbow, backward, capture.bare, capture.girth)
        along = elbow - ring.mean(axis=0)
        along /= np.linalg.norm(along)
        torso += body.upper_arm(elbow, shoulder, along, capture.bare >= 1)
    if capture.trunk is not None:
        torso += [body.trunk(capture.shoulders, *capture.trunk), body.neck(capture.shoulders)]
    return parts + [dataclasses.replace(part, torso=True) for part in torso]


JPEG_QUALITY = 88
MARGIN_PX = 6
"""Views in which every joint is this far inside the picture are preferred."""


def place(task: FrameTask, models: dict[str, HandModel]) -> dict[str, PosedHand]:
    """Puts the frame's hands into the world, pushed apart where they would run into each other."""
    meeting, world = MEETINGS[task.meeting], interaction.WORLD_FROM_BODY
    anatomies = {side: model.anatomy for side, model in models.items()}
    places, apart = interaction.placements(meeting, task.exchanged, anatomies, task.numbers)
    both = task.hand_type == "interacting"
    placed = {}
    for side in task.sides:
        rotation, at = places[side]
        rotation, at = world @ rotation, at if both else 0.4 * at
        hand, centre = task.hands[side], anatomies[side].centre
        wrist = hand.joints[0]
        shift = world @ at + MIDDLE - rotation @ (centre - wrist) - wrist
        placed[side] = hand.turned(rotation).moved(shift)
    if both:
        right, left = (
            interaction.Solid(hand.vertices, vertex_normals(hand.vertices, models[side].faces))
            for side, hand in placed.items()
        )
        move = interaction.make_room(right, left, world @ apart)
        halves = {"right": 0.5 * move, "left": -0.5 * move}
        placed = {side: hand.moved(halves[side]) for side, hand in placed.items()}
    return placed


def choose_cameras(task: FrameTask, placed: dict[str, PosedHand]) -> list[Camera]:
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


def make_frame(task: FrameTask, models: dict[str, HandModel]) -> tuple[FrameTask, Pictures]:
    """Draws and writes all views of one frame.

    Args:
      task: what to make.
      models: hands by side.

    Returns:
      what the annotation files need: the task with the hands where they were placed, and its
      pictures.
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
    return dataclasses.replace(task, hands=placed), pictures
