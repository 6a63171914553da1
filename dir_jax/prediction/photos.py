"""Photographs of any kind and size, and the square of them that the network sees."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps

from dir_jax.models.types import IMAGE_SIZE
from input_pipeline.crop import crop_affine, crop_image, square_around_box
from input_pipeline.image_files import MAX_PIXELS, read_file
from input_pipeline.troubles import FrameTrouble

if TYPE_CHECKING:
    from dir_jax.prediction.detection import SeenHand

Box = tuple[float, float, float, float]
"""x, y, width, height in pixels of the upright photo, x and y its upper left corner."""

READABLE = "JPEG, PNG, WebP, BMP, TIFF, JPEG 2000, PNM, AVIF or HEIC"
PHOTO_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .png .webp .bmp .tif .tiff .jp2 .j2k .pnm .pgm .ppm .pbm "
    ".avif .heic .heif .gif".split()
)
"""What folders are searched for; GIF is there to be named as unreadable."""
_PLUGINS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "JPEG2000", "PPM", "AVIF", "HEIF")
"""Pillow's names. Its other decoders are never shown a file."""
LARGEST_BOX = 20
"""Sides of a box, in longer sides of the photo, from which it is a mistake."""


def intersection_over_union(first: Sequence[float], second: Sequence[float]) -> float:
    """Shared area of two boxes (x, y, width, height) over the area of both together."""
    one, two = np.asarray(first, float), np.asarray(second, float)
    low = np.maximum(one[:2], two[:2])
    high = np.minimum(one[:2] + one[2:], two[:2] + two[2:])
    shared = float(np.prod(np.maximum(high - low, 0)))
    both = float(np.prod(one[2:]) + np.prod(two[2:])) - shared
    return shared / both if both > 0 else 0.0


def box_around(boxes: Iterable[Sequence[float]]) -> Box:
    """The smallest box that holds all of them."""
    every = np.asarray(list(boxes), float)
    low = every[:, :2].min(0)
    return tuple(float(v) for v in (*low, *((every[:, :2] + every[:, 2:]).max(0) - low)))


class PhotoError(ValueError):
    """A photo that cannot be used, or a box that does not lie on it; one plain line."""


