"""The initial estimate of both hands from the last feature map (paper section 3.1, SPEC 2)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from dir_jax.models.constants import PARAMETERS
from dir_jax.models.convolutions import Conv
from dir_jax.models.initial_values import Initial
from dir_jax.models.layers import HANDS, BatchNorm, Dtype, HandDense, linear_normal, torch_uniform

POOLING_EPSILON = 1e-8


class Attention(nn.Module):
    """One attention map per hand, in (0, 1).

    Attributes:
      kind: "convolution" (released) or "light" (paper).
      axis_name: see `BatchNorm`.
      dtype: arithmetic type, None to follow the input.
    """

    kind: str
    axis_name: str | None = None
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """(B, H, W, C) to (B, H, W, 2)."""
        if self.kind == "light":
            # The released initial values would saturate the sigmoid: a random choice of pixels,
            # differing from photograph to photograph, which learning has to undo first.
            initial = torch_uniform(x.shape[-1])
            scores = nn.Dense(
                HANDS, dtype=self.dtype, kernel_init=initial, bias_init=initial, name="conv"
            )
            return nn.sigmoid(scores(x))
        # The two hands' filters side by side: the left hand's channels first.
        width = x.shape[-1] // 2
        x = Conv(HANDS * width, 3, dtype=self.dtype, name="conv1")(x)
        x = nn.relu(BatchNorm(None, self.axis_name, name="norm")(x, train))
        x = x.reshape(*x.shape[:-1], HANDS, width)
        kernel = self.param("kernel", Initial("normal", 2**0.5), (HANDS, width))
        bias = self.param("bias", torch_uniform(width), (HANDS,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return nn.sigmoid(jnp.einsum("byxhc,hc->byxh", x, kernel) + bias)


class InitialEstimate(nn.Module):
    """Parameters of both hands and the wrists' offset.

    Attributes:
      attention: see `ModelConfig.attention`.
      axis_name: see `BatchNorm`.
      dtype: arithmetic type, None to follow the input.
    """

    attention: str
    axis_name: str | None = None
    dtype: Dtype = None

    @nn.compact
    def __call__(self, features: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """c4 (B, H, W, C) to params (B, 2, 64) and offset (B, 3)."""
        mean = features.mean((1, 2))
        if self.attention == "none":
            pooled = jnp.stack([mean] * HANDS, 1)
        else:
            maps = Attention(self.attention, self.axis_name, self.dtype, name="attention")(
                features, train
            )
            pooled = jnp.einsum("byxh,byxc->bhc", maps, features)
            if self.attention == "light":
                pooled = pooled / (features.shape[1] * features.shape[2])
            else:
                pooled = pooled / (maps.sum((1, 2))[..., None] + POOLING_EPSILON)
        params = HandDense(PARAMETERS, dtype=self.dtype, name="params")(pooled)
        offset = nn.Dense(
            3,
            kernel_init=linear_normal,
            bias_init=torch_uniform(mean.shape[-1]),
            dtype=self.dtype,
            name="offset",
        )(mean)
        return params, offset
