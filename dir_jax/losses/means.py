"""Smooth L1, and means over the batch that leave out what has no label."""

from __future__ import annotations

import jax
import jax.numpy as jnp

THRESHOLD = 0.01
"""Where smooth L1 turns from quadratic to linear."""


def smooth_l1(difference: jax.Array) -> jax.Array:
    """0.5 z^2 where |z| < 0.01, else 0.01 (|z| - 0.005); elementwise."""
    size = jnp.abs(difference)
    quadratic = 0.5 * jnp.square(difference)
    return jnp.where(size < THRESHOLD, quadratic, THRESHOLD * (size - THRESHOLD / 2))


def mean_of_known(
    values: jax.Array, known: jax.Array | None, axis_name: str | None = None
) -> jax.Array:
    """Mean over the first axis of the values that are known.

    Args:
      values: (B, ...).
      known: (B, ...) bool; None: all are.
      axis_name: pmap axis. The number of known values is then the mean over its devices, so that
        the mean of the results over the axis is the mean over the whole batch.

    Returns:
      (...); zero, without gradient, where nothing is known. What is not known has no gradient.
    """
    if known is None:
        return values.mean(0)
    count = known.sum(0).astype(values.dtype)
    if axis_name is not None:
        count = jax.lax.pmean(count, axis_name)
    return jnp.where(known, values, 0).sum(0) / jnp.where(count > 0, count, 1)
