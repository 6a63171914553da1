"""Both hands through a video: the same frames with the hands drawn over them, and their numbers."""

from __future__ import annotations

import contextlib
import json
import math
import os
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

# FFmpeg's remarks on damaged files would stand beside our own one line. Before cv2 opens a video.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np
import tqdm

from dir_jax.pictures.drawing import draw_view, view_extent
from dir_jax.prediction.boxes import Finder, NoHandError
from dir_jax.prediction.inputs import Source, result_path
from dir_jax.prediction.outputs import UNITS, model_record, overlay, photo_record
from dir_jax.prediction.photos import PhotoError
from dir_jax.prediction.predictor import Clock, Predictor, Result, batched
from dir_jax.prediction.tracking import Smoother, Tracker
from input_pipeline.files import whole_file, write_json
from input_pipeline.image_files import MAX_PIXELS
from mano_jax.constants import JOINT_NAMES, SIDES

USUAL_RATE = 25.0
CODECS = ("avc1", "vp09", "mp4v")
"""H.264 plays everywhere, but OpenCV's wheels bring no encoder; then VP9, which browsers show."""
MISSED = 0.1
"""Share of the frames that a file claims which may be missing; containers estimate the count."""


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
                raise PhotoError(
                    f"{self.path}: frames of {image.shape[1]} x {image.shape[0]} pixels; "
                    f"the limit is {MAX_PIXELS / 1e6:.0f} million"
                )
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

    def __init__(self, path: str | os.PathLike, rate: float):
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
            code = cv2.VideoWriter_fourcc(*codec)
            with _quiet():
                writer = cv2.VideoWriter(self._path, cv2.CAP_FFMPEG, code, self._rate, self._size)
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


class Seen(NamedTuple):
    """A frame and what became of it; `why` says in a line why there is no result."""

    frame: Frame
    result: Result | None
    why: str = ""


class Written(NamedTuple):
    """What `write_video` has left: files, frames, and in how many of them hands were."""

    paths: list[pathlib.Path]
    frames: int
    with_hands: int


def write_video(
    source: Source,
    folder: str | os.PathLike,
    predictor: Predictor,
    finder: Finder,
    *,
    kinds: Sequence[str],
    smooth: float = 0.0,
    clock: Clock | None = None,
) -> Written:
    """Writes STEM.hands.mp4 (overlay, side and top view), .jsonl (a line a frame) and .json.

    Frames without hands stay without; their line of the JSON says so.

    Args:
      source: the video.
      folder: where to.
      predictor: of batch size 1 for a `Tracker`, who wants to know a result before the next frame.
      finder: where the hands are.
      kinds: of `outputs.FORMATS`, which of overlay, side and top are wanted.
      smooth: strength of the filter on the hands' parameters; 0: none.
      clock: is told the seconds of each part.

    Raises:
      PhotoError: no frames, no hands in any of them, a box outside, or (after everything that is
        there has been written) a file that ends early.
      OSError: the folder cannot be written.
    """
    clock = clock or Clock()
    reader = VideoReader(source.path)
    paths = [result_path(folder, source.stem, ending) for ending in ("mp4", "jsonl", "json")]
    canvas = _Canvas([view for view in ("side", "top") if view in kinds], "overlay" in kinds)
    with_hands = frames = 0
    try:
        with open_writer(paths[0], reader.rate) as video, whole_file(paths[1]) as partial:
            with partial.open("w", encoding="utf-8") as text, _bar(reader) as bar:
                for seen in _frames(source, reader, predictor, finder, smooth, clock):
                    with clock("drawing and writing"):
                        video.add(canvas.draw(seen))
                        text.write(json.dumps(_line(seen), allow_nan=False) + "\n")
                    frames += 1
                    with_hands += seen.result is not None
                    bar.update()
            if with_hands == 0:
                raise NoHandError(f"{source.path}: {seen.why} in any of its {frames} frames")
    finally:
        reader.close()
    write_json(paths[2], _summary(reader, predictor, frames, with_hands, paths[1].name))
    if frames < (1 - MISSED) * reader.claimed - 1:
        raise PhotoError(
            f"{source.path}: only {frames} of {reader.claimed} frames could be read; "
            f"these are in {paths[0]}"
        )
    return Written(paths, frames, with_hands)


def _bar(reader: VideoReader) -> tqdm.tqdm:
    """Progress on standard error, once it takes longer than a few seconds."""
    often = 0.5 if sys.stderr.isatty() else 20.0
    name, total = os.path.basename(reader.path), reader.claimed or None
    return tqdm.tqdm(total=total, desc=name, unit="frame", delay=3, mininterval=often, leave=False)


def _frames(
    source: Source,
    reader: VideoReader,
    predictor: Predictor,
    finder: Finder,
    smooth: float,
    clock: Clock,
) -> Iterator[Seen]:
    """Every frame in order; the network runs on a batch at a time."""
    smoother = Smoother(smooth)
    for batch in batched(_timed(reader, clock), predictor.batch_size):
        placed, why = {}, {}
        for place, frame in enumerate(batch):
            try:
                with clock("finding hands"):
                    placed[place] = finder(source, frame.image)
            except NoHandError:
                why[place] = "no hands found"
        results = dict(zip(placed, predictor.photos(placed.values()), strict=True))
        for place, frame in enumerate(batch):
            result = results.get(place)
            if result is not None and not result.finite:
                result, why[place] = None, "the network's answer is not finite"
            if isinstance(finder, Tracker):
                finder.saw(result)
            result = smoother(result, frame.number / reader.rate)
            yield Seen(frame, result, why.get(place, ""))


def _timed(reader: VideoReader, clock: Clock) -> Iterator[Frame]:
    frames = iter(reader)
    while True:
        with clock("reading"):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


class _Canvas:
    """Draws frames of one size: the photo, and small views in a column at its right."""

    def __init__(self, views: Sequence[str], over_photo: bool):
        self._views = views
        self._over_photo = over_photo
        self._extent = 0.0

    def draw(self, seen: Seen) -> np.ndarray:
        image, result = seen.frame.image, seen.result
        main = overlay(result) if result is not None and self._over_photo else image
        if not self._views:
            return main
        size = image.shape[0] // 2
        column = []
        if result is not None:  # the views' scale only ever grows, so that nothing pumps
            self._extent = max(self._extent, view_extent(result.vertices_xyz[-1]))
        for view in self._views:
            if result is None:
                column.append(np.full((size, size, 3), 247, np.uint8))
            else:
                space = result.vertices_xyz[-1]
                column.append(draw_view(space, result.faces, view, size, self._extent))
        side = np.concatenate(column)
        below = image.shape[0] - side.shape[0]
        side = cv2.copyMakeBorder(side, 0, below, 0, 0, cv2.BORDER_REPLICATE)
        return np.concatenate([main, side], axis=1)


def _line(seen: Seen) -> dict[str, Any]:
    start = {"frame": seen.frame.number, "seconds": round(seen.frame.seconds, 4)}
    if seen.result is None:
        return start | {"hands": None, "why": seen.why}
    return start | photo_record(seen.result)


def _summary(
    reader: VideoReader, predictor: Predictor, frames: int, with_hands: int, lines: str
) -> dict[str, Any]:
    return {
        "video": reader.path,
        "frames": frames,
        "frames_with_hands": with_hands,
        "frames_per_second": reader.rate,
        "frames_file": lines,
        **model_record(predictor.loaded),
        "sides": list(SIDES),
        "joint_names": list(JOINT_NAMES),
        "units": UNITS,
    }
