"""The network on photographs: their normalisation, and programs compiled once for a process."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dir_jax.models.types import IMAGENET_MEAN, IMAGENET_STD, Stage


def normalise_images(images: jax.Array) -> jax.Array:
    """Photographs as the encoder expects them.

    Args:
      images: (B, 256, 256, 3) uint8 RGB.

    Returns:
      float32, per channel (level / 255 - ImageNet mean) / ImageNet deviation.
    """
    scale = 1.0 / (255.0 * np.array(IMAGENET_STD))
    shift = np.array(IMAGENET_MEAN) / np.array(IMAGENET_STD)
    images = jnp.asarray(images).astype(jnp.float32)
    return images * scale.astype(np.float32) - shift.astype(np.float32)


@functools.partial(jax.jit, static_argnums=0)
def estimate(model: Any, variables: Any, images: jax.Array) -> tuple[Stage, ...]:
    """All stages of crops.

    Validation, evaluation and pictures of one run share this one compiled program, as long as
    their batches have one shape.

    Args:
      model: from `create_model`.
      variables: its {"params", "batch_stats"}.
      images: (B, 256, 256, 3) uint8 RGB.

    Returns:
      The initial estimate and every refinement.
    """
    return model.apply(variables, normalise_images(images), train=False).stages


def estimate_all(
    model: Any, variables: Any, images: np.ndarray, batch_size: int
) -> tuple[Stage, ...]:
    """All stages of any number of crops (N, 256, 256, 3) uint8, N > 0, as numpy arrays.

    They are taken `batch_size` at a time, the last ones padded, so that one program serves all.
    """
    parts = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        padded = np.zeros((batch_size, *images.shape[1:]), np.uint8)
        padded[: len(batch)] = batch
        parts.append(estimate(model, variables, padded))
    return jax.tree.map(lambda *values: np.concatenate(values)[: len(images)], *parts)
