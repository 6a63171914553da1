"""What tests of prediction share: hands of known pose, and a network that answers with them."""

from __future__ import annotations

import dataclasses

import numpy as np

import mano_jax
from dir_jax import create_model
from dir_jax.models.config import TINY
from dir_jax.models.types import Stage
from dir_jax.prediction.predictor import Reconstruction
from dir_jax.weights.loading import Loaded
from mano_jax.constants import SIDES


def posed_stage(hands: mano_jax.HandPair, seed: int = 7) -> Stage:
    """Both hands posed at random, as a network would answer."""
    rng = np.random.default_rng(seed)
    return stage_of(hands, 0.3 * rng.normal(size=(2, 64)).astype(np.float32))


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
    return Stage(params, np.float32([0.6, 0.2, -0.3]), joints, vertices, *uv)


def loaded_with(hands: mano_jax.HandPair) -> Loaded:
    """A model without weights."""
    return Loaded(create_model({"preset": "released", **TINY}, hands), {}, hands, {}, ())


class KnownPredictor:
    """Answers every photo with the same hands, shifted by the photo's brightness over 1000.

    A white photo's answer is not finite.
    """

    def __init__(self, hands: mano_jax.HandPair, batch_size: int = 3):
        self.loaded = loaded_with(hands)
        self.batch_size = batch_size
        self.batches: list[int] = []
        self.compiling = self.running = 0.0
        self.looked_at = 0
        self._stage = posed_stage(hands)

    def photos(self, photos):
        photos = list(photos)
        assert len(photos) <= self.batch_size
        self.batches.append(len(photos))
        for photo in photos:
            self.looked_at += 1
            grey = float(photo.image[-1, -1, 0])
            value = np.nan if grey > 250 else grey / 1000
            stage = dataclasses.replace(self._stage, offset=self._stage.offset + value)
            yield Reconstruction(photo, (stage,))
