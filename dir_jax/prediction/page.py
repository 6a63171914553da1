"""Pages on which hands can be turned: of one result stage by stage, of a video through time."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import cv2
import numpy as np

from dir_jax.pictures.drawing import draw_box, draw_meshes
from dir_jax.pictures.figures import StageView, hands_figure, stage_name
from dir_jax.pictures.page import Html, chart, image, note, page_html, section, table
from dir_jax.prediction.outputs import about
from dir_jax.prediction.photos import Photo
from dir_jax.prediction.predictor import Result
from input_pipeline.crop import crop_affine

VIEW_SIZE = 560
"""Side of the pictures of the crop, pixels."""
PHOTO_SIZE = 900
"""Longer side of the whole photo's picture, pixels."""


def result_html(result: Result, truth_xyz: np.ndarray | None = None) -> str:
    """The page of a result.

    Args:
      result: of one photo.
      truth_xyz: (2, 778, 3) the true hands, metres, origin at the true left wrist, if known.
    """
    stages = [
        StageView(_name(result, number), mesh, _overlay(result, number))
        for number, mesh in enumerate(result.vertices_xyz)
    ]
    figure = hands_figure(stages, result.faces, truth_xyz=truth_xyz)
    return page_html(
        pathlib.PurePath(result.photo.name).name,
        "Both hands from one photograph: the first estimate and what was made of it. "
        "Drag to turn the hands; the slider goes from stage to stage.",
        chart(figure),
        section("The photo", _whole_photo(result.photo)),
        section("Right wrist relative to left, mm", _offsets(result)),
        note(f"{about(result.loaded)}; box: {result.photo.box_from}"),
    )


def _name(result: Result, stage: int) -> str:
    """What a person calls a stage."""
    last = stage == len(result.params) - 1
    return "on landmarks" if last and result.fitted.any() else stage_name(stage)


def _overlay(result: Result, stage: int) -> np.ndarray:
    """The crop that the network saw with a stage's hands over it."""
    matrix = crop_affine(result.photo.square, VIEW_SIZE)
    crop = cv2.warpAffine(result.photo.image, matrix, (VIEW_SIZE,) * 2, flags=cv2.INTER_LINEAR)
    points_px = result.vertices_px[stage] @ matrix[:, :2].T + matrix[:, 2]
    mesh = result.vertices_xyz[stage]
    return draw_meshes(crop, points_px, mesh, result.faces)


def _whole_photo(photo: Photo) -> Html:
    height, width = photo.image.shape[:2]
    scale = min(1.0, PHOTO_SIZE / max(height, width))
    size = max(1, round(scale * width)), max(1, round(scale * height))
    shown = cv2.resize(photo.image, size, interpolation=cv2.INTER_AREA)
    caption = f"{width} x {height} pixels"
    if photo.box is not None:
        shown = draw_box(shown, [scale * value for value in photo.box])
        caption += "; box " + ", ".join(f"{value:.0f}" for value in photo.box)
    return image(shown, caption)


def _offsets(result: Result) -> Html:
    if not result.present.all():
        return note("There is one hand.")
    rows = [
        (
            _name(result, number),
            *(f"{value:.0f}" for value in (*offset, np.linalg.norm(offset))),
        )
        for number, offset in enumerate(1000 * result.offset_xyz)
    ]
    return table(("", "x (+ right)", "y (+ down)", "z (+ away)", "distance"), rows)


def video_html(title: str, stages: Sequence[StageView], faces, every: int, licences: str) -> str:
    """The page of a video's hands, to turn them and to go through time.

    Args:
      title: of the page.
      stages: the frames with hands that are shown.
      faces: two arrays (F, 3).
      every: they are one of so many.
      licences: a line of plain text.
    """
    which = "Every frame" if every == 1 else f"One frame of {every}"
    return page_html(
        title,
        f"{which} with hands. Drag to turn the hands; the slider goes through the video.",
        chart(hands_figure(stages, faces)),
        note(licences),
    )
