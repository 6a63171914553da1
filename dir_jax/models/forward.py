"""The network on photographs, compiled once for everything that a process does with it."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np

from dir_jax.losses.targets import normalise_images
from dir_jax.models.types import Stage


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