class Photo(NamedTuple):
    """A photo and the part of it that the network sees.

    Attributes:
      name: the file.
      image: (h, w, 3) uint8 RGB, upright.
      square: (3,) centre x, centre y, half side of the crop, pixels.
      box: around both hands; None: the whole photo.
      box_from: "given", "annotated", "detected", "tracked" or "whole photo".
      seen: single hands, where a detector saw them.
      doubt: why they may not be one person's; "": no reason.
    """

    name: str
    image: np.ndarray
    square: np.ndarray
    box: Box | None = None
    box_from: str = "given"
    seen: tuple[SeenHand, ...] = ()
    doubt: str = ""

    @property
    def confidence(self) -> list[float]:
        """A detector's in each of the hands it saw, 0..1."""
        return [round(float(hand.presence), 3) for hand in self.seen]

    def crop(self) -> np.ndarray:
        """(256, 256, 3) uint8: the crop, black where the photo ends.

        Large photos are averaged down first, so that nothing flickers.
        """
        image, square = self.image, self.square
        scale = IMAGE_SIZE / (2 * float(square[2]))
        if scale < 0.5:  # cv2.warpAffine reads four pixels whatever the scale
            factor = int(1 / scale)
            height, width = (max(1, side // factor) for side in image.shape[:2])
            image = image[: height * factor, : width * factor]
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            centre = (np.asarray(square[:2]) + 0.5) / factor - 0.5
            square = np.array([*centre, square[2] / factor])
        return crop_image(image, square)

    def to_photo_px(self, points_uv: np.ndarray) -> np.ndarray:
        """Points (..., 2) in [-1, 1] over the crop as pixels of the photo."""
        matrix = crop_affine(self.square, IMAGE_SIZE)
        crop_px = (np.asarray(points_uv, np.float64) + 1) / 2 * IMAGE_SIZE
        return (crop_px - matrix[:, 2]) / np.diag(matrix[:, :2])


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Reads a photo of any kind of `READABLE`, as its orientation tag says.

    The size is read from the header and checked before anything is decoded.

    Returns:
      (h, w, 3) uint8 RGB; what is transparent becomes black.

    Raises:
      PhotoError: missing, unreadable, cut off or larger than 50 million pixels.
    """
    try:
        data = read_file(path)
    except FrameTrouble as trouble:
        raise PhotoError(str(trouble)) from None
    if not data:
        raise PhotoError(f"{path}: the file is empty")
    _register_heif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd tags
            with Image.open(io.BytesIO(data), formats=_openable()) as image:
                width, height = image.size
                if not 0 < width * height <= MAX_PIXELS:
                    raise PhotoError(
                        f"{path}: the file claims {width} x {height} pixels; "
                        f"the limit is {MAX_PIXELS / 1e6:.0f} million"
                    )
                return _to_rgb(ImageOps.exif_transpose(image))
    except PhotoError:
        raise
    except Image.DecompressionBombError:  # Pillow's own limit, above ours
        raise PhotoError(
            f"{path}: the file claims more than {2 * Image.MAX_IMAGE_PIXELS / 1e6:.0f} million "
            f"pixels; the limit is {MAX_PIXELS / 1e6:.0f} million"
        ) from None
    except Image.UnidentifiedImageError:
        raise PhotoError(f"{path}: {_why_unknown(data)}") from None
    except Exception as error:  # damaged files make decoders raise nearly anything
        why = " ".join(str(error).split()) or type(error).__name__
        raise PhotoError(f"{path}: damaged or cut off ({why})") from None


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):  # 16 bits of grey; Pillow itself would clip them at 255
        grey = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return grey[..., None].repeat(3, -1)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        pixels = np.asarray(image.convert("RGBA"))
        return np.rint(pixels[..., :3] * (pixels[..., 3:] / 255.0)).astype(np.uint8)
    return np.array(image.convert("RGB"))


def _register_heif() -> bool:
    """Lets Pillow read HEIC where pillow-heif is installed; returns whether it is."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _openable() -> list[str]:
    Image.init()
    return [name for name in _PLUGINS if name in Image.OPEN]


def _why_unknown(data: bytes) -> str:
    """Why Pillow recognises nothing in a file's bytes."""
    if data[4:8] == b"ftyp":  # ISO base media: the brand says what is inside
        kind = "AVIF" if data[8:12] in (b"avif", b"avis") else "HEIC"
        if kind == "HEIC" and not _register_heif():
            return "HEIC photos need one more package: pip install pillow-heif"
        return f"{kind} photos cannot be read by this Pillow, or the file is damaged"
    if data[:4] == b"GIF8":
        return f"GIF is not read; wanted {READABLE}"
    return f"not a photo that can be read; wanted {READABLE}"


def open_photo(path: str | os.PathLike, box: Box | None = None) -> Photo:
    """Reads a photo and puts the crop's square around the hands.

    Args:
      path: the file.
      box: around both hands; the crop leaves the same room around it as in training. None: the
        crop is the whole photo.

    Raises:
      PhotoError: unreadable file, or a box that is empty, huge or outside the photo.
    """
    return photo_from_image(read_image(path), str(path), box)


def photo_from_image(image: np.ndarray, name: str, box: Box | None = None) -> Photo:
    """As `open_photo`, for an image in memory: (h, w, 3) uint8 RGB."""
    height, width = image.shape[:2]
    if box is None:
        square = square_around_box(np.array([0, 0, width, height]), share=1.0)
        return Photo(name, image, square, None, "whole photo")
    x, y, box_width, box_height = (float(value) for value in box)
    what = f"{name}: the box {','.join(f'{value:g}' for value in box)}"
    size = f"the photo, which is {width} x {height} pixels"
    if not np.isfinite(box).all() or box_width <= 0 or box_height <= 0:
        raise PhotoError(f"{what} is empty; wanted x,y,width,height in pixels")
    if x >= width or y >= height or x + box_width <= 0 or y + box_height <= 0:
        raise PhotoError(f"{what} lies outside {size}")
    if max(box_width, box_height) > LARGEST_BOX * max(width, height):
        raise PhotoError(f"{what} is more than {LARGEST_BOX} times as large as {size}")
    return Photo(name, image, square_around_box(np.array(box)), tuple(box))
