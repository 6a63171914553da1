"""What augmentation does to pixels, in TensorFlow: resampling, motion blur, colour and noise."""

from __future__ import annotations

import statistics

import numpy as np
import tensorflow as tf

from input_pipeline.records import CROP_SIZE

MAX_KERNEL = 9
REACH = MAX_KERNEL // 2


def blur_kernel(length, angle) -> tf.Tensor:
    """Kernel of a straight motion: a line of the given length, one pixel wide, through the centre.

    Args:
      length: scalar, pixels, at most MAX_KERNEL.
      angle: scalar, radians, from x towards y.

    Returns:
      (MAX_KERNEL, MAX_KERNEL) float32 weights that sum to one.
    """
    steps = tf.range(-REACH, REACH + 1, dtype=tf.float32)
    along = steps[None] * tf.cos(angle) + steps[:, None] * tf.sin(angle)
    across = steps[:, None] * tf.cos(angle) - steps[None] * tf.sin(angle)
    half = (tf.cast(length, tf.float32) + 1.0) / 2.0
    weights = tf.clip_by_value(half - tf.abs(along), 0.0, 1.0)
    weights *= tf.maximum(1.0 - tf.abs(across), 0.0)
    return weights / tf.reduce_sum(weights)


def blur(image: tf.Tensor, length, angle) -> tf.Tensor:
    """Blurs along a straight path; the result is smaller by REACH pixels on every side.

    Args:
      image: (H, W, 3) float32.
      length: scalar, pixels, at most MAX_KERNEL.
      angle: scalar, radians, from x towards y.

    Returns:
      (H - 2 REACH, W - 2 REACH, 3) float32.
    """
    kernel = tf.tile(blur_kernel(length, angle)[:, :, None, None], [1, 1, 3, 1])
    return tf.nn.depthwise_conv2d(image[None], kernel, [1, 1, 1, 1], "VALID")[0]


# Compiled: as separate TensorFlow kernels the sampling takes three times as long.
@tf.function(jit_compile=True)
def _sample(image: tf.Tensor, inverse: tf.Tensor, border: int) -> tf.Tensor:
    """Bilinear samples of `image` (uint8) at inverse @ pixel; black outside, float32 levels."""
    height, width, _ = image.shape
    grid = tf.range(-border, CROP_SIZE + border, dtype=tf.float32)
    x = inverse[0, 0] * grid[None] + inverse[0, 1] * grid[:, None] + inverse[0, 2]
    y = inverse[1, 0] * grid[None] + inverse[1, 1] * grid[:, None] + inverse[1, 2]
    left, top = tf.floor(x), tf.floor(y)
    right_share, low_share = (x - left)[..., None], (y - top)[..., None]
    column, row = tf.cast(left, tf.int32), tf.cast(top, tf.int32)
    pixels = tf.reshape(image, [-1, 3])

    def level(row, column):
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        row = tf.clip_by_value(row, 0, height - 1)
        column = tf.clip_by_value(column, 0, width - 1)
        value = tf.cast(tf.gather(pixels, row * width + column), tf.float32)
        return tf.where(inside[..., None], value, 0.0)

    upper = level(row, column) * (1 - right_share) + level(row, column + 1) * right_share
    lower = level(row + 1, column) * (1 - right_share) + level(row + 1, column + 1) * right_share
    return upper * (1 - low_share) + lower * low_share


def warp(image: tf.Tensor, affine: tf.Tensor, border: int = 0) -> tf.Tensor:
    """Resamples the stored window into the crop, moved by `affine`.

    Args:
      image: (side, side, 3) uint8, the stored window; the crop is its centre, the rest fills the
        corners that a rotation uncovers.
      affine: (3, 3) pixels of the crop to pixels of the result.
      border: extra pixels around the result.

    Returns:
      (256 + 2 border, 256 + 2 border, 3) float32 grey levels, black where nothing is stored.
    """
    margin = (image.shape[0] - CROP_SIZE) // 2
    inverse = tf.linalg.inv(tf.cast(affine, tf.float64))
    inverse += tf.constant([[0, 0, margin], [0, 0, margin], [0, 0, 0]], tf.float64)
    return _sample(image, tf.cast(inverse, tf.float32), border)


def _normal_levels() -> np.ndarray:
    """256 equally likely values of the standard normal distribution, of variance one."""
    centres = (np.arange(256) + 0.5) / 256
    levels = np.array([statistics.NormalDist().inv_cdf(p) for p in centres])
    return (levels / levels.std()).astype(np.float32)


_NORMAL_LEVELS = _normal_levels()


@tf.function(jit_compile=True)
def _recolour(image, gain, brightness, deviation, random_bytes) -> tf.Tensor:
    noise = tf.gather(tf.constant(_NORMAL_LEVELS), tf.cast(random_bytes, tf.int32))
    levels = image * gain + brightness + deviation * noise
    return tf.cast(tf.clip_by_value(levels + 0.5, 0.0, 255.0), tf.uint8)


def recolour(image, gain, brightness, deviation, seed) -> tf.Tensor:
    """Channel gains, brightness and noise.

    The noise takes one random byte a value, through 256 levels of the normal distribution: six
    times cheaper than exact normals, and finer than the rounding to whole grey levels.

    Args:
      image: (256, 256, 3) float32 grey levels.
      gain: (3,) factors of the channels.
      brightness: scalar, grey levels.
      deviation: scalar, standard deviation of the noise, grey levels.
      seed: (2,) seed of the noise.

    Returns:
      (256, 256, 3) uint8.
    """
    words = tf.random.stateless_uniform(
        [image.shape.num_elements() // 4],
        seed,
        minval=None,
        maxval=None,
        dtype=tf.uint32,
        alg="philox",
    )
    random_bytes = tf.reshape(tf.bitcast(words, tf.uint8), image.shape)
    return _recolour(image, gain, brightness, deviation, random_bytes)
