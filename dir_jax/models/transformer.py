"""Transformer over the joints of both hands together (SPEC 3, step 5)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from dir_jax.models.initial_values import ones, zeros
from dir_jax.models.layers import Dtype, linear_normal, torch_uniform

BLOCK_EPSILON = 1e-6
HEAD_EPSILON = 1e-5


def _dense(features, fan_in, dtype, name):
    bias_init = torch_uniform(fan_in)
    return nn.Dense(
        features, kernel_init=linear_normal, bias_init=bias_init, dtype=dtype, name=name
    )


def _norm(epsilon, dtype, name):
    # The fast variance loses half the digits; torch does not use it.
    return nn.LayerNorm(
        epsilon=epsilon,
        dtype=dtype,
        use_fast_variance=False,
        scale_init=ones,
        bias_init=zeros,
        name=name,
    )


class Block(nn.Module):
    """Pre-norm self-attention and MLP (ratio 2, exact GELU)."""

    heads: int
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, N, C) to (B, N, C)."""
        batch, tokens, channels = x.shape
        y = _norm(BLOCK_EPSILON, self.dtype, "norm1")(x)
        qkv = _dense(3 * channels, channels, self.dtype, "qkv")(y)
        qkv = qkv.reshape(batch, tokens, 3, self.heads, channels // self.heads)
        query, key, value = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        y = nn.dot_product_attention(query, key, value).reshape(batch, tokens, channels)
        x = x + _dense(channels, channels, self.dtype, "proj")(y)
        y = _norm(BLOCK_EPSILON, self.dtype, "norm2")(x)
        y = nn.gelu(_dense(2 * channels, channels, self.dtype, "mlp1")(y), approximate=False)
        return x + _dense(channels, 2 * channels, self.dtype, "mlp2")(y)


class Transformer(nn.Module):
    """Learned positions, blocks each followed by one shared LayerNorm, and a linear head.

    Attributes:
      blocks: number of blocks; 0 leaves only the head.
      heads: attention heads.
      features: width of the result.
      dtype: arithmetic type, None to follow the input.
    """

    blocks: int
    heads: int
    features: int
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, N, C) to (B, N, features)."""
        if self.blocks:
            shape = (1, *x.shape[1:])
            positions = self.param("positions", zeros, shape)
            x = x + jnp.asarray(positions, self.dtype or positions.dtype)
            norm = _norm(BLOCK_EPSILON, self.dtype, "norm")
            for block in range(self.blocks):
                x = norm(Block(self.heads, self.dtype, name=f"block{block}")(x))
        x = _norm(HEAD_EPSILON, self.dtype, "head_norm")(x)
        return _dense(self.features, x.shape[-1], self.dtype, "head")(x)
