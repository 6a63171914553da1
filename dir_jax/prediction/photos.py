"""Photographs of any size and kind as crops for the network, and points back on the photo."""

from __future__ import annotations

import os
from typing import NamedTuple

import cv2
import numpy as np

from dir_jax.models.constants import IMAGE_SIZE
from dir_jax.prediction.photo_headers import claimed_size
from input_pipeline.crop import crop_affine, crop_image, square_around_box
from input_pipeline.image_files import JPEG_START, PNG_START, check_pixels, decode_photo, read_file
from input_pipeline.troubles import FrameTrouble

KNOWN_BY_HEADER = (PNG_START, JPEG_START)


class PhotoError(ValueError):
    """A photo that cannot be used, or a box that does not lie on it; one plain line."""


class Photo(NamedTuple):
    """A photo and the part of it that the network sees.

    Attributes:
      name: the file.
      image: (h, w, 3) uint8 RGB, turned upright.
      box: x, y, width, height of the hands in pixels, or None: the whole photo.
      square: (3,) centre x, centre y, half side of the crop, pixels.
      hand_boxes: of single hands, where a detector saw them; each x, y, width, height, pixels.
    """

    name: str
    image: np.ndarray
    box: tuple[float, float, float, float] | None
    square: np.ndarray
    hand_boxes: tuple[tuple[float, float, float, float], ...] = ()

    def crop(self) -> np.ndarray:
        """(256, 256, 3) uint8: the crop, black where the photo ends."""
        return crop_photo(self.image, self.square)

    def to_photo_px(self, points_uv: np.ndarray) -> np.ndarray:
        """Points (..., 2) in [-1, 1] over the crop as pixels of the photo."""
        matrix = crop_affine(self.square, IMAGE_SIZE)
        crop_px = (np.asarray(points_uv, np.float64) + 1) / 2 * IMAGE_SIZE
        return (crop_px - matrix[:, 2]) / np.diag(matrix[:, :2])


def crop_photo(image: np.ndarray, square: np.ndarray) -> np.ndarray:
    """The crop of a photo; large photos are averaged down first, so that nothing flickers."""
    scale = IMAGE_SIZE / (2 * float(square[2]))
    if scale < 0.5:  # cv2.warpAffine reads four pixels whatever the scale
        factor = int(1 / scale)
        height, width = (max(1, side // factor) for side in image.shape[:2])
        image = cv2.resize(
            image[: height * factor, : width * factor],
            (width, height),
            interpolation=cv2.INTER_AREA,
        )
        centre = (np.asarray(square[:2]) + 0.5) / factor - 0.5
        square = np.array([*centre, square[2] / factor])
    return crop_image(image, square)


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Reads a photo: JPEG, PNG, WebP, BMP or TIFF; grey, alpha and orientation tags understood.

    Returns:
      (h, w, 3) uint8 RGB; what is transparent becomes black.

    Raises:
      PhotoError: missing, unreadable, cut off or larger than 50 million pixels.
    """
    try:
        data = read_file(path)
        if data.startswith(KNOWN_BY_HEADER):
            image = decode_photo(data, str(path))
            return _with_alpha(data, image) if data.startswith(PNG_START) else image
        size = claimed_size(data)
        if size is not None:
            check_pixels(*size, str(path))
    except FrameTrouble as trouble:
        message = str(trouble) if str(path) in str(trouble) else f"{path}: {trouble}"
        raise PhotoError(message) from None
    if not data:
        raise PhotoError(f"{path}: the file is empty")
    image = None if size is None else _decode_other(data)
    if image is None:
        raise PhotoError(f"{path}: not a photo that can be read; wanted JPEG, PNG, WebP or TIFF")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _decode_other(data: bytes) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None


def _with_alpha(data: bytes, image: np.ndarray) -> np.ndarray:
    """Blackens what a PNG's alpha channel hides (OpenCV's colour mode shows it)."""
    full = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if full is None or full.ndim != 3 or full.shape[2] != 4 or full.shape[:2] != image.shape[:2]:
        return image
    alpha = full[..., 3:] / float(np.iinfo(full.dtype).max)
    return np.rint(image * alpha).astype(np.uint8)


def open_photo(
    path: str | os.PathLike, box: tuple[float, float, float, float] | None = None
) -> Photo:
    """Reads a photo and puts the crop's square around the hands.

    Args:
      path: the file.
      box: x, y, width, height around both hands in pixels of the upright photo; the crop leaves
        the same room around it as in training. None: the crop is the whole photo.

    Raises:
      PhotoError: unreadable file, or a box that is empty or outside the photo.
    """
    image = read_image(path)
    return photo_from_image(image, str(path), box)


def photo_from_image(
    image: np.ndarray, name: str, box: tuple[float, float, float, float] | None = None
) -> Photo:
    """As `open_photo`, for an image in memory: (h, w, 3) uint8 RGB."""
    height, width = image.shape[:2]
    if box is None:
        square = square_around_box(np.array([0, 0, width, height]), share=1.0)
        return Photo(name, image, None, square)
    x, y, box_width, box_height = box
    if not np.isfinite(box).all() or box_width <= 0 or box_height <= 0:
        raise PhotoError(f"the box {box} is empty; wanted x,y,width,height in pixels")
    if x >= width or y >= height or x + box_width <= 0 or y + box_height <= 0:
        raise PhotoError(
            f"{name}: the box {','.join(f'{v:g}' for v in box)} lies outside the photo, "
            f"which is {width} x {height} pixels"
        )
    return Photo(name, image, tuple(box), square_around_box(np.array(box)))
