"""ResNet-50 image encoder (He et al. 2016), with the stride on the 3x3 convolution (v1.5)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from dir_jax.models.convolutions import Conv
from dir_jax.models.layers import BatchNorm, Dtype


def max_pool(x: jax.Array) -> jax.Array:
    """3x3 maximum with stride 2 over maps padded by one pixel: (B, H, W, C) to half the size.

    Written as maxima of strided slices, because the gradient of a windowed reduction is a scatter:
    on CPUs this form's is four times as fast. Where several inputs are equally large the gradient
    is shared instead of going to the first; after a ReLU those are zeros, which pass none on.
    """
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
    for axis in (1, 2):
        last = x.shape[axis] - 2
        slices = [jax.lax.slice_in_dim(x, k, k + last, 2, axis) for k in range(3)]
        x = jnp.maximum(jnp.maximum(slices[0], slices[1]), slices[2])
    return x


class Bottleneck(nn.Module):
    """1x1, 3x3 (strided), 1x1 to four times `width`, added to the (projected) input."""

    width: int
    stride: int = 1
    project: bool = False
    axis_name: str | None = None
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """(B, H, W, C) to (B, H / stride, W / stride, 4 * width)."""

        def step(x, index, features, kernel_size=1, stride=1):
            x = Conv(features, kernel_size, stride, False, self.dtype, name=f"conv{index}")(x)
            return BatchNorm(None, self.axis_name, name=f"norm{index}")(x, train)

        y = nn.relu(step(x, 1, self.width))
        y = nn.relu(step(y, 2, self.width, 3, self.stride))
        y = step(y, 3, 4 * self.width)
        if self.project:
            x = step(x, "_skip", 4 * self.width, 1, self.stride)
        return nn.relu(x + y)


class Encoder(nn.Module):
    """Four feature maps at strides 4, 8, 16 and 32.

    Attributes:
      blocks: bottlenecks per group.
      width: channels of the stem.
      axis_name: see `BatchNorm`.
      dtype: arithmetic type, None to follow the input.
    """

    blocks: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    axis_name: str | None = None
    dtype: Dtype = None

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> tuple[jax.Array, ...]:
        """(B, S, S, 3) to c1..c4: (B, S/4, S/4, 4*width) .. (B, S/32, S/32, 32*width)."""
        x = Conv(self.width, 7, 2, use_bias=False, dtype=self.dtype, name="stem")(images)
        x = nn.relu(BatchNorm(None, self.axis_name, name="stem_norm")(x, train))
        x = max_pool(x)
        maps = []
        for group, count in enumerate(self.blocks):
            for block in range(count):
                x = Bottleneck(
                    width=self.width * 2**group,
                    stride=2 if group > 0 and block == 0 else 1,
                    project=block == 0,
                    axis_name=self.axis_name,
                    dtype=self.dtype,
                    name=f"group{group + 1}_block{block}",
                )(x, train)
            maps.append(x)
        return tuple(maps)
