"""Both hands through a video: the same frames with the hands drawn over them, and their numbers."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import math
import os
import pathlib
import subprocess
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
from dir_jax.prediction.outputs import (
    NAMES,
    about,
    hand_numbers,
    model_record,
    overlay,
    photo_record,
)
from dir_jax.prediction.photos import PhotoError
from dir_jax.prediction.predictor import Clock, Predictor, Result, batched
from dir_jax.prediction.presence import Steady
from dir_jax.prediction.tracking import Smoother, Tracker
from input_pipeline.files import whole_file, write_bytes, write_json
from input_pipeline.image_files import MAX_PIXELS

if TYPE_CHECKING:
    from dir_jax.prediction.detection import HandDetector

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

USUAL_RATE = 25.0
PAGE_FRAMES, PAGE_SIDE = 150, 480
"""Of a video's page: at most so many frames, 25 kB of hands and a picture of this side each."""
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
def open_writer(
    path: str | os.PathLike, rate: float, comment: str = ""
) -> Iterator[Callable[[np.ndarray], None]]:
    """Writes an MP4 in H.264, which plays everywhere, under its name when the block succeeds.

    FFmpeg encodes in a process of its own: OpenCV's wheels bring no encoder for H.264.

    Args:
      path: final name.
      rate: frames a second.
      comment: kept in the file.

    Yields:
      A function that appends (h, w, 3) uint8 RGB; all frames get the size of the first one, whose
      odd sides grow by a pixel, as encoders want it.

    Raises:
      OSError: the file cannot be written.
    """
    with whole_file(path) as temporary, contextlib.ExitStack() as running:
        encoder, size = None, (0, 0)

        def add(image: np.ndarray) -> None:
            nonlocal encoder, size
            height, width = image.shape[:2]
            image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
            if encoder is None:
                size = image.shape[1::-1]
                encoder = running.enter_context(_ffmpeg(temporary, rate, size, comment))
            if image.shape[1::-1] != size:
                image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            encoder.stdin.write(image.tobytes())

        try:
            yield add
            said = encoder.communicate()[1] if encoder else b""
        except BrokenPipeError:
            said = encoder.stderr.read()
        if encoder and encoder.wait():
            full = os.strerror(errno.ENOSPC)
            if full.encode() in said:
                raise OSError(errno.ENOSPC, full, os.fspath(path))
            raise OSError(f"{path}: the video could not be written: {said.decode().strip()}")


