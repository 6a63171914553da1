"""MediaPipe's two hand networks in JAX: landmarks of one hand (also DIR's encoder), and palms.

Google's `hand_landmark_full` and `palm_detection_full` (Apache-2.0; Zhang et al., "MediaPipe
Hands", 2020), with their weights as `tools/convert_mediapipe.py` left them in `dir_jax/weights`.
Both look at RGB in [0, 1]. Batch statistics are folded into the convolutions. TensorFlow's SAME
padding puts the smaller half first, so strided layers are not torch's.

Depthwise convolutions are sums of shifted products: XLA's grouped convolution takes ten times as
long on CPUs.
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Weights = Mapping[str, jax.Array]

FOLDER = pathlib.Path(__file__).parents[1] / "weights"
LANDMARK_FILE, PALM_FILE = "mediapipe_landmark.safetensors", "mediapipe_palm.safetensors"


class Block(NamedTuple):
    """An inverted residual block (Sandler et al., "MobileNetV2", 2018).

    Attributes:
      width: channels between the two 1x1 convolutions.
      kernel: side of the depthwise convolution.
      stride: of the depthwise convolution.
      features: channels behind the second 1x1 convolution; 0: there is none.
    """

    width: int
    kernel: int
    stride: int
    features: int


LANDMARK_BLOCKS = (
    Block(64, 3, 2, 24),
    Block(144, 3, 1, 24),
    Block(144, 5, 2, 40),
    Block(240, 5, 1, 40),
    Block(240, 3, 2, 80),
    Block(480, 3, 1, 80),
    Block(480, 3, 1, 80),
    Block(480, 5, 1, 112),
    Block(672, 5, 1, 112),
    Block(672, 5, 1, 112),
    Block(672, 5, 2, 192),
    Block(1152, 5, 1, 192),
    Block(1152, 5, 1, 192),
    Block(1152, 5, 1, 192),
    Block(1152, 3, 1, 0),
)
"""Maps of a stride are taken where they are widest: inside the block that halves them next."""

PALM_LEVELS = (32, 64, 128, 256, 256)
"""Channels at strides 2, 4, 8, 16, 32; four residual blocks at each."""
PALM_BLOCKS = 4
PALM_ANCHORS = {8: 2, 16: 6}
"""Anchors per cell of the maps that the detector's heads read, by stride."""


@functools.cache
def load(name: str) -> dict[str, np.ndarray]:
    """Weights of a shipped network by name, float32, read-only.

    Args:
      name: `LANDMARK_FILE` or `PALM_FILE`.
    """
    from safetensors.numpy import load_file

    weights = {k: v.astype(np.float32) for k, v in load_file(FOLDER / name).items()}
    for array in weights.values():
        array.flags.writeable = False
    return weights


def _padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def depthwise(x: jax.Array, kernel: jax.Array, bias: jax.Array, stride: int = 1) -> jax.Array:
    """Each channel of (B, H, W, C) with its own (k, k, C) kernel, SAME padding."""
    return _depthwise(x, kernel, bias, stride)


