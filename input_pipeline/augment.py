"""Training augmentation inside tf.data: one 3x3 matrix moves the photograph and its labels alike.

Pixel coordinates here are those of the released code's resampling: whole numbers at pixel centres,
so that the mirror takes column x to 255 - x, and rotation and scale leave the point (128, 128)
where it is. With K the crop's intrinsics, F = diag(-1, 1, 1), K' the mirrored camera and A the
rotation, scale and translation of the pixels,

    pixels' = A [255 - x, y, 1]            (the mirror comes first, when drawn)
    xyz'    = K'^-1 A K' F xyz             (K' = K and F = 1 without the mirror)

which is exactly "the new pixels, back-projected with the old depth" (the depth row of the matrix
stays (0, 0, 1)): hands are turned, and stretched sideways where A scales. Unlike the released
code, the mirror also mirrors the camera's principal point, so points and pixels agree after it.

Every random number is a function of (seed, epoch, example) and nothing else.
"""

from __future__ import annotations

import dataclasses
import math
import statistics

import numpy as np
import tensorflow as tf

from input_pipeline.crop import CROP_SIZE, JPEG_QUALITIES, MARGIN, PATCH

CENTRE = CROP_SIZE / 2
MIRROR = CROP_SIZE - 1
MAX_KERNEL = 9
REACH = MAX_KERNEL // 2


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Ranges of the random changes; every one uniform, zero switches it off.

    Attributes:
      rotation_degrees: rotation in the image plane, between minus and plus this.
      scale: magnification between 1 - scale and 1 + scale.
      translation_px: shift along x and y, between minus and plus this.
      flip: probability of the mirror (which swaps the hands).
      blur: probability of motion blur.
      blur_lengths: shortest and longest path of the blur, pixels, both included.
      gain: colour channels are multiplied by 1 - gain to 1 + gain, each by its own.
      brightness: added to all pixels, as a part of full white, between minus and plus this.
      noise: standard deviation of the Gaussian noise of every value, as a part of full white.
      jpeg: probability of a second compression, as photographs sent around have seen.
      occlusion: probability of a patch of one colour in front of the hands.
    """

    rotation_degrees: float = 180.0
    scale: float = 0.1
    translation_px: float = 10.0
    flip: float = 0.5
    blur: float = 0.3
    blur_lengths: tuple[int, int] = (3, MAX_KERNEL)
    gain: float = 0.3
    brightness: float = 0.05
    noise: float = 0.01
    jpeg: float = 0.0
    occlusion: float = 0.0

    def __post_init__(self):
        object.__setattr__(self, "blur_lengths", tuple(self.blur_lengths))  # JSON has lists


def example_seed(seed, epoch, index) -> tf.Tensor:
    """Seed (2,) int64 of one example in one epoch, for the stateless random functions."""
    pair = tf.stack([tf.cast(seed, tf.int64), tf.cast(epoch, tf.int64)])
    return tf.random.experimental.stateless_fold_in(pair, index, alg="philox")


def draw(seed: tf.Tensor, config: AugmentConfig) -> dict[str, tf.Tensor]:
    """Draws one example's augmentation, a pure function of seed and ranges.

    Args:
      seed: (2,) from `example_seed`.
      config: the ranges.

    Returns:
      Scalars unless said otherwise: rotation_degrees (positive turns x towards y, clockwise as
      seen), scale (magnification), translation_px (2,), flip and blur (bool), blur_length (pixels,
      int32), blur_angle (radians), gain (3,) factors of red, green and blue, brightness (grey
      levels), noise_seed (2,).
    """
    unit = tf.random.stateless_uniform([12], seed, alg="philox")
    spread = 2.0 * unit - 1.0
    shortest, longest = config.blur_lengths
    return {
        "rotation_degrees": spread[0] * config.rotation_degrees,
        "scale": 1.0 + spread[1] * config.scale,
        "translation_px": spread[2:4] * config.translation_px,
        "flip": unit[4] < config.flip,
        "blur": unit[5] < config.blur,
        "blur_length": shortest + tf.cast(unit[6] * (longest - shortest + 1), tf.int32),
        "blur_angle": spread[7] * math.pi,
        "gain": 1.0 + spread[8:11] * config.gain,
        "brightness": spread[11] * config.brightness * 255.0,
        "noise_seed": tf.random.experimental.stateless_fold_in(seed, 1, alg="philox"),
    }


def geometry(rotation_degrees, scale, translation_px, flip, camera) -> tuple[tf.Tensor, ...]:
    """The matrices that move pixels and points (see the module's docstring).

    Args:
      rotation_degrees: scalar, degrees.
      scale: scalar magnification.
      translation_px: (2,) pixels.
      flip: scalar bool, whether the mirror comes first.
      camera: (3, 3) intrinsics of the crop, no skew.

    Returns:
      affine: (3, 3) float64, pixels of the crop to pixels of the result, the mirror included.
      motion: (3, 3) float64, camera-space points likewise.
      camera: (3, 3) float64, K', with which the moved points project onto the result.
    """
    camera = tf.cast(camera, tf.float64)
    sign = tf.cast(tf.where(flip, -1.0, 1.0), tf.float64)
    edge = tf.cast(tf.where(flip, MIRROR, 0), tf.float64)
    zero, one = tf.zeros((), tf.float64), tf.ones((), tf.float64)
    mirror = tf.stack([[sign, zero, edge], [zero, one, zero], [zero, zero, one]])
    angle = tf.cast(rotation_degrees, tf.float64) * (math.pi / 180.0)
    scale = tf.cast(scale, tf.float64)
    shift = tf.cast(translation_px, tf.float64) + CENTRE
    cos, sin = scale * tf.cos(angle), scale * tf.sin(angle)
    turn = tf.stack(
        [
            [cos, -sin, shift[0] - CENTRE * (cos - sin)],
            [sin, cos, shift[1] - CENTRE * (sin + cos)],
            [zero, zero, one],
        ]
    )
    affine = turn @ mirror
    mirrored_camera = mirror @ camera @ tf.linalg.diag(tf.stack([sign, one, one]))
    motion = tf.linalg.inv(mirrored_camera) @ affine @ camera
    return affine, motion, mirrored_camera


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


# 256 equally likely values of the standard normal distribution, brought to variance one.
_LEVELS = np.array([statistics.NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)])
_LEVELS = (_LEVELS / _LEVELS.std()).astype(np.float32)


@tf.function(jit_compile=True)
def _recolour(image, gain, brightness, deviation, random_bytes) -> tf.Tensor:
    noise = tf.gather(tf.constant(_LEVELS), tf.cast(random_bytes, tf.int32))
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
        [image.shape.num_elements() // 4], seed, None, None, tf.uint32, alg="philox"
    )
    random_bytes = tf.reshape(tf.bitcast(words, tf.uint8), image.shape)
    return _recolour(image, gain, brightness, deviation, random_bytes)


def _units(count: int, seed, number: int) -> tf.Tensor:
    """(count,) uniform numbers in 0..1; a different `number`, unrelated ones."""
    seed = tf.random.experimental.stateless_fold_in(seed, number, alg="philox")
    return tf.random.stateless_uniform([count], seed, alg="philox")


def occlude(image: tf.Tensor, probability: float, seed) -> tf.Tensor:
    """With some probability, a patch of one colour in the picture: a rectangle or an ellipse.

    Args:
      image: (256, 256, 3) float32 grey levels.
      probability: of a patch.
      seed: (2,) of the draws.

    Returns:
      The picture, likewise.
    """
    unit = _units(9, seed, 1)
    grid = (tf.range(CROP_SIZE, dtype=tf.float32) + 0.5) / CROP_SIZE
    half = PATCH[0] + unit[1:3] * (PATCH[1] - PATCH[0])
    x, y = tf.abs(grid - unit[3])[None] / half[0], tf.abs(grid - unit[4])[:, None] / half[1]
    inside = tf.where(unit[5] < 0.5, tf.maximum(x, y), tf.sqrt(x * x + y * y)) < 1.0
    inside &= unit[0] < probability
    return tf.where(inside[..., None], 255.0 * unit[6:9], image)


def recompress(image: tf.Tensor, probability: float, seed) -> tf.Tensor:
    """With some probability, what a JPEG file of random quality keeps of (H, W, 3) uint8."""
    unit = _units(2, seed, 2)
    lowest, highest = JPEG_QUALITIES
    quality = tf.cast(lowest + (highest - lowest) * unit[1], tf.int32)
    return tf.cond(
        unit[0] < probability,
        lambda: tf.ensure_shape(tf.image.adjust_jpeg_quality(image, quality), image.shape),
        lambda: image,
    )


def augment_example(image: tf.Tensor, camera: tf.Tensor, draws: dict, config: AugmentConfig):
    """Applies one example's draws to its photograph and camera.

    Args:
      image: (side, side, 3) uint8, the stored window.
      camera: (3, 3) intrinsics of the central crop.
      draws: from `draw`.
      config: the ranges they were drawn from.

    Returns:
      A dict: image (256, 256, 3) uint8; motion and camera (3, 3) float32 (see `geometry`); flip.
    """
    affine, motion, camera = geometry(
        draws["rotation_degrees"], draws["scale"], draws["translation_px"], draws["flip"], camera
    )
    # The blur reads beyond the crop, where there is photograph too.
    wide = warp(image, affine, border=REACH)
    pixels = tf.cond(
        draws["blur"],
        lambda: blur(wide, draws["blur_length"], draws["blur_angle"]),
        lambda: wide[REACH:-REACH, REACH:-REACH],
    )
    pixels = tf.ensure_shape(pixels, (CROP_SIZE, CROP_SIZE, 3))
    if config.occlusion:
        pixels = occlude(pixels, config.occlusion, draws["noise_seed"])
    noise = (config.noise * 255.0, draws["noise_seed"])
    pixels = recolour(pixels, draws["gain"], draws["brightness"], *noise)
    if config.jpeg:
        pixels = recompress(pixels, config.jpeg, draws["noise_seed"])
    return {
        "image": pixels,
        "motion": tf.cast(motion, tf.float32),
        "camera": tf.cast(camera, tf.float32),
        "flip": draws["flip"],
    }


def central_crop(image: tf.Tensor, camera: tf.Tensor):
    """What `augment_example` returns, with nothing changed: for evaluation.

    Args:
      image: (side, side, 3) uint8, the stored window.
      camera: (3, 3) intrinsics of the central crop.

    Returns:
      A dict as from `augment_example`.
    """
    return {
        "image": image[MARGIN:-MARGIN, MARGIN:-MARGIN],
        "motion": tf.eye(3, dtype=tf.float32),
        "camera": tf.cast(camera, tf.float32),
        "flip": tf.constant(False),
    }
