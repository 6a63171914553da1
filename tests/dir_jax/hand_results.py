"""A result as the network would give it, for tests of what shows results."""

import numpy as np

import mano_jax
from dir_jax.prediction.photos import photo_from_image
from dir_jax.prediction.predictor import Reconstruction
from dir_jax.prediction.result import Result
from tests.dir_jax.prediction_fixtures import stage_of


def known_result(stages=3, size=(200, 300), box=(60, 50, 160, 100)):
    """Both hands, posed at random and the less so the later the stage, over a grey photo."""
    rng = np.random.default_rng(7)
    hands = mano_jax.open_hands()
    photo = photo_from_image(np.full((*size, 3), 128, np.uint8), "folder/grey & <b>.png", box)
    noise = 0.3 * rng.normal(size=(2, 64)).astype(np.float32)
    found = Reconstruction(photo, tuple(_stage(hands, noise, n) for n in range(stages)))
    place = np.array([[0.075, 0.025, 0.0], [-0.075, 0.0, 0.0]])[:, None]  # as their cameras say
    vertices = np.stack([s.vertices_xyz for s in found.stages]) + place
    joints = np.stack([s.joints_xyz for s in found.stages]) + place
    joints, vertices = joints - joints[:, :1, :1], vertices - joints[:, :1, :1]
    return Result(
        stem="grey",
        photo=photo,
        box_from="given",
        found=found,
        vertices_xyz=vertices,
        joints_xyz=joints,
        vertices_px=np.stack([found.vertices_px(n) for n in range(stages)]),
        joints_px=np.stack([found.joints_px(n) for n in range(stages)]),
        offset_xyz=joints[:, 1, 0] - joints[:, 0, 0],
        cameras=np.zeros((stages, 2, 3)),
        params=np.stack([s.params for s in found.stages]),
        hands=hands,
        faces=(hands.left.faces, hands.right.faces),
        root_joint=0,
    )


def _stage(hands, noise, number):
    params = noise * 0.5**number
    params[:, :6] += [1, 0, 0, 0, 1, 0]
    return stage_of(hands, params)
