"""The "landmark" encoder: MediaPipe's hand landmark network, which has seen real hands.

Its weights are constants of the program, in no checkpoint, unless `model.train_encoder` makes
parameters of them. Each map passes a 1x1 convolution, BatchNorm and ReLU, which are trained, and
the last one residual blocks, which know where they are in the picture: the initial estimate reads
its mean, and what the network itself has learned to put there is about one upright hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from dir_jax.models import mediapipe
from dir_jax.models.config import ModelConfig
from dir_jax.models.layers import BatchNorm, Conv, Residual, zeros
from dir_jax.models.types import IMAGENET_MEAN, IMAGENET_STD


def one_by_one(function: Callable, images: jax.Array) -> tuple[jax.Array, ...]:
    """`function` of (1, ...) for every image (B, ...), joined.

    On a CPU a single image's maps stay in its cache: a third less time than all images at once.
    """
    maps = jax.lax.map(lambda image: function(image[None]), images)
    return tuple(x.reshape(-1, *x.shape[2:]) for x in maps)


class LandmarkEncoder(nn.Module):
    """Four feature maps at strides 4, 8, 16 and 32.

    Attributes:
      config: its `landmark_widths` (channels of the maps), `landmark_blocks` and `train_encoder`.
    """

    config: ModelConfig

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> tuple[jax.Array, ...]:
        """(B, S, S, 3), ImageNet-normalised, to c1..c4."""
        weights: dict[str, Any] = mediapipe.load(mediapipe.LANDMARK_FILE)
        if self.config.train_encoder:
            weights = {
                name: self.param(name, lambda key, value=value: jnp.asarray(value))
                for name, value in weights.items()
                if not name.startswith("head.")
            }
        weights = {name: jnp.asarray(value, images.dtype) for name, value in weights.items()}
        scale, shift = (np.asarray(v, np.float32) for v in (IMAGENET_STD, IMAGENET_MEAN))
        images = (images * scale + shift).astype(images.dtype)
        if self.config.train_encoder or jax.default_backend() != "cpu":
            maps = mediapipe.landmark_maps(weights, images)
        else:
            maps = one_by_one(lambda image: mediapipe.landmark_maps(weights, image), images)
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