def _shifted(x, side, stride):
    """What of x lies under each weight of a (side, side) kernel, row by row."""
    sizes = x.shape[1:3]
    rows, columns = (-(-size // stride) for size in sizes)
    x = jnp.pad(x, ((0, 0), *(_padding(size, side, stride) for size in sizes), (0, 0)))
    if stride == 2:  # four interleaved maps: shifted slices of them lie densely in memory
        x = jnp.pad(x, ((0, 0), *((0, n % 2) for n in x.shape[1:3]), (0, 0)))
        x = {(i, j): x[:, i::2, j::2] for i in range(2) for j in range(2)}
    else:
        x = {(0, 0): x}
    for dy in range(side):
        for dx in range(side):
            top, left = dy // stride, dx // stride
            yield x[dy % stride, dx % stride][:, top : top + rows, left : left + columns]


def _products(x, kernel, bias, stride):
    side = kernel.shape[0]
    parts = zip(_shifted(x, side, stride), kernel.reshape(side * side, -1), strict=True)
    return sum((part * weight for part, weight in parts), bias)


_depthwise = jax.custom_vjp(_products, nondiff_argnums=(3,))


def _depthwise_backward(stride, saved, gradient):
    def by_sum(x, kernel, gradient):
        return jax.vjp(lambda k: _products(x, k, bias, stride), kernel)[1](gradient)[0]

    def by_halves(x, kernel, gradient):
        parts = _shifted(x, kernel.shape[0], stride)
        return jnp.stack([_sum_by_halves(part * gradient) for part in parts]).reshape(kernel.shape)

    x, kernel, bias = saved
    of_x, of_bias = jax.vjp(lambda x, b: _products(x, kernel, b, stride), x, bias)[1](gradient)
    of_kernel = jax.lax.platform_dependent(x, kernel, gradient, cpu=by_halves, default=by_sum)
    return of_x, of_kernel, of_bias


def _sum_by_halves(x):
    """(B, H, W, C) to (C,). As additions of maps: XLA's own sum takes twice as long on CPUs."""
    x = x.reshape(-1, x.shape[-1])
    while len(x) > 8 and len(x) % 2 == 0:
        x = x[: len(x) // 2] + x[len(x) // 2 :]
    return x.sum(0)


_depthwise.defvjp(
    lambda x, kernel, bias, stride: (_products(x, kernel, bias, stride), (x, kernel, bias)),
    _depthwise_backward,
)


def pointwise(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """(..., C) by a (C, D) kernel, as one product of two matrices."""
    return (x.reshape(-1, x.shape[-1]) @ kernel + bias).reshape(*x.shape[:-1], -1)


def _stem(weights: Weights, x: jax.Array) -> jax.Array:
    return weights["stem.bias"] + jax.lax.conv_general_dilated(
        x, weights["stem.kernel"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _layer(weights: Weights, name: str) -> tuple[jax.Array, jax.Array]:
    return weights[f"{name}.kernel"], weights[f"{name}.bias"]


def landmark_maps(weights: Weights, images: jax.Array) -> tuple[jax.Array, ...]:
    """Feature maps of the landmark network.

    Args:
      weights: from `load`.
      images: (B, S, S, 3) RGB in [0, 1], S a multiple of 32.

    Returns:
      (B, S / s, S / s, C) for s = 4, 8, 16, 32, of 144, 240, 672 and 1152 channels.
    """
    x = jax.nn.relu6(_stem(weights, images))
    x = jax.nn.relu6(depthwise(x, *_layer(weights, "stem.depthwise")))
    x = pointwise(x, *_layer(weights, "stem.project"))
    maps, stride = [], 2
    for number, block in enumerate(LANDMARK_BLOCKS):
        name = f"block{number:02d}"
        y = jax.nn.relu6(pointwise(x, *_layer(weights, f"{name}.expand")))
        if block.stride == 2 and stride > 2:
            maps.append(y)
        stride *= block.stride
        y = jax.nn.relu6(depthwise(y, *_layer(weights, f"{name}.depthwise"), block.stride))
        if block.features:
            y = pointwise(y, *_layer(weights, f"{name}.project"))
            x = x + y if x.shape == y.shape else y
        else:
            maps.append(y)
    return tuple(maps)


class LandmarkOutput(NamedTuple):
    """What the landmark network says of a picture of one hand.

    Attributes:
      points: (B, 21, 3) pixels of the picture, depth relative to the wrist likewise.
      presence: (B,) in 0..1, whether there is a hand.
      handedness: (B,) in 0..1, near 1 for a right hand. (MediaPipe names it for mirrored pictures.)
      world: (B, 21, 3) metres about the hand's middle.
    """

    points: jax.Array
    presence: jax.Array
    handedness: jax.Array
    world: jax.Array


def landmarks(weights: Weights, images: jax.Array) -> LandmarkOutput:
    """The whole landmark network on (B, 224, 224, 3) RGB in [0, 1]."""
    pooled = landmark_maps(weights, images)[-1].mean((1, 2))
    heads = {
        name: pointwise(pooled, *_layer(weights, f"head.{name}")) for name in LandmarkOutput._fields
    }
    return LandmarkOutput(
        heads["points"].reshape(-1, 21, 3),
        jax.nn.sigmoid(heads["presence"][:, 0]),
        jax.nn.sigmoid(heads["handedness"][:, 0]),
        heads["world"].reshape(-1, 21, 3),
    )


def _prelu(weights: Weights, name: str, x: jax.Array) -> jax.Array:
    return jnp.where(x >= 0, x, x * weights[f"{name}.slope"])


def _palm_block(weights: Weights, name: str, x: jax.Array, stride: int = 1) -> jax.Array:
    """Depthwise 5x5, 1x1, added to the input (halved by maxima, new channels zero), PReLU."""
    y = depthwise(x, *_layer(weights, f"{name}.depthwise"), stride)
    y = pointwise(y, *_layer(weights, f"{name}.project"))
    if stride == 2:
        # Shifted maps again: as a reduction the maxima take XLA five times as long to compile.
        corners = [x[:, i::2, j::2] for i in range(2) for j in range(2)]
        x = functools.reduce(jnp.maximum, corners)
        x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, y.shape[-1] - x.shape[-1])))
    return _prelu(weights, name, x + y)


def palms(weights: Weights, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The palm detector.

    Args:
      weights: from `load`.
      images: (B, 192, 192, 3) RGB in [0, 1].

    Returns:
      boxes (B, 2016, 18): centre, size and seven points in pixels, relative to the anchor; and
      logits (B, 2016). Anchors of stride 8 come first, row by row.
    """
    from dir_jax.models.layers import enlarge

    x = _prelu(weights, "stem", _stem(weights, images))
    maps = {}
    for level, _ in enumerate(PALM_LEVELS):
        if level:
            x = _palm_block(weights, f"level{level}.down", x, 2)
        for block in range(PALM_BLOCKS):
            x = _palm_block(weights, f"level{level}.block{block}", x)
        maps[2 ** (level + 1)] = x
    boxes, logits = {}, {}
    for stride in (16, 8):
        name = f"up{stride}"
        x = pointwise(enlarge(x), *_layer(weights, name))
        x = maps[stride] + _prelu(weights, name, x)
        for block in range(2):
            x = _palm_block(weights, f"{name}.block{block}", x)
        batch = x.shape[0]
        boxes[stride] = pointwise(x, *_layer(weights, f"{name}.boxes")).reshape(batch, -1, 18)
        logits[stride] = pointwise(x, *_layer(weights, f"{name}.scores")).reshape(batch, -1)
    return tuple(jnp.concatenate([part[8], part[16]], 1) for part in (boxes, logits))
