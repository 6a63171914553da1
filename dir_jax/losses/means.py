"""Smooth L1, and means over the batch that leave out what has no label."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dir_jax.models.layers import across_devices

THRESHOLD = 0.01
"""Where smooth L1 turns from quadratic to linear."""


def smooth_l1(difference: jax.Array) -> jax.Array:
    """0.5 z^2 where |z| < 0.01, else 0.01 (|z| - 0.005); elementwise."""
    size = jnp.abs(difference)
    quadratic = 0.5 * jnp.square(difference)
    return jnp.where(size < THRESHOLD, quadratic, THRESHOLD * (size - THRESHOLD / 2))


def mean_of_known(values: jax.Array, known: jax.Array | None) -> jax.Array:
    """Mean over the first axis of the values that are known.

    The number of known values is the mean over the devices that share the batch, so that the mean
    of the results over them is the mean over the whole batch.

    Args:
      values: (B, ...).
      known: (B, ...) bool; None: all are.

    Returns:
      (...); zero, without gradient, where nothing is known. What is not known has no gradient.
    """
    if known is None:
        return values.mean(0)
    count = across_devices(known.sum(0).astype(values.dtype))
    return jnp.where(known, values, 0).sum(0) / jnp.where(count > 0, count, 1)
