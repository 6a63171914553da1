"""Both hands through a video: the same frames with the hands drawn over them, and their numbers."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from dir_jax.pictures.drawing import draw_view, view_extent
from dir_jax.prediction.box_finding import NoHandError, Tracked
from dir_jax.prediction.inputs import Source
from dir_jax.prediction.meshes import UNITS, hand_terms
from dir_jax.prediction.outputs import overlay, record
from dir_jax.prediction.predictor import batched
from dir_jax.prediction.result import NotFiniteError, Result
from dir_jax.prediction.run import Placed, Run
from dir_jax.prediction.video_files import Frame, VideoReader, open_writer
from input_pipeline.files import whole_file, write_json
from mano_jax.constants import JOINT_NAMES, SIDES


class Seen(NamedTuple):
    """A frame and what became of it; `why` says in a line why there is no result."""

    frame: Frame
    result: Result | None
    why: str = ""


def write_video(
    run: Run, source: Source, folder: str | os.PathLike, kinds: Sequence[str]
) -> list[pathlib.Path]:
    """Writes STEM.mp4 (overlay, side and top view), STEM.jsonl (a line a frame) and STEM.json.

    Frames without hands stay as they are; their line of the JSON says so.

    Args:
      run: the network and where hands are.
      source: the video.
      folder: where to.
      kinds: of `prediction_files.KINDS`, which of overlay, side, top and json are wanted.

    Returns:
      The files.

    Raises:
      PhotoError: no frames, no hands in any of them, or a box outside.
      OSError: the folder cannot be written.
    """
    reader = VideoReader(source.path)
    base = pathlib.Path(folder) / source.stem
    movie, lines, summary = (base.with_name(f"{base.name}{end}") for end in ENDINGS)
    canvas = _Canvas([view for view in ("side", "top") if view in kinds], "overlay" in kinds)
    hands = frames = 0
    lost = "no hand found"
    try:
        with open_writer(movie, reader.rate) as video, whole_file(lines) as partial:
            with partial.open("w", encoding="utf-8") as text:
                for seen in _frames(run, source, reader):
                    with run.clock("drawing and writing"):
                        video.add(canvas.draw(seen))
                        text.write(json.dumps(_line(seen), allow_nan=False) + "\n")
                    frames += 1
                    hands += seen.result is not None
                    lost = seen.why
            if hands == 0:
                raise NoHandError(f"{source.path}: {lost} in any of its {frames} frames")
    finally:
        reader.close()
    run.frames += frames
    run.done += 1
    if frames < reader.claimed - 1:
        print(f"note: {source.path}: {frames} of {reader.claimed} frames could be read")
    write_json(summary, _summary(run, reader, frames, hands) | {"frames_file": lines.name})
    return [movie, lines, summary]


ENDINGS = (".mp4", ".jsonl", ".json")


def _frames(run: Run, source: Source, reader: VideoReader) -> Iterator[Seen]:
    """Every frame in order; the network runs on a batch at a time."""
    finder = Tracked(run.finder)
    for batch in batched(_timed(run, reader), run.predictor.batch_size):
        placed: dict[int, Placed] = {}
        results: dict[int, Result] = {}
        why: dict[int, str] = {}
        for place, frame in enumerate(batch):
            try:
                placed[place] = run.place(source, frame.image, finder)
            except NoHandError:
                why[place] = "no hand found"
        for place, result in zip(placed, run.results(list(placed.values())), strict=True):
            if isinstance(result, NotFiniteError):
                why[place] = "the network's answer is not finite"
            else:
                results[place] = result
        for place, frame in enumerate(batch):
            yield Seen(frame, results.get(place), why.get(place, ""))


def _timed(run: Run, reader: VideoReader) -> Iterator[Frame]:
    frames: Iterable[Frame] = iter(reader)
    while True:
        with run.clock("reading"):
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
    about = record(seen.result)
    del about["image"], about["image_size"]
    result = seen.result
    arrays = {"joints_xyz": result.joints_xyz[-1], "joints_px": result.joints_px[-1]}
    hands = hand_terms(result.hands, result.params[-1], result.root_joint, arrays)
    return start | about | hands


def _summary(run: Run, reader: VideoReader, frames: int, hands: int) -> dict[str, Any]:
    models = run.predictor.loaded.hands
    return {
        "video": reader.path,
        "frames": frames,
        "frames_with_hands": hands,
        "frames_per_second": reader.rate,
        "hand_model": {"name": models.name, "licence": models.licence},
        "sides": list(SIDES),
        "joint_names": list(JOINT_NAMES),
        "units": UNITS,
    }
