"""Both hands through a video: the same frames with the hands drawn over them, and their numbers."""

from __future__ import annotations

import contextlib
import json
import math
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

# FFmpeg's and OpenCV's remarks on damaged files would stand beside our own one line.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read when cv2 first opens a video

import cv2
import numpy as np
import tqdm

from dir_jax.pictures.drawing import PAPER, draw_view, view_extent
from dir_jax.prediction.boxes import Finder, NoHandError
from dir_jax.prediction.inputs import Source, result_path
from dir_jax.prediction.outputs import NAMES, model_record, overlay, photo_record
from dir_jax.prediction.photos import PhotoError
from dir_jax.prediction.predictor import Clock, Predictor, Result, batched
from dir_jax.prediction.tracking import Smoother, Tracker
from input_pipeline.files import whole_file, write_json
from input_pipeline.image_files import MAX_PIXELS

if TYPE_CHECKING:
    from dir_jax.prediction.detection import HandDetector

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

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


class Video(NamedTuple):
    """A video to be read.

    Attributes:
      rate: frames a second; 25 where the file says nothing sensible.
      claimed: how many frames the file says it has, 0: it does not say.
      frames: in order, once; raises PhotoError when there are none.
    """

    rate: float
    claimed: int
    frames: Iterator[Frame]


def open_video(path: str | os.PathLike) -> Video:
    """Opens a video.

    Raises:
      PhotoError: missing, or no video.
    """
    if not os.path.isfile(path):
        raise PhotoError(f"{path}: the file is missing or no regular file")
    # An absolute path of a file that exists is never taken for an address or a pattern.
    capture = cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise PhotoError(f"{path}: not a video that can be read")
    rate, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return Video(
        rate if math.isfinite(rate) and 0.1 < rate <= 1000 else USUAL_RATE,
        int(count) if math.isfinite(count) and count > 0 else 0,
        _read_frames(str(path), capture),
    )


