"""Weights, images and labels to run networks on: random, but with hands in view."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from dir_jax.compare.labels import random_targets
from dir_jax.compare.pseudo_weights import pseudo_images, pseudo_state_dict, pseudo_tensor
from dir_jax.models.forward import normalise_images
from dir_jax.models.network import DIR, initial_variables
from dir_jax.models.types import IMAGE_SIZE, Targets
from dir_jax.weights.conversion import torch_from_variables, variables_from_torch
from dir_jax.weights.table import table
from mano_jax import matrix_from_axis_angle
from mano_jax.constants import SIDES

FOCAL_PX = 500.0
DISTANCE = 0.7
"""Pixels and metres: a hand fills about half of the crop."""


def pseudo_state(model: DIR) -> dict[str, np.ndarray]:
    """Weights of the model under the released checkpoint's names."""
    images = jax.ShapeDtypeStruct((1, IMAGE_SIZE, IMAGE_SIZE, 3), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    # Only shapes matter here; zeros that are never touched cost no memory.
    empty = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    names = torch_from_variables(empty, model)
    return pseudo_state_dict({name: value.shape for name, value in names.items()})


def pseudo_variables(model: DIR) -> dict[str, Any]:
    """Weights of any architecture that keep the hands in view, on the device.

    The same as `pseudo_state` where the released checkpoint has names for all of them, otherwise
    freshly initialised ones with the regressors' biases of those.
    """
    try:
        table(model.config)
    except ValueError:
        return _fresh(model)
    return jax.device_put(variables_from_torch(pseudo_state(model), model))


def _fresh(model: DIR) -> dict[str, Any]:
    flat = traverse_util.flatten_dict(jax.device_get(initial_variables(model, seed=0)))
    for path, value in flat.items():
        if path[-2:] == ("params", "bias"):
            sides = [f"{'.'.join(path)}.mano_{side}.bias" for side in SIDES]
            biases = [pseudo_tensor(name, value.shape[1:], in_norm=False) for name in sides]
            flat[path] = np.stack(biases)
    return jax.device_put(traverse_util.unflatten_dict(flat))


def images_and_targets(model: DIR, count: int) -> tuple[jax.Array, Targets]:
    """Normalised images (count, 256, 256, 3) and labels, float32, on the device."""
    images = jax.jit(normalise_images)(pseudo_images(count))
    targets, _, _ = random_targets(model.hands, 0, count)
    single = jax.tree.map(lambda a: a.astype(np.float32) if a.dtype.kind == "f" else a, targets)
    return images, jax.device_put(single)


def raw_batch(count: int) -> dict[str, jax.Array]:
    """A batch as `input_pipeline.batches` gives it, every other photograph mirrored."""
    generator = np.random.default_rng(0)
    centre = np.array([[-0.06, 0.0, DISTANCE], [0.06, 0.0, DISTANCE]])
    flip = np.arange(count) % 2 == 1
    motion = np.tile(np.eye(3), (count, 1, 1))
    motion[flip] = np.diag([-1, 1, 1])
    half = IMAGE_SIZE / 2
    numbers = {
        "global_orient": np.asarray(matrix_from_axis_angle(generator.normal(size=(count, 2, 3)))),
        "hand_pose": 0.4 * generator.normal(size=(count, 2, 15, 3)),
        "betas": generator.normal(size=(count, 2, 10)),
        "transl": centre + 0.02 * generator.normal(size=(count, 2, 3)),
        "motion": motion,
        "camera": np.tile([[FOCAL_PX, 0, half], [0, FOCAL_PX, half], [0, 0, 1]], (count, 1, 1)),
    }
    batch = {name: value.astype(np.float32) for name, value in numbers.items()}
    batch |= {"image": pseudo_images(count), "flip": flip}
    return jax.device_put(batch | {"hand_valid": np.ones((count, 2), bool)})
