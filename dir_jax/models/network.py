"""The whole network: encoder, initial estimate, refinements, auxiliary heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from dir_jax.models.config import ModelConfig, model_config
from dir_jax.models.convolutions import Conv
from dir_jax.models.encoders import Encoder
from dir_jax.models.hands import decode
from dir_jax.models.initial import InitialEstimate
from dir_jax.models.layers import BatchNorm, Dtype
from dir_jax.models.refinement import Fusion, Refinement
from dir_jax.models.types import Output
from mano_jax import HandPair

LEVELS = 2
"""Resolutions of the decoder: 16x16, then 32x32; a third refinement stays at 32x32."""
MAP_CLASSES = 3


class MapHead(nn.Module):
    """3x3 to half the width, BatchNorm, ReLU, 1x1 to three channels."""

    axis_name: str | None = None
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """(B, S, S, C) to (B, S, S, 3)."""
        x = Conv(x.shape[-1] // 2, 3, dtype=self.dtype, name="conv1")(x)
        x = nn.relu(BatchNorm(None, self.axis_name, name="norm")(x, train))
        return Conv(MAP_CLASSES, dtype=self.dtype, name="conv2")(x)


class DIR(nn.Module):
    """Decoupled Iterative Refinement (Ren et al., ICCV 2023).

    Attributes:
      config: the architecture.
      hands: the two hand models, constants of the network.
      axis_name: pmap axis over which batch statistics are averaged; None for none.
    """

    config: ModelConfig
    hands: HandPair
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> Output:
        """Reconstructs both hands.

        Args:
          images: (B, 256, 256, 3), normalised by the ImageNet mean and standard deviation.
          train: use batch statistics (and update the running ones: pass
            mutable=["batch_stats"] to `apply`).

        Returns:
          `Output`, its stages in float32 at least.
        """
        maps = self._encode(images, train)
        stages, x = (self._first_estimate(maps[-1], train),), self.coarsest(maps)
        for index in range(max(self.config.stages, LEVELS)):
            stages, x = self._refine(index, stages, x, self.skip(maps, index), train)
        return self._heads(stages, x, train)

    def _shared(self):
        dtype = jnp.bfloat16 if self.config.precision == "bfloat16" else None
        return self.axis_name, dtype

    def _encode(self, images, train):
        """The encoder's four maps, c1 to c4."""
        config, (axis_name, dtype) = self.config, self._shared()
        if dtype is not None:
            images = images.astype(dtype)
        if config.image_stride > 1:
            images = nn.avg_pool(images, (2, 2), (2, 2))
        encoder = Encoder(
            config.encoder_blocks, config.encoder_width, axis_name, dtype, name="encoder"
        )
        maps = encoder(images, train)
        for index, features in enumerate(maps, 1):
            self.sow("intermediates", f"c{index}", features)
        return maps

    def _first_estimate(self, features, train):
        estimate = InitialEstimate(self.config.attention, *self._shared(), name="initial")
        return decode(self.hands, *estimate(features, train), self.config)

    def _refine(self, index, stages, x, skip, train):
        """Stages so far and the map (B, s, s, C) to one stage more and the next map."""
        config, shared = self.config, self._shared()
        if index >= config.stages:  # the two levels then only feed the auxiliary heads
            fusion = Fusion(config.feature_width, *shared, name=f"fusion{index + 1}")
            return stages, fusion(x, skip, train)
        refinement = nn.remat(Refinement, static_argnums=(4,)) if config.remat else Refinement
        module = refinement(config, self.hands, index, *shared, name=f"stage{index + 1}")
        stage, x = module(x, skip, stages[-1], train)
        return (*stages, stage), x

    def coarsest(self, maps):
        """The 8x8 map that the first refinement enlarges: c4, or c3 of a halved photograph."""
        return maps[-self.config.image_stride]

    def skip(self, maps, index):
        """The encoder's map for a refinement: c3, c2, then c1 brought down to c2's size.

        Of a halved photograph: c2, c1, c1.
        """
        halved = self.config.image_stride - 1
        if index < LEVELS:
            return maps[2 - index - halved]
        return maps[0] if halved else nn.avg_pool(maps[0], (2, 2), (2, 2))

    def _heads(self, stages, x, train):
        width, (axis_name, dtype) = self.config.feature_width, self._shared()
        x = Conv(width, 3, use_bias=False, dtype=dtype, name="final_conv1")(x)
        x = nn.relu(BatchNorm(None, axis_name, name="final_norm")(x, train))
        x = Conv(width, dtype=dtype, name="final_conv2")(x)
        self.sow("intermediates", "final", x)
        lowest = jnp.promote_types(x.dtype, jnp.float32)
        segmentation = MapHead(axis_name, dtype, name="segmentation")(x, train).astype(lowest)
        dense = MapHead(axis_name, dtype, name="dense")(x, train).astype(lowest)
        return Output(stages=stages, segmentation=segmentation, dense=dense)


def create_model(
    config: str | ModelConfig | Mapping[str, Any], hands: HandPair, *, axis_name: str | None = None
) -> DIR:
    """A network, without weights.

    Args:
      config: "released", "paper", a `ModelConfig`, or a mapping of its fields over a `preset`.
      hands: from `mano_jax.load_pair` or `mano_jax.open_hands`.
      axis_name: pmap axis over which BatchNorm averages its statistics.

    Returns:
      A Flax module: `model.init(key, images)`, `model.apply(variables, images, train=False)`.

    Raises:
      ValueError: an unknown preset, field or value.
    """
    return DIR(model_config(config), hands, axis_name)
