"""Reading and writing videos with OpenCV; sound is not kept."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from typing import NamedTuple

# FFmpeg's remarks on damaged files would stand beside our own one line. Before cv2 opens a video.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np

from dir_jax.prediction.photos import PhotoError
from input_pipeline.files import whole_file
from input_pipeline.image_files import MAX_PIXELS

USUAL_RATE = 25.0
CODECS = ("vp09", "mp4v")
"""VP9 first: browsers show it. OpenCV's wheels bring no H.264 encoder."""


class Frame(NamedTuple):
    """One picture of a video.

    Attributes:
      number: counted from 0.
      seconds: since the beginning.
      image: (h, w, 3) uint8 RGB, upright.
    """

    number: int
    seconds: float
    image: np.ndarray


class VideoReader:
    """The frames of a file in order.

    Args:
      path: the file.

    Attributes:
      rate: frames a second; 25 where the file says nothing sensible.
      claimed: how many frames the file says it has, 0: it does not say.

    Raises:
      PhotoError: missing, or no video.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = str(path)
        if not os.path.isfile(path):
            raise PhotoError(f"{path}: the file is missing or no regular file")
        with _quiet():
            # An absolute path of a file that exists is never taken for an address or a pattern.
            self._capture = cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise PhotoError(f"{path}: not a video that can be read")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if math.isfinite(rate) and 0.1 < rate <= 1000 else USUAL_RATE
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.claimed = int(count) if math.isfinite(count) and count > 0 else 0

    def __iter__(self) -> Iterator[Frame]:
        """Yields every frame; raises PhotoError when there is none."""
        number = 0
        while True:
            with _quiet():
                read, image = self._capture.read()
            if not read:
                break
            if image.shape[0] * image.shape[1] > MAX_PIXELS:
                raise PhotoError(f"{self.path}: {image.shape[1]} x {image.shape[0]} is too large")
            seconds = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            yield Frame(number, seconds, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
            number += 1
        if number == 0:
            raise PhotoError(f"{self.path}: a video without frames that can be read")

    def close(self) -> None:
        """Lets go of the file."""
        self._capture.release()


class VideoWriter:
    """Writes frames of one size as MP4. See `open_writer`."""

    def __init__(self, path: os.PathLike, rate: float):
        self._path, self._rate = str(path), rate
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def add(self, image: np.ndarray) -> None:
        """Appends (h, w, 3) uint8 RGB; an odd side grows by a pixel, as encoders want it."""
        height, width = image.shape[:2]
        image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        if self._writer is None:
            self._size = image.shape[1::-1]
            self._writer = self._open()
        if image.shape[1::-1] != self._size:
            image = cv2.resize(image, self._size, interpolation=cv2.INTER_AREA)
        self._writer.write(image[..., ::-1].copy())

    def _open(self) -> cv2.VideoWriter:
        for codec in CODECS:
            with _quiet():
                writer = cv2.VideoWriter(
                    self._path, cv2.VideoWriter_fourcc(*codec), self._rate, self._size
                )
            if writer.isOpened():
                return writer
        raise OSError(f"{self._path}: OpenCV here can write none of {', '.join(CODECS)} videos")

    def close(self) -> None:
        """Finishes the file."""
        if self._writer is not None:
            self._writer.release()
            if not os.path.getsize(self._path):
                raise OSError(f"{self._path}: the video could not be written")


@contextlib.contextmanager
def open_writer(path: str | os.PathLike, rate: float) -> Iterator[VideoWriter]:
    """A writer whose file appears under its name when the block succeeds."""
    with whole_file(path) as temporary:
        writer = VideoWriter(temporary, rate)
        yield writer
        writer.close()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps OpenCV's own remarks off the terminal."""
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)
