"""Reading photographs that may be missing, cut off, huge or named by a hostile annotation.

The header is read before anything is decoded, so that a file of a few bytes that claims a billion
pixels costs nothing.
"""

from __future__ import annotations

import io
import os
import pathlib
import stat

import cv2
import numpy as np
import PIL.Image

from input_pipeline.troubles import FrameTrouble, Trouble

MAX_FILE_BYTES = 64 << 20
MAX_PIXELS = 50_000_000
# Frames with a mean grey level below this are black: the camera or the light was off (the
# public preparations of DIR and IntagHand drop them too).
BLACK_LEVEL = 10.0

_JPEG_START = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"


def safe_path(folder: str | os.PathLike, name: object) -> pathlib.Path:
    """The file an annotation names below a folder.

    Args:
      folder: the images folder the name is relative to; it may itself be a link.
      name: the annotation's file name.

    Raises:
      FrameTrouble: UNSAFE_PATH when the name is no text, is absolute, climbs with "..", or leads
        out of the folder through a symbolic link.
    """
    if not isinstance(name, str) or not name or "\0" in name or "\\" in name:
        raise FrameTrouble(Trouble.UNSAFE_PATH, repr(name))
    try:
        name.encode()
    except UnicodeEncodeError:  # half a surrogate pair: no file is called that
        raise FrameTrouble(Trouble.UNSAFE_PATH, repr(name)) from None
    relative = pathlib.PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise FrameTrouble(Trouble.UNSAFE_PATH, name)
    root = os.path.realpath(folder)
    path = os.path.realpath(os.path.join(root, name))
    if os.path.commonpath([root, path]) != root:
        raise FrameTrouble(Trouble.UNSAFE_PATH, f"{name} leads to {path}")
    return pathlib.Path(path)


def read_file(path: str | os.PathLike) -> bytes:
    """Bytes of a regular file of reasonable size.

    Raises:
      FrameTrouble: IMAGE_MISSING, IMAGE_TOO_LARGE, IMAGE_UNREADABLE.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # a pipe would wait for ever
            raise FrameTrouble(Trouble.IMAGE_UNREADABLE, f"{path} is not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise FrameTrouble(Trouble.IMAGE_TOO_LARGE, f"{path}: {status.st_size} bytes")
        with open(path, "rb") as file:
            return file.read(MAX_FILE_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise FrameTrouble(Trouble.IMAGE_MISSING, str(path)) from None
    except OSError as error:
        raise FrameTrouble(Trouble.IMAGE_UNREADABLE, f"{path}: {error.strerror}") from None


def decode_photo(data: bytes, name: str = "image") -> np.ndarray:
    """Decodes the bytes of a JPEG or PNG file; the header is looked at first.

    Args:
      data: the whole file.
      name: what messages call it.

    Returns:
      (height, width, 3) uint8, RGB; grey files have three equal channels.

    Raises:
      FrameTrouble: IMAGE_UNREADABLE, IMAGE_TRUNCATED, IMAGE_TOO_LARGE.
    """
    if not data:
        raise FrameTrouble(Trouble.IMAGE_TRUNCATED, f"{name} is empty")
    try:
        with PIL.Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as header:
            width, height = header.size
    except PIL.Image.DecompressionBombError as error:
        raise FrameTrouble(Trouble.IMAGE_TOO_LARGE, f"{name}: {error}") from None
    except Exception as error:  # Pillow's parsers raise many kinds
        raise FrameTrouble(Trouble.IMAGE_UNREADABLE, f"{name}: {error}") from None
    if width * height > MAX_PIXELS:
        raise FrameTrouble(
            Trouble.IMAGE_TOO_LARGE,
            f"{name} claims {width} x {height} pixels, at most {MAX_PIXELS:,} are read",
        )
    # A cut JPEG decodes to a half grey picture without an error; its end marker is gone. Writers
    # may add a few bytes behind the marker.
    if data.startswith(_JPEG_START) and _JPEG_END not in data[-64:]:
        raise FrameTrouble(Trouble.IMAGE_TRUNCATED, name)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is None:
        raise FrameTrouble(Trouble.IMAGE_UNREADABLE, name)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_photo(path: str | os.PathLike) -> np.ndarray:
    """Reads one photograph: see `read_file` and `decode_photo`."""
    return decode_photo(read_file(path), str(path))


def is_black(image: np.ndarray) -> bool:
    """Whether a photo (height, width, 3) is (nearly) black."""
    return float(image.mean()) < BLACK_LEVEL