@contextlib.contextmanager
def _ffmpeg(path, rate: float, size: Sequence[int], comment: str) -> Iterator[subprocess.Popen]:
    """FFmpeg, which takes (h, w, 3) uint8 RGB from its standard input; Ctrl-C does not reach it."""
    import imageio_ffmpeg

    came = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "{}x{}".format(*size), "-r", str(rate)]
    wanted = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p"]
    about = ["-movflags", "+faststart", "-metadata", f"comment={comment}"]
    process = subprocess.Popen(
        [
            imageio_ffmpeg.get_ffmpeg_exe(),
            "-v",
            "error",
            "-y",
            *came,
            "-i",
            "-",
            *wanted,
            *about,
            path,
        ],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stderr):
            with contextlib.suppress(OSError):
                stream.close()


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
    """Writes a video's results.

    STEM.hands.mp4 (overlay, side and top view), .jsonl (a line a frame), .json, .npz (parameters
    over time) and, if asked for, .html. Frames without hands stay without; their line of the JSON
    says so.

    Args:
      source: the video.
      folder: where to.
      predictor: of batch size 1 with a detector, as each result says where to look next.
      finder: where the hands are.
      kinds: of `outputs.FORMATS`, which of overlay, side, top and html are wanted.
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
    endings = ("mp4", "jsonl", "json", "npz", *["html"] * ("html" in kinds))
    paths = [result_path(folder, source.stem, ending) for ending in endings]
    canvas, series, film = Canvas(kinds), _Series(), _Film()
    licences = about(predictor.loaded)
    with open_writer(paths[0], video.rate, licences) as add, whole_file(paths[1]) as partial:
        with partial.open("w", encoding="utf-8") as text, _bar(source, video) as bar:
            for seen in look(source, video, predictor, finder, smooth, clock):
                with clock("drawing and writing"):
                    picture = canvas.draw(seen)
                    add(picture)
                    text.write(json.dumps(series.add(seen), allow_nan=False) + "\n")
                    if "html" in kinds and seen.result is not None:
                        film.add(seen, picture[:, : seen.frame.image.shape[1]])
                bar.update()
        if series.with_hands == 0:
            raise NoHandError(f"No hands found in {source.path}: {seen.why} in all of its frames")
    record = {
        "video": source.path,
        "frames": series.frames,
        "frames_with_hands": series.with_hands,
        "frames_per_second": video.rate,
        "frames_file": paths[1].name,
        "arrays_file": paths[3].name,
    }
    record |= model_record(predictor.loaded) | NAMES
    write_json(paths[2], record)
    series.write(paths[3], licences)
    if "html" in kinds:
        write_bytes(paths[4], film.html(source, licences).encode())
    if series.frames < (1 - MISSED) * video.claimed - 1:
        raise PhotoError(
            f"{source.path}: only {series.frames} of {video.claimed} frames could be read; "
            f"these are in {paths[0]}"
        )
    return Written(paths, series.frames, series.with_hands)


def _bar(source: Source, video: Video) -> tqdm.tqdm:
    """Progress on standard error, once it takes longer than a few seconds."""
    often = 0.5 if sys.stderr.isatty() else 20.0
    name, total = os.path.basename(source.path), video.claimed or None
    return tqdm.tqdm(total=total, desc=name, unit="frame", delay=3, mininterval=often, leave=False)


def look(
    source: Source, video: Video, predictor: Predictor, finder: Finder, smooth: float, clock: Clock
) -> Iterator[Seen]:
    """Every frame in order; the network runs on a batch at a time."""
    steady, smoother = Steady(), Smoother(smooth)
    for batch in batched(clock.each("reading", video.frames), predictor.batch_size):
        placed, why = {}, {}
        for place, frame in enumerate(batch):
            try:
                with clock("finding hands"):
                    placed[place] = finder(source, frame.image)[0]
            except NoHandError:
                why[place] = "no hands found"
        results = dict(zip(placed, predictor.photos(placed.values()), strict=True))
        for place, frame in enumerate(batch):
            result = results.get(place)
            if result is not None and not result.finite:
                result, why[place] = None, "the network's answer is not finite"
            result = steady(result)
            if place in placed and isinstance(finder, Tracker) and not finder.saw(result):
                result = None
            if result is None:
                why.setdefault(place, "no hands found")
            result = smoother(result, frame.number / video.rate)
            yield Seen(frame, result, why.get(place, ""))


class Canvas:
    """Draws frames of one size: the photo, and small views in a column at its right.

    Args:
      kinds: of `outputs.FORMATS`: overlay, side and top are drawn.
    """

    def __init__(self, kinds: Sequence[str]):
        self._views = [view for view in ("side", "top") if view in kinds]
        self._over_photo = "overlay" in kinds
        self._extent = 0.0

    def draw(self, seen: Seen) -> np.ndarray:
        """(h, w, 3) uint8."""
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


class _Series:
    """Every frame's numbers, for lines of JSON and for arrays over time.

    Attributes:
      frames: so far.
      with_hands: how many of them have any.
    """

    def __init__(self):
        self.frames = self.with_hands = 0
        self._seconds: list[float] = []
        self._numbers: list[dict[str, np.ndarray] | None] = []

    def add(self, seen: Seen) -> dict[str, Any]:
        """Takes the next frame; returns its line of the JSON."""
        result, numbers = seen.result, None
        line = {"frame": seen.frame.number, "seconds": round(seen.frame.seconds, 4)}
        if result is None:
            line |= {"hands": None, "why": seen.why}
        else:
            numbers = hand_numbers(result)
            line |= photo_record(result, numbers)
            both = bool(result.present.all())
            numbers["offset"] = result.offset_xyz[-1] if both else np.full(3, np.nan)
            numbers |= {"presence": result.presence, "crop": result.photo.square}
            self.with_hands += 1
        self.frames += 1
        self._seconds.append(line["seconds"])
        self._numbers.append(numbers)
        return line

    def write(self, path: pathlib.Path, licences: str) -> None:
        """Writes an NPZ: seconds (F,) and each number (F, ...), NaN where there is no hand."""
        some = next(filter(None, self._numbers))
        nothing = {name: np.full(np.shape(value), np.nan) for name, value in some.items()}
        arrays = {
            name: np.stack([(frame or nothing)[name] for frame in self._numbers]).astype(np.float32)
            for name in some
        }
        data = io.BytesIO()
        np.savez_compressed(data, seconds=np.array(self._seconds), about=licences, **arrays)
        write_bytes(path, data.getvalue())


class _Film:
    """Frames with hands for the page: all of a short clip, every n-th of a longer one."""

    def __init__(self):
        self._stages: list[tuple[str, np.ndarray, np.ndarray]] = []
        self._every, self._count = 1, 0

    def add(self, seen: Seen, picture: np.ndarray) -> None:
        """Takes a frame and its picture (h, w, 3)."""
        if self._count % self._every == 0:
            scale = PAGE_SIDE / max(*picture.shape[:2], PAGE_SIDE)
            small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            label = f"{seen.frame.seconds:.2f} s"
            self._stages.append((label, seen.result.vertices_xyz[-1].astype(np.float32), small))
            self._faces = seen.result.faces
        self._count += 1
        if len(self._stages) > PAGE_FRAMES:
            self._stages, self._every = self._stages[::2], 2 * self._every

    def html(self, source: Source, licences: str) -> str:
        """The page."""
        from dir_jax.pictures.figures import StageView  # needs plotly
        from dir_jax.prediction.page import video_html

        stages = [StageView(*stage) for stage in self._stages]
        title = os.path.basename(source.path)
        return video_html(title, stages, self._faces, self._every, licences)
