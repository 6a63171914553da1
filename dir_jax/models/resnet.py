"""ResNet-50 image encoder (He et al. 2016), with the stride on the 3x3 convolution (v1.5)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from dir_jax.models.config import ModelConfig
from dir_jax.models.layers import BatchNorm, Conv


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

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """(B, H, W, C) to (B, H / stride, W / stride, 4 * width)."""

        def step(x, index, features, kernel_size=1, stride=1):
            x = Conv(features, kernel_size, stride, use_bias=False, name=f"conv{index}")(x)
            return BatchNorm(name=f"norm{index}")(x, train)

        y = nn.relu(step(x, 1, self.width))
        y = nn.relu(step(y, 2, self.width, 3, self.stride))
        y = step(y, 3, 4 * self.width)
        if self.project:
            x = step(x, "_skip", 4 * self.width, 1, self.stride)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """Four feature maps at strides 4, 8, 16 and 32.

    Attributes:
      config: its `encoder_blocks` (bottlenecks per group) and `encoder_width` (the stem's).
    """

    config: ModelConfig

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> tuple[jax.Array, ...]:
        """(B, S, S, 3) to c1..c4: (B, S/4, S/4, 4*width) .. (B, S/32, S/32, 32*width)."""
        width = self.config.encoder_width
        x = Conv(width, 7, 2, use_bias=False, name="stem")(images)
        x = max_pool(nn.relu(BatchNorm(name="stem_norm")(x, train)))
        maps = []
        for group, count in enumerate(self.config.encoder_blocks):
            for block in range(count):
                stride = 2 if group > 0 and block == 0 else 1
                name = f"group{group + 1}_block{block}"
                x = Bottleneck(width * 2**group, stride, block == 0, name=name)(x, train)
            maps.append(x)
        return tuple(maps)
