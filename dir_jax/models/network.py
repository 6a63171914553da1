"""The network, from top to bottom: encoder, initial estimate, refinements, map heads.

docs/method.md says what each part computes; what a joint's features go through within a refinement
is in `dir_jax.models.joints`, how they are drawn on the image plane in `projection`.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

from dir_jax.models.config import ModelConfig, find_part, model_config
from dir_jax.models.joints import JointFeatures, Regression, decode
from dir_jax.models.layers import (
    HANDS,
    BatchNorm,
    Conv,
    ConvNorm,
    Drawn,
    HandDense,
    PointMap,
    Residual,
    dense,
    enlarge,
    normal,
    torch_uniform,
)
from dir_jax.models.types import (
    IMAGE_SIZE,
    IMAGENET_MEAN,
    IMAGENET_STD,
    PARAMETERS,
    Output,
    Stage,
)
from mano_jax import HandPair

LEVELS = 2
"""Resolutions of the decoder: 16x16, then 32x32; a third refinement stays at 32x32."""
MAP_CHANNELS = 3
"""Of either map head: classes of the segmentation, coordinates of the dense correspondence."""
POOLING_EPSILON = 1e-8


class Attention(nn.Module):
    """One attention map per hand, in (0, 1): "convolution" (released) or "light" (paper)."""

    kind: str

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """(B, H, W, C) to (B, H, W, 2)."""
        if self.kind == "light":
            # The released initial values would saturate the sigmoid: a random choice of pixels,
            # differing from photograph to photograph, which learning has to undo first.
            return nn.sigmoid(dense(x, HANDS, "conv", torch_uniform(x.shape[-1])))
        # The two hands' filters side by side: the left hand's channels first.
        width = x.shape[-1] // 2
        x = Conv(HANDS * width, 3, name="conv1")(x)
        x = nn.relu(BatchNorm(name="norm")(x, train))
        x = x.reshape(*x.shape[:-1], HANDS, width)
        kernel = self.param("kernel", normal(2**0.5), (HANDS, width)).astype(x.dtype)
        bias = self.param("bias", torch_uniform(width), (HANDS,)).astype(x.dtype)
        return nn.sigmoid(jnp.einsum("byxhc,hc->byxh", x, kernel) + bias)


class InitialEstimate(nn.Module):
    """Parameters of both hands and the wrists' offset, from the encoder's last map.

    Attributes:
      attention: see `ModelConfig.attention`.
    """

    attention: str

    @nn.compact
    def __call__(self, features: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """c4 (B, H, W, C) to params (B, 2, 64) and offset (B, 3)."""
        mean = features.mean((1, 2))
        if self.attention == "none":
            pooled = jnp.stack([mean] * HANDS, 1)
        else:
            maps = Attention(self.attention, name="attention")(features, train)
            pooled = jnp.einsum("byxh,byxc->bhc", maps, features)
            if self.attention == "light":
                pooled = pooled / (features.shape[1] * features.shape[2])
            else:
                pooled = pooled / (maps.sum((1, 2))[..., None] + POOLING_EPSILON)
        return HandDense(PARAMETERS, name="params")(pooled), dense(mean, 3, "offset")


class Fusion(nn.Module):
    """The coarser map, enlarged if need be, joined with the encoder's: the fused map."""

    features: int

    @nn.compact
    def __call__(self, coarse: jax.Array, skip: jax.Array, train: bool) -> jax.Array:
        """(B, s, s, C), (B, S, S, D) to (B, S, S, features); s is S or S / 2."""
        same_size = coarse.shape[1] == skip.shape[1]
        enlarged = coarse if same_size else enlarge(coarse)
        skip = Residual(self.features, name="skip")(skip, train)
        both = jnp.concatenate([enlarged, skip], -1)
        return Residual(self.features, name="fuse")(both, train, None if same_size else coarse)


