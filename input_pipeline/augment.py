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

import tensorflow as tf

from input_pipeline.pixels import MAX_KERNEL, REACH, blur, recolour, warp
from input_pipeline.records import CROP_SIZE

CENTRE = CROP_SIZE / 2
MIRROR = CROP_SIZE - 1


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

    def __post_init__(self):
        for name in ("rotation_degrees", "translation_px", "brightness", "noise"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"augmentation: {name} is {getattr(self, name)}; wanted 0 or more")
        for name in ("scale", "gain", "flip", "blur"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augmentation: {name} is {getattr(self, name)}; wanted 0 to 1")
        shortest, longest = self.blur_lengths
        if not 1 <= shortest <= longest <= MAX_KERNEL:
            raise ValueError(
                f"augmentation: blur_lengths is {self.blur_lengths}; wanted two rising lengths "
                f"between 1 and {MAX_KERNEL} pixels"
            )


@dataclasses.dataclass(frozen=True)
class Draws:
    """The random numbers of one example, as scalar tensors unless said otherwise.

    Attributes:
      rotation_degrees: degrees; positive turns x towards y (clockwise as seen).
      scale: magnification.
      translation_px: (2,) pixels.
      flip: bool.
      blur: bool.
      blur_length: pixels, int32.
      blur_angle: radians.
      gain: (3,) factors of red, green and blue.
      brightness: grey levels.
      noise_seed: (2,) seed of the pixel noise.
    """

    rotation_degrees: tf.Tensor
    scale: tf.Tensor
    translation_px: tf.Tensor
    flip: tf.Tensor
    blur: tf.Tensor
    blur_length: tf.Tensor
    blur_angle: tf.Tensor
    gain: tf.Tensor
    brightness: tf.Tensor
    noise_seed: tf.Tensor


def example_seed(seed, epoch, index) -> tf.Tensor:
    """Seed (2,) int64 of one example in one epoch, for the stateless random functions."""
    pair = tf.stack([tf.cast(seed, tf.int64), tf.cast(epoch, tf.int64)])
    return tf.random.experimental.stateless_fold_in(pair, index, alg="philox")


def draw(seed: tf.Tensor, config: AugmentConfig) -> Draws:
    """Draws one example's augmentation.

    Args:
      seed: (2,) from `example_seed`.
      config: the ranges.

    Returns:
      The draws, a pure function of both.
    """
    unit = tf.random.stateless_uniform([12], seed, alg="philox")
    spread = 2.0 * unit - 1.0
    shortest, longest = config.blur_lengths
    return Draws(
        rotation_degrees=spread[0] * config.rotation_degrees,
        scale=1.0 + spread[1] * config.scale,
        translation_px=spread[2:4] * config.translation_px,
        flip=unit[4] < config.flip,
        blur=unit[5] < config.blur,
        blur_length=shortest + tf.cast(unit[6] * (longest - shortest + 1), tf.int32),
        blur_angle=spread[7] * math.pi,
        gain=1.0 + spread[8:11] * config.gain,
        brightness=spread[11] * config.brightness * 255.0,
        noise_seed=tf.random.experimental.stateless_fold_in(seed, 1, alg="philox"),
    )


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
    sign = tf.where(flip, -1.0, 1.0)
    sign = tf.cast(sign, tf.float64)
    zero, one = tf.zeros((), tf.float64), tf.ones((), tf.float64)
    edge = tf.cast(tf.where(flip, MIRROR, 0), tf.float64)
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
    flipped_points = tf.linalg.diag(tf.stack([sign, one, one]))
    mirrored_camera = mirror @ camera @ flipped_points
    motion = tf.linalg.inv(mirrored_camera) @ affine @ camera
    return affine, motion, mirrored_camera


def augment_example(image: tf.Tensor, camera: tf.Tensor, draws: Draws, config: AugmentConfig):
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
        draws.rotation_degrees, draws.scale, draws.translation_px, draws.flip, camera
    )
    # The blur reads beyond the crop, where there is photograph too.
    wide = warp(image, affine, border=REACH)
    pixels = tf.cond(
        draws.blur,
        lambda: blur(wide, draws.blur_length, draws.blur_angle),
        lambda: wide[REACH:-REACH, REACH:-REACH],
    )
    pixels = tf.ensure_shape(pixels, (CROP_SIZE, CROP_SIZE, 3))
    return {
        "image": recolour(
            pixels, draws.gain, draws.brightness, config.noise * 255.0, draws.noise_seed
        ),
        "motion": tf.cast(motion, tf.float32),
        "camera": tf.cast(camera, tf.float32),
        "flip": draws.flip,
    }


def central_crop(image: tf.Tensor, camera: tf.Tensor):
    """What `augment_example` returns, with nothing changed: for evaluation.

    Args:
      image: (side, side, 3) uint8, the stored window.
      camera: (3, 3) intrinsics of the central crop.

    Returns:
      A dict as from `augment_example`.
    """
    margin = (image.shape[0] - CROP_SIZE) // 2
    window = slice(margin, margin + CROP_SIZE)
    return {
        "image": image[window, window],
        "motion": tf.eye(3, dtype=tf.float32),
        "camera": tf.cast(camera, tf.float32),
        "flip": tf.constant(False),
    }
