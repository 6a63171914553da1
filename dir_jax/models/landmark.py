"""The "landmark" encoder: MediaPipe's hand landmark network, which has seen real hands.

Its weights are constants of the program, in no checkpoint, unless `model.train_encoder` makes
parameters of them. Each map passes a 1x1 convolution, BatchNorm and ReLU, which are trained.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from dir_jax.models import mediapipe
from dir_jax.models.constants import IMAGENET_MEAN, IMAGENET_STD
from dir_jax.models.convolutions import Conv
from dir_jax.models.layers import BatchNorm, Dtype


def one_by_one(function: Callable, images: jax.Array) -> tuple[jax.Array, ...]:
    """`function` of (1, ...) for every image (B, ...), joined.

    On a CPU a single image's maps stay in its cache: a third less time than all images at once.
    """
    maps = jax.lax.map(lambda image: function(image[None]), images)
    return tuple(x.reshape(-1, *x.shape[2:]) for x in maps)


class LandmarkEncoder(nn.Module):
    """Four feature maps at strides 4, 8, 16 and 32.

    Attributes:
      widths: channels of the four maps; 0: a map is left as it is.
      trained: whether the network's own weights are parameters.
      axis_name: see `BatchNorm`.
      dtype: arithmetic type, None to follow the input.
    """

    widths: tuple[int, ...]
    trained: bool = False
    axis_name: str | None = None
    dtype: Dtype = None

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> tuple[jax.Array, ...]:
        """(B, S, S, 3), ImageNet-normalised, to c1..c4."""
        weights: dict[str, Any] = mediapipe.load(mediapipe.LANDMARK_FILE)
        if self.trained:
            weights = {
                name: self.param(name, lambda key, value=value: jnp.asarray(value))
                for name, value in weights.items()
                if not name.startswith("head.")
            }
        weights = {name: jnp.asarray(value, images.dtype) for name, value in weights.items()}
        scale, shift = (np.asarray(v, np.float32) for v in (IMAGENET_STD, IMAGENET_MEAN))
        images = images * scale + shift
        if self.trained or jax.default_backend() != "cpu":
            maps = mediapipe.landmark_maps(weights, images)
        else:
            maps = one_by_one(lambda image: mediapipe.landmark_maps(weights, image), images)
        result = []
        for number, (width, features) in enumerate(zip(self.widths, maps, strict=True), 1):
            if not width:
                result.append(features)
                continue
            x = Conv(width, use_bias=False, dtype=self.dtype, name=f"conv{number}")(features)
            x = BatchNorm(None, self.axis_name, name=f"norm{number}")(x, train)
            result.append(nn.relu(x))
        return tuple(result)
