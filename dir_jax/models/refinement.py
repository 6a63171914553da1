"""One refinement: joints read the image, reason together, and write back to it (SPEC 3)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from dir_jax.models.config import ModelConfig
from dir_jax.models.constants import LENGTH_SCALE, PARAMETERS
from dir_jax.models.convolutions import Residual, enlarge
from dir_jax.models.graph import GraphNetwork
from dir_jax.models.hands import decode
from dir_jax.models.layers import HANDS, Dtype, HandDense, PointMap, linear_normal, torch_uniform
from dir_jax.models.projection import Projection
from dir_jax.models.sampling import sample
from dir_jax.models.transformer import Transformer
from dir_jax.models.types import Stage
from mano_jax import HandPair


class JointFeatures(nn.Module):
    """Joint features of both hands from the image, the last estimate and each other."""

    config: ModelConfig
    axis_name: str | None = None
    dtype: Dtype = None

    @nn.compact
    def __call__(self, fused: jax.Array, previous: Stage, train: bool) -> jax.Array:
        """fused (B, S, S, C) and the previous estimate to (B, 2, 21, plane_width)."""
        config, width = self.config, self.config.joint_width
        batch, joints = fused.shape[0], previous.joints_uv.shape[2]

        def point_map(name, hands, x):
            module = PointMap(width, hands, self.axis_name, self.dtype, name=name)
            return module(x.astype(fused.dtype), train)

        uv = previous.joints_uv.reshape(batch, -1, 2)
        seen = sample(fused, uv, config.sampling).reshape(batch, HANDS, joints, -1)
        normalised = previous.joints_xyz / LENGTH_SCALE
        x = point_map("visual", "separate", seen) + point_map("position", "separate", normalised)
        if config.graph != "none":
            x = GraphNetwork(
                config.graph_layers,
                width,
                config.graph == "shared",
                self.axis_name,
                self.dtype,
                name="graph",
            )(x, train)
            self.sow("intermediates", "after_graph", x)
        if config.transformer_blocks:
            half = previous.offset[:, None, None] / 2
            in_one_space = normalised + jnp.concatenate([-half, half], 1)
            x = x + point_map("global_position", "shared", in_one_space)
        x = Transformer(
            config.transformer_blocks,
            config.transformer_heads,
            config.plane_width,
            self.dtype,
            name="transformer",
        )(x.reshape(batch, HANDS * joints, width))
        self.sow("intermediates", "after_transformer", x)
        return x.reshape(batch, HANDS, joints, -1)


class Regression(nn.Module):
    """New parameters and offset from the joints' features and the last ones (SPEC 3, step 6)."""

    dtype: Dtype = None

    @nn.compact
    def __call__(self, features: jax.Array, previous: Stage) -> tuple[jax.Array, jax.Array]:
        """(B, 2, 21, C) to params (B, 2, 64) and offset (B, 3)."""
        batch = features.shape[0]
        flat = features.reshape(batch, HANDS, -1)
        last = previous.params.astype(flat.dtype), previous.offset.astype(flat.dtype)
        per_hand = jnp.concatenate([flat, last[0]], -1)
        params = HandDense(PARAMETERS, dtype=self.dtype, name="params")(per_hand)
        both = jnp.concatenate([flat.reshape(batch, -1), last[1]], -1)
        offset = nn.Dense(
            3,
            kernel_init=linear_normal,
            bias_init=torch_uniform(both.shape[-1]),
            dtype=self.dtype,
            name="offset",
        )(both)
        return params, offset


class Fusion(nn.Module):
    """The coarser map, enlarged if need be, joined with the encoder's (SPEC 3, step 1)."""

    features: int
    axis_name: str | None = None
    dtype: Dtype = None

    @nn.compact
    def __call__(self, coarse: jax.Array, skip: jax.Array, train: bool) -> jax.Array:
        """(B, s, s, C), (B, S, S, D) to (B, S, S, features); s is S or S / 2."""
        same_size = coarse.shape[1] == skip.shape[1]
        enlarged = coarse if same_size else enlarge(coarse)
        skip = Residual(self.features, self.axis_name, self.dtype, name="skip")(skip, train)
        both = jnp.concatenate([enlarged, skip], -1)
        fuse = Residual(self.features, self.axis_name, self.dtype, name="fuse")
        return fuse(both, train, None if same_size else coarse)


class Refinement(nn.Module):
    """One stage T.

    Attributes:
      config: the model's.
      hands: the hand models.
      index: number of the stage, 0 for the first.
      axis_name: see `BatchNorm`.
      dtype: arithmetic type, None to follow the input.
    """

    config: ModelConfig
    hands: HandPair
    index: int
    axis_name: str | None = None
    dtype: Dtype = None

    @nn.compact
    def __call__(self, coarse: jax.Array, skip: jax.Array, previous: Stage, train: bool):
        """Refines an estimate.

        Args:
          coarse: (B, s, s, C) map from the stage before, s = S or S / 2.
          skip: (B, S, S, D) map of the encoder.
          previous: the estimate so far; carries no gradient into this stage.
          train: whether BatchNorm uses batch statistics.

        Returns:
          The new `Stage` and the enhanced map (B, S, S, feature_width).
        """
        config, shared = self.config, (self.axis_name, self.dtype)
        previous = jax.lax.stop_gradient(previous)
        fused = Fusion(config.feature_width, *shared, name="fusion")(coarse, skip, train)
        self.sow("intermediates", "fused", fused)
        features = JointFeatures(config, *shared, name="joints")(fused, previous, train)
        params, offset = Regression(self.dtype, name="regression")(features, previous)
        stage = decode(self.hands, params, offset, config)
        if config.planes == "none":
            return stage, fused
        vectors = PointMap(config.plane_width, "shared", *shared, name="vectors")(features, train)
        projected = Projection(
            config.feature_width,
            config.planes,
            config.projection,
            config.bone_distance[self.index],
            *shared,
            name="projection",
        )(stage.joints_uv, vectors, fused.shape[1], train)
        self.sow("intermediates", "projected", projected)
        both = jnp.concatenate([fused, projected], -1)
        enhanced = Residual(config.feature_width, *shared, name="enhance")(both, train)
        self.sow("intermediates", "enhanced", enhanced)
        return stage, enhanced
