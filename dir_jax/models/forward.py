"""The network on photographs, compiled once for everything that a process does with it."""

from __future__ import annotations

import functools
from typing import Any

import jax

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
