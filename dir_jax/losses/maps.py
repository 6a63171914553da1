"""Losses of the 32x32 maps: segmentation and dense correspondence (docs/method.md, "Losses")."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from dir_jax.losses.means import mean_of_known, smooth_l1
from dir_jax.models.layers import across_devices

CLASS_WEIGHTS = np.array([0.1, 0.45, 0.45], np.float32)
"""Cross-entropy weights of background and the two hands, in float32 as PyTorch keeps them."""


def cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    known: jax.Array | None = None,
) -> jax.Array:
    """Class-weighted mean cross-entropy of (B, H, W, 3) logits and (B, H, W) labels.

    The weights of the whole batch, on all devices that share it, normalise it; the mean over the
    devices is then the global value. Pixels outside `known` (B, H, W) do not count.
    """
    weights = jnp.asarray(CLASS_WEIGHTS, logits.dtype)[labels]
    if known is not None:
        weights = jnp.where(known, weights, 0)
    log_likelihood = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], -1)[..., 0]
    total = across_devices(weights.sum())
    if known is not None:
        total = jnp.where(total > 0, total, 1)
    return -(weights * log_likelihood).sum() / total


def lovasz_softmax(
    scores: jax.Array,
    labels: jax.Array,
    known: jax.Array | None = None,
) -> jax.Array:
    """Lovasz-softmax (Berman et al. 2018, algorithm 1) over the classes present in the batch.

    The released code feeds raw logits where the paper of the loss has probabilities.

    Args:
      scores: (B, H, W, K).
      labels: (B, H, W) class numbers.
      known: (B, H, W) bool, the pixels that count; None: all.

    Returns:
      The mean over present classes; zero when no pixel counts.
    """
    if known is None:
        known = jnp.ones(labels.shape, bool)
    scores, labels, known = across_devices((scores, labels, known), jax.lax.all_gather)
    classes = scores.shape[-1]
    flat, labels = scores.reshape(-1, classes), labels.reshape(-1)
    counts = known.reshape(-1, 1).astype(flat.dtype)
    truth = (labels[:, None] == jnp.arange(classes)).astype(flat.dtype) * counts
    errors = jnp.abs(truth - flat) * counts
    order = jnp.argsort(-jax.lax.stop_gradient(errors), axis=0)
    sorted_truth = jnp.take_along_axis(truth, order, 0)
    size = sorted_truth.sum(0)
    intersection = size - jnp.cumsum(sorted_truth, 0)
    others = jnp.take_along_axis(counts - truth, order, 0)
    union = jnp.maximum(size + jnp.cumsum(others, 0), 1)
    jaccard = 1 - intersection / union
    steps = jnp.diff(jaccard, axis=0, prepend=jnp.zeros_like(jaccard[:1]))
    per_class = jnp.sum(jnp.take_along_axis(errors, order, 0) * steps, 0)
    present = size > 0
    return jnp.where(present, per_class, 0).sum() / jnp.maximum(present.sum(), 1)


def dense_loss(
    dense: jax.Array,
    wanted: jax.Array,
    distance=smooth_l1,
    known: jax.Array | None = None,
) -> jax.Array:
    """Mean distance of two maps (B, H, W, C) over the pixels in `known` (B, H, W); None: all."""
    values = distance(dense - wanted)
    if known is None:
        return values.mean()
    return mean_of_known(values.mean(-1).reshape(-1), known.reshape(-1))