def _read_frames(path: str, capture: cv2.VideoCapture) -> Iterator[Frame]:
    number = 0
    try:
        while True:
            read, image = capture.read()
            if not read:
                break
            height, width = image.shape[:2]
            if height * width > MAX_PIXELS:
                raise PhotoError(
                    f"{path}: frames of {width} x {height} pixels; "
                    f"the limit is {MAX_PIXELS / 1e6:.0f} million"
                )
            seconds = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            yield Frame(number, seconds, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
            number += 1
    finally:
        capture.release()
    if number == 0:
        raise PhotoError(f"{path}: a video without frames that can be read")


@contextlib.contextmanager
def open_writer(path: str | os.PathLike, rate: float) -> Iterator[Callable[[np.ndarray], None]]:
    """Writes an MP4 that appears under its name when the block succeeds.

    Yields:
      A function that appends (h, w, 3) uint8 RGB; all frames get the size of the first one, whose
      odd sides grow by a pixel, as encoders want it.

    Raises:
      OSError: the file cannot be written.
    """
    with whole_file(path) as temporary:
        writer: cv2.VideoWriter | None = None
        size = (0, 0)

        def add(image: np.ndarray) -> None:
            nonlocal writer, size
            height, width = image.shape[:2]
            image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
            if writer is None:
                size = image.shape[1::-1]
                writer = _encoder(str(temporary), rate, size)
            if image.shape[1::-1] != size:
                image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            writer.write(image[..., ::-1].copy())

        yield add
        if writer is not None:
            writer.release()
            if not os.path.getsize(temporary):
                raise OSError(f"{path}: the video could not be written")


def _encoder(path: str, rate: float, size: Sequence[int]) -> cv2.VideoWriter:
    for codec in CODECS:
        code = cv2.VideoWriter_fourcc(*codec)
        writer = cv2.VideoWriter(path, cv2.CAP_FFMPEG, code, rate, size)
        if writer.isOpened():
            return writer
    raise OSError(f"{path}: OpenCV here can write none of {', '.join(CODECS)} videos")


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
    detector: HandDetector | None = None,
    smooth: float = 0.0,
    clock: Clock | None = None,
) -> Written:
    """Writes STEM.hands.mp4 (overlay, side and top view), .jsonl (a line a frame) and .json.

    Frames without hands stay without; their line of the JSON says so.

    Args:
      source: the video.
      folder: where to.
      predictor: of batch size 1 with a detector, as each result says where to look next.
      finder: where the hands are.
      kinds: of `outputs.FORMATS`, which of overlay, side and top are wanted.
      detector: takes the finder's place: hands are tracked (see `Tracker`).
      smooth: strength of the filter on the hands' parameters; 0: none.
      clock: is told the seconds of each part.

    Raises:
      PhotoError: no frames, no hands in any of them, a box outside, or (after everything that is
        there has been written) a file that ends early.
      OSError: the folder cannot be written.
    """
    clock = clock or Clock()
    video = open_video(source.path)
    if detector is not None:
        finder = Tracker(detector, video.rate, smooth)
    paths = [result_path(folder, source.stem, ending) for ending in ("mp4", "jsonl", "json")]
    canvas = _Canvas([view for view in ("side", "top") if view in kinds], "overlay" in kinds)
    with_hands = frames = 0
    with open_writer(paths[0], video.rate) as add, whole_file(paths[1]) as partial:
        with partial.open("w", encoding="utf-8") as text, _bar(source, video) as bar:
            for seen in _look(source, video, predictor, finder, smooth, clock):
                with clock("drawing and writing"):
                    add(canvas.draw(seen))
                    text.write(json.dumps(_line(seen), allow_nan=False) + "\n")
                frames += 1
                with_hands += seen.result is not None
                bar.update()
        if with_hands == 0:
            raise NoHandError(f"{source.path}: {seen.why} in any of its {frames} frames")
    about = {
        "video": source.path,
        "frames": frames,
        "frames_with_hands": with_hands,
        "frames_per_second": video.rate,
        "frames_file": paths[1].name,
    }
    write_json(paths[2], about | model_record(predictor.loaded) | NAMES)
    if frames < (1 - MISSED) * video.claimed - 1:
        raise PhotoError(
            f"{source.path}: only {frames} of {video.claimed} frames could be read; "
            f"these are in {paths[0]}"
        )
    return Written(paths, frames, with_hands)


def _bar(source: Source, video: Video) -> tqdm.tqdm:
    """Progress on standard error, once it takes longer than a few seconds."""
    often = 0.5 if sys.stderr.isatty() else 20.0
    name, total = os.path.basename(source.path), video.claimed or None
    return tqdm.tqdm(total=total, desc=name, unit="frame", delay=3, mininterval=often, leave=False)


def _look(
    source: Source, video: Video, predictor: Predictor, finder: Finder, smooth: float, clock: Clock
) -> Iterator[Seen]:
    """Every frame in order; the network runs on a batch at a time."""
    smoother = Smoother(smooth)
    for batch in batched(clock.each("reading", video.frames), predictor.batch_size):
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
            if place in placed and isinstance(finder, Tracker) and not finder.saw(result):
                result = None
                why.setdefault(place, "no hands found")
            result = smoother(result, frame.number / video.rate)
            yield Seen(frame, result, why.get(place, ""))


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
        column = [np.full((size, size, 3), PAPER, np.uint8)] * len(self._views)
        if result is not None:
            space = result.vertices_xyz[-1]
            # The views' scale only ever grows, so that nothing pumps.
            self._extent = max(self._extent, view_extent(space))
            column = [draw_view(space, result.faces, v, size, self._extent) for v in self._views]
        side = np.concatenate(column)
        below = image.shape[0] - side.shape[0]
        side = cv2.copyMakeBorder(side, 0, below, 0, 0, cv2.BORDER_REPLICATE)
        return np.concatenate([main, side], axis=1)


def _line(seen: Seen) -> dict[str, Any]:
    start = {"frame": seen.frame.number, "seconds": round(seen.frame.seconds, 4)}
    if seen.result is None:
        return start | {"hands": None, "why": seen.why}
    return start | photo_record(seen.result)