class Refinement(nn.Module):
    """One refinement: joints read the image, reason together, and write back to it.

    Attributes:
      config: the model's.
      hands: the hand models.
      index: number of the refinement, 0 for the first.
    """

    config: ModelConfig
    hands: HandPair
    index: int

    @nn.compact
    def __call__(
        self, coarse: jax.Array, skip: jax.Array, previous: Stage, train: bool
    ) -> tuple[Stage, jax.Array]:
        """Refines an estimate.

        Args:
          coarse: (B, s, s, C) map from the stage before, s = S or S / 2.
          skip: (B, S, S, D) map of the encoder.
          previous: the estimate so far; carries no gradient into this stage.
          train: whether BatchNorm uses batch statistics.

        Returns:
          The new estimate and the enhanced map (B, S, S, feature_width).
        """
        config, width = self.config, self.config.feature_width
        previous = jax.lax.stop_gradient(previous)
        fused = Fusion(width, name="fusion")(coarse, skip, train)
        self.sow("intermediates", "fused", fused)
        features = JointFeatures(config, name="joints")(fused, previous, train)
        params, offset = Regression(name="regression")(features, previous)
        stage = decode(self.hands, params, offset, config)
        if config.planes == "none":
            return stage, fused
        vectors = PointMap(config.plane_width, "shared", name="vectors")(features, train)
        project = find_part("projection", config.projection)
        project = project(config, config.bone_distance[self.index], name="projection")
        projected = project(stage.joints_uv, vectors, fused.shape[1], train).astype(fused.dtype)
        self.sow("intermediates", "projected", projected)
        enhanced = jnp.concatenate([fused, projected], -1)
        enhanced = Residual(width, name="enhance")(enhanced, train)
        self.sow("intermediates", "enhanced", enhanced)
        return stage, enhanced


