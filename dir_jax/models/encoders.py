"""The image encoders: photographs to four feature maps at strides 4, 8, 16 and 32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from dir_jax.models.config import ModelConfig
from dir_jax.models.layers import BatchNorm, Conv, Residual, zeros
from dir_jax.models.types import IMAGENET_MEAN, IMAGENET_STD

# --- ResNet-50 (He et al. 2016), with the stride on the 3x3 convolution (v1.5) ------------------


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


# --- MediaPipe's hand landmark network, which has seen real hands -------------------------------


def one_by_one(function: Callable, images: jax.Array) -> tuple[jax.Array, ...]:
    """`function` of (1, ...) for every image (B, ...), joined.

    On a CPU a single image's maps stay in its cache: a third less time than all images at once, and
    half in training, where they are computed again backwards.
    """
    maps = jax.lax.map(jax.checkpoint(lambda image: function(image[None])), images)
    return tuple(x.reshape(-1, *x.shape[2:]) for x in maps)


class LandmarkEncoder(nn.Module):
    """MediaPipe's maps, each through a 1x1 convolution, BatchNorm and ReLU, which are trained.

    Its own weights are constants of the program, in no checkpoint, unless `model.train_encoder`
    makes parameters of them, "mediapipe". The last map also passes residual blocks, which know
    where they are in the picture: the initial estimate reads its mean, and what the network itself
    has learned to put there is about one upright hand.

    Attributes:
      config: its `landmark_widths` (channels of the maps), `landmark_blocks` and `train_encoder`.
    """

    config: ModelConfig

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> tuple[jax.Array, ...]:
        """(B, S, S, 3), ImageNet-normalised, to c1..c4."""
        from dir_jax.models import mediapipe  # most runs do without it

        weights: dict[str, Any] = mediapipe.load(mediapipe.LANDMARK_FILE)
        if self.config.train_encoder:
            body = {name: v for name, v in weights.items() if not name.startswith("head.")}
            weights = self.param("mediapipe", lambda key: jax.tree.map(jnp.asarray, body))
        weights = {name: jnp.asarray(value, images.dtype) for name, value in weights.items()}
        scale, shift = (np.asarray(v, np.float32) for v in (IMAGENET_STD, IMAGENET_MEAN))
        images = (images * scale + shift).astype(images.dtype)
        if jax.default_backend() == "cpu":
            maps = one_by_one(lambda image: mediapipe.landmark_maps(weights, image), images)
        else:
            maps = mediapipe.landmark_maps(weights, images)
        result = []
        for number, (width, x) in enumerate(zip(self.config.landmark_widths, maps, strict=True), 1):
            if width:
                x = Conv(width, use_bias=False, name=f"conv{number}")(x)
                x = nn.relu(BatchNorm(name=f"norm{number}")(x, train))
            result.append(x)
        x = result[-1]
        x = x + self.param("position", zeros, x.shape[1:]).astype(x.dtype)
        for number in range(self.config.landmark_blocks):
            x = Residual(x.shape[-1], name=f"block{number + 1}")(x, train)
        return (*result[:-1], x)
