"""A tiny network, the toy hands and random batches, shared by the tests of training."""

import numpy as np
from flax import linen as nn

import mano_jax
from dir_jax.models.config import TINY, ModelConfig
from dir_jax.models.network import create_model

TINY_MODEL = {"preset": "released", **TINY}


class Pyramid(nn.Module):
    """An encoder of four pooled maps with odd numbers of channels."""

    config: ModelConfig

    @nn.compact
    def __call__(self, images, train):
        maps = []
        for index, channels in enumerate((3, 5, 7, 9)):
            step = 4 if index == 0 else 2
            images = nn.avg_pool(images, (step, step), (step, step))
            images = nn.relu(nn.Dense(channels)(images))
            maps.append(images)
        return tuple(maps)


QUICK_ENCODER = f"{__name__}:{Pyramid.__name__}"


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
