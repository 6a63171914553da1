"""What tests of prediction share: hands of known pose, and a network that answers with them."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

import mano_jax
from dir_jax import create_model
from dir_jax.models.config import TINY
from dir_jax.models.types import Stage
from dir_jax.prediction.photos import photo_from_image
from dir_jax.prediction.predictor import Result
from dir_jax.weights.loading import Loaded
from mano_jax.constants import SIDES

OFFSET = np.float32([-1, -1 / 6, 0])
"""From wrist to wrist, in 0.15 m, as the cameras of `stage_of` see them."""


def loaded_with(hands: mano_jax.HandPair) -> Loaded:
    """A model without weights."""
    return Loaded(create_model({"preset": "released", **TINY}, hands), {}, hands, {}, ())


def stage_of(hands: mano_jax.HandPair, params: np.ndarray) -> Stage:
    """What a network would answer with parameters (2, 64); the cameras are put in."""
    params = params.copy()
    params[:, 61], params[:, 62:] = 4.0, [[0.3, 0.1], [-0.3, 0.0]]
    meshes = [
        mano_jax.pose_hand(
            hands[side],
            mano_jax.matrix_from_6d_robust(params[i, :6]),
            mano_jax.pca_to_axis_angle(hands[side], params[i, 6:51]),
            params[i, 51:61],
            root_joint=0,
        )
        for i, side in enumerate(SIDES)
    ]
    vertices, joints = (np.stack([np.asarray(m[k]) for m in meshes]) for k in (0, 1))
    uv = [4.0 * xyz[..., :2] + params[:, None, 62:] for xyz in (joints, vertices)]
    return Stage(params, OFFSET, joints, vertices, *uv)


def result_with(photo, stages, hands) -> Result:
    """A result of single stages."""
    return Result(photo, jax.tree.map(lambda *v: np.stack(v), *stages), loaded_with(hands))


def known_result(stages=3, size=(200, 300), box=(60, 50, 160, 100)) -> Result:
    """Both hands, posed at random and the less so the later the stage, over a grey photo."""
    hands = mano_jax.open_hands()
    photo = photo_from_image(np.full((*size, 3), 128, np.uint8), "folder/grey & <b>.png", box)
    noise = 0.3 * np.random.default_rng(7).normal(size=(2, 64)).astype(np.float32)
    upright = np.zeros(64, np.float32)
    upright[[0, 4]] = 1
    answers = [stage_of(hands, upright + noise * 0.5**n) for n in range(stages)]
    return result_with(photo, answers, hands)


class KnownPredictor:
    """Answers every photo with the same hands, shifted by the photo's brightness over 1000.

    A white photo's answer is not finite.
    """

    def __init__(self, hands: mano_jax.HandPair, batch_size: int = 3):
        self.loaded = loaded_with(hands)
        self.batch_size = batch_size
        self.batches: list[int] = []
        noise = 0.3 * np.random.default_rng(7).normal(size=(2, 64)).astype(np.float32)
        self._stage = stage_of(hands, noise)

    def photos(self, photos):
        photos = list(photos)
        assert len(photos) <= self.batch_size
        self.batches.append(len(photos))
        for photo in photos:
            grey = float(photo.image[-1, -1, 0])
            value = np.nan if grey > 250 else grey / 1000
            stage = dataclasses.replace(self._stage, offset=self._stage.offset + value)
            yield Result(photo, jax.tree.map(lambda v: v[None], stage), self.loaded)
