"""A tiny network, the toy hands and random batches, shared by the tests of training."""

import numpy as np

import mano_jax
from dir_jax.models.config import TINY
from dir_jax.models.network import create_model
from mano_jax.constants import SIDES
from tests.golden.toy_mano import toy_mano

TINY_MODEL = {"preset": "released", **TINY}


def toy_hands():
    return mano_jax.load_pair({side: toy_mano(side) for side in SIDES})


def tiny_model(hands, **fields):
    return create_model({**TINY_MODEL, **fields}, hands)


def random_batch(size, seed=0, dtype=np.float32):
    """What input_pipeline.batches gives: both hands before the camera, every other one mirrored."""
    rng = np.random.default_rng(seed)
    orient = mano_jax.matrix_from_axis_angle(rng.normal(size=(size, 2, 3)))
    centre = np.array([[-0.06, 0.0, 0.7], [0.06, 0.0, 0.7]])
    flip = np.arange(size) % 2 == 1
    motion = np.tile(np.eye(3), (size, 1, 1))
    motion[flip] = np.diag([-1, 1, 1])
    numbers = {
        "global_orient": np.asarray(orient),
        "hand_pose": 0.4 * rng.normal(size=(size, 2, 15, 3)),
        "betas": rng.normal(size=(size, 2, 10)),
        "transl": centre + 0.02 * rng.normal(size=(size, 2, 3)),
        "motion": motion,
        "camera": np.tile(np.array([[500.0, 0, 128], [0, 500, 127], [0, 0, 1]]), (size, 1, 1)),
    }
    return {name: value.astype(dtype) for name, value in numbers.items()} | {
        "image": rng.integers(0, 256, (size, 256, 256, 3), np.uint8),
        "flip": flip,
        "hand_valid": np.ones((size, 2), bool),
        "index": np.arange(size),
    }
