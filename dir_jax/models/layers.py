"""Layers with PyTorch's conventions: padding, batch statistics, initial values.

Hands are axis 1 (left, right) wherever a tensor has a hand axis, so a layer whose weights differ
per hand simply has a leading axis of 2 in its parameters.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from dir_jax.models.initial_values import Initial, ones, zeros

HANDS = 2
Dtype = Any


def torch_uniform(fan_in: int) -> Initial:
    """PyTorch's default initial values, uniform in +-1/sqrt(fan_in)."""
    return Initial("uniform", 1 / math.sqrt(fan_in))


def convolution_normal(kernel_size: int, features: int) -> Initial:
    """The released code's convolutions: normal with variance 2 / (k * k * outputs)."""
    return Initial("normal", math.sqrt(2 / (kernel_size**2 * features)))


linear_normal = Initial("normal", 0.001)
"""The released code's linear layers."""


class BatchNorm(nn.Module):
    """Batch normalisation as in PyTorch.

    Normalises with the biased variance of the batch and keeps the unbiased one in the running
    statistics. Statistics are computed and kept in float32 at least.

    Attributes:
      hands: None: an ordinary layer. "separate": axis 1 holds the hands, each with its own scale,
        bias and statistics. "shared": one scale and bias; in training each hand is normalised by
        its own batch statistics and the running ones see the left hand first, then the right.
      axis_name: pmap axis over which batch statistics are averaged; None for none.
      momentum: weight of the old running statistic.
      epsilon: added to the variance.
    """

    hands: str | None = None
    axis_name: str | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Normalises x (B, ..., C), or (B, 2, ..., C) when `hands` is set."""
        shape = (HANDS, x.shape[-1]) if self.hands == "separate" else (x.shape[-1],)
        scale = self.param("scale", ones, shape)
        bias = self.param("bias", zeros, shape)
        mean = self.variable("batch_stats", "mean", zeros, None, shape)
        var = self.variable("batch_stats", "var", ones, None, shape)
        if train:
            batch_mean, batch_var, count = self._batch_statistics(x)
            if not self.is_initializing():
                unbiased = batch_var * (count / max(count - 1, 1))
                mean.value = self._updated(mean.value, batch_mean)
                var.value = self._updated(var.value, unbiased)
        else:
            batch_mean, batch_var = mean.value, var.value
        factor = scale * jax.lax.rsqrt(batch_var + self.epsilon)
        bias = jnp.broadcast_to(bias, factor.shape)
        return (_normalise_again if train else _normalise)(x, batch_mean, factor, bias)

    def _batch_statistics(self, x):
        kept = (1, x.ndim - 1) if self.hands else (x.ndim - 1,)
        axes = tuple(a for a in range(x.ndim) if a not in kept)
        count = math.prod(x.shape[a] for a in axes)
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        mean = x.mean(axes)
        if self.axis_name is not None:
            count *= jax.lax.psum(1, self.axis_name)
            mean = jax.lax.pmean(mean, self.axis_name)
        var = _variance(x, mean, axes)
        if self.axis_name is not None:
            var = jax.lax.pmean(var, self.axis_name)
        return mean, var, count

    def _updated(self, running, batch):
        batches = batch if self.hands == "shared" else [batch]
        for value in batches:
            running = self.momentum * running + (1 - self.momentum) * value
        return running


def _normalise(x, mean, factor, bias):
    """x (B, ..., C) by values (C,), or x (B, 2, ..., C) by values (2, C)."""
    expand = (slice(None),) + (None,) * (x.ndim - 3)
    mean, factor, bias = (v[expand] if v.ndim == 2 else v for v in (mean, factor, bias))
    if x.dtype == jnp.bfloat16:
        return (x * factor + (bias - mean * factor)).astype(x.dtype)
    # Subtracting first loses no digits where the mean is large.
    return (x - mean) * factor + bias


# Differentiated as they stand, these two would keep x - mean beside x until the backward pass: a
# third of all activations, cheaper to subtract again.
_normalise_again = jax.checkpoint(_normalise)


@functools.partial(jax.checkpoint, static_argnums=2)
def _variance(x, mean, axes):
    return jnp.square(x - jnp.expand_dims(mean, axes)).mean(axes)


class HandDense(nn.Module):
    """Linear layer with its own weights per hand: (B, 2, ..., C) to (B, 2, ..., features)."""

    features: int
    kernel_init: Any = linear_normal
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies kernel (2, C, features) and bias (2, features)."""
        channels = x.shape[-1]
        kernel = self.param("kernel", self.kernel_init, (HANDS, channels, self.features))
        bias = self.param("bias", torch_uniform(channels), (HANDS, self.features))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = jnp.einsum("bh...c,hcd->bh...d", x, kernel)
        return y + bias[(slice(None),) + (None,) * (x.ndim - 3)]


class PointMap(nn.Module):
    """Two-layer map of joints' vectors: linear, BatchNorm, ReLU, linear (SPEC 3, steps 2, 4, 7).

    Attributes:
      features: width of both layers.
      hands: "separate" weights per hand, or "shared" by the hands.
      axis_name: see `BatchNorm`.
      dtype: arithmetic type, None to follow the input.
    """

    features: int
    hands: str
    axis_name: str | None = None
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """(B, 2, J, C) to (B, 2, J, features)."""
        x = self._linear(x, "linear1")
        x = nn.relu(BatchNorm(self.hands, self.axis_name, name="norm")(x, train))
        return self._linear(x, "linear2")

    def _linear(self, x, name):
        init = torch_uniform(x.shape[-1])
        if self.hands == "separate":
            return HandDense(self.features, init, self.dtype, name=name)(x)
        return nn.Dense(
            self.features, kernel_init=init, bias_init=init, dtype=self.dtype, name=name
        )(x)