class DIR(nn.Module):
    """Decoupled Iterative Refinement (Ren et al., ICCV 2023).

    Attributes:
      config: the architecture.
      hands: the two hand models, constants of the network.
    """

    config: ModelConfig
    hands: HandPair

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> Output:
        """Reconstructs both hands.

        Args:
          images: (B, 256, 256, 3), normalised by the ImageNet mean and standard deviation.
          train: use batch statistics (and update the running ones: pass
            mutable=["batch_stats"] to `apply`). They are averaged over the devices wherever
            the axis `layers.AXIS` is mapped.

        Returns:
          `Output`, in float32 at least.
        """
        maps = self._encode(images, train)
        stages, x = (self._first_estimate(maps[-1], train),), self.coarsest(maps)
        for index in range(max(self.config.stages, LEVELS)):
            stages, x = self._refine(index, stages, x, self.skip(maps, index), train)
        return self._heads(stages, x, train)

    def _encode(self, images, train):
        """The encoder's four maps, c1 to c4."""
        config = self.config
        if config.precision == "bfloat16":  # every layer computes in its input's type
            images = images.astype(jnp.bfloat16)
        if config.image_stride > 1:
            images = nn.avg_pool(images, (2, 2), (2, 2))
        encoder = find_part("encoder", config.encoder)(config, name="encoder")
        maps = tuple(features.astype(images.dtype) for features in encoder(images, train))
        for index, features in enumerate(maps, 1):
            self.sow("intermediates", f"c{index}", features)
        return maps

    def _first_estimate(self, features, train):
        estimate = InitialEstimate(self.config.attention, name="initial")
        return decode(self.hands, *estimate(features, train), self.config)

    def _refine(self, index, stages, x, skip, train):
        """Stages so far and the map (B, s, s, C) to one stage more and the next map."""
        config = self.config
        if index >= config.stages:  # the two levels then only feed the map heads
            fusion = Fusion(config.feature_width, name=f"fusion{index + 1}")
            return stages, fusion(x, skip, train)
        refinement = nn.remat(Refinement, static_argnums=(4,)) if config.remat else Refinement
        module = refinement(config, self.hands, index, name=f"stage{index + 1}")
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
        width = self.config.feature_width
        x = ConvNorm(width, width, use_bias=False, name="final")(x, train)
        self.sow("intermediates", "final_map", x)
        lowest = jnp.promote_types(x.dtype, jnp.float32)
        maps = {
            name: ConvNorm(width // 2, MAP_CHANNELS, name=name)(x, train).astype(lowest)
            for name in ("segmentation", "dense")
        }
        return Output(stages=stages, **maps)

    @nn.nowrap
    def init(self, *arguments, **named):
        """As of any Flax module; without the boxes that only `initial_variables` needs."""
        return nn.meta.unbox(super().init(*arguments, **named))


def create_model(config: str | ModelConfig | Mapping[str, Any], hands: HandPair) -> DIR:
    """A network, without weights.

    Args:
      config: "released", "paper", a `ModelConfig`, or a mapping of its fields over a `preset`.
      hands: from `mano_jax.load_pair` or `mano_jax.open_hands`.

    Returns:
      A Flax module: `model.init(key, images)`, `model.apply(variables, images, train=False)`.

    Raises:
      ValueError: an unknown preset, field, value or part.
    """
    return DIR(model_config(config), hands)


def variable_shapes(model: DIR) -> dict[str, Any]:
    """Shapes and types of {"params", "batch_stats"}, without computing any of them."""
    return nn.meta.unbox(_boxed_shapes(model, jax.config.jax_enable_x64))


@functools.lru_cache(maxsize=8)
def _boxed_shapes(model, x64):
    """Traced once: reading and converting weights ask for the shapes several times."""
    del x64  # another type of number is another entry
    image = jnp.zeros((1, IMAGE_SIZE, IMAGE_SIZE, 3), jnp.float32)
    shapes = jax.eval_shape(lambda key: nn.Module.init(model, key, image), jax.random.key(0))
    return {"params": shapes["params"], "batch_stats": shapes.get("batch_stats", {})}


def initial_variables(model: DIR, seed: int) -> dict[str, Any]:
    """Freshly drawn {"params", "batch_stats"} on the device.

    A parameter's values depend on the seed and its own name only, and are the same on every
    machine. What a part of one's own initialises with Flax's initialisers is computed by Flax.
    """
    key = jax.random.key(seed)
    shapes = _boxed_shapes(model, jax.config.jax_enable_x64)
    boxed = traverse_util.flatten_dict(shapes, keep_empty_nodes=True)
    values: dict[tuple, Any] = {
        path: leaf for path, leaf in boxed.items() if leaf is traverse_util.empty_node
    }
    for path, leaf in boxed.items():
        if isinstance(leaf, Drawn):
            name = zlib.crc32("/".join(path).encode())
            values[path] = leaf.draw(np.random.Generator(np.random.PCG64([seed, name])))
    if others := [path for path in boxed if path not in values]:
        values |= zip(others, _computed(model, key, others), strict=True)
    return jax.device_put(traverse_util.unflatten_dict({path: values[path] for path in boxed}))


def _computed(model, key, paths):
    image = jnp.zeros((1, IMAGE_SIZE, IMAGE_SIZE, 3), jnp.float32)

    def chosen(key):
        flat = traverse_util.flatten_dict(model.init(key, image))
        return [flat[path] for path in paths]

    # Run once: compiling well takes longer than it saves.
    return jax.jit(chosen, compiler_options={"xla_backend_optimization_level": 0})(key)


# --- On photographs: programs compiled once for a process ---------------------------------------


def normalise_images(images: jax.Array) -> jax.Array:
    """Photographs as the encoder expects them.

    Args:
      images: (B, 256, 256, 3) uint8 RGB.

    Returns:
      float32, per channel (level / 255 - ImageNet mean) / ImageNet deviation.
    """
    scale = 1.0 / (255.0 * np.array(IMAGENET_STD))
    shift = np.array(IMAGENET_MEAN) / np.array(IMAGENET_STD)
    images = jnp.asarray(images).astype(jnp.float32)
    return images * scale.astype(np.float32) - shift.astype(np.float32)


@functools.partial(jax.jit, static_argnums=0)
def estimate(model: Any, variables: Any, images: jax.Array) -> tuple[Stage, ...]:
    """All stages of crops.

    Validation, evaluation and pictures of one run share this one compiled program, as long as
    their batches have one shape.

    Args:
      model: from `create_model`.
      variables: its {"params", "batch_stats"}.
      images: (B, 256, 256, 3) uint8 RGB.

    Returns:
      The initial estimate and every refinement.
    """
    return model.apply(variables, normalise_images(images), train=False).stages


def estimate_all(
    model: Any, variables: Any, images: np.ndarray, batch_size: int
) -> tuple[Stage, ...]:
    """All stages of any number of crops (N, 256, 256, 3) uint8, N > 0, as numpy arrays.

    They are taken `batch_size` at a time, the last ones padded, so that one program serves all.
    """
    parts = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        padded = np.zeros((batch_size, *images.shape[1:]), np.uint8)
        padded[: len(batch)] = batch
        parts.append(estimate(model, variables, padded))
    return jax.tree.map(lambda *values: np.concatenate(values)[: len(images)], *parts)
