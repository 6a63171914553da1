"""The page of one result: photo, overlay, both hands in space, all of it stage by stage."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence

import cv2
import numpy as np

from dir_jax.pictures.drawing import draw_box, draw_meshes
from dir_jax.pictures.pages.elements import note, table
from dir_jax.pictures.pages.hands3d import StageMesh, hands_figure
from dir_jax.pictures.pages.images import data_uri, grid, picture
from dir_jax.pictures.pages.page import Html, Section, element, join, page_html
from dir_jax.pictures.pages.run_record import stage_name
from dir_jax.prediction.photos import Photo
from dir_jax.prediction.result import Result
from input_pipeline.crop import crop_affine
from input_pipeline.files import write_bytes

VIEW_SIZE = 640
"""Side of the pictures of the crop, pixels."""
PHOTO_SIZE = 900
"""Longer side of the whole photo's picture, pixels."""


def viewer_html(result: Result, truth_xyz: np.ndarray | None = None) -> str:
    """The page of a result.

    Args:
      result: of one photo.
      truth_xyz: (2, 778, 3) the true hands, metres, origin at the true left wrist, if known.
    """
    photo = result.photo
    last = len(result.vertices_xyz) - 1
    stages = [
        StageMesh(stage_name(i), mesh, _remark(result.vertices_xyz, i, truth_xyz))
        for i, mesh in enumerate(result.vertices_xyz)
    ]
    figure = hands_figure(stages, result.faces, truth_xyz=truth_xyz)
    both = element("div", grid(_overlays(result), figure), data_result=True)
    sections = [Section("", [both])]
    if photo.box is not None or photo.image.shape[0] != photo.image.shape[1]:
        sections.append(Section("The photo", [_whole_photo(photo)]))
    sections.append(Section("From wrist to wrist", [_offsets(result.offset_xyz)]))
    remark = f"Hand model: {result.hands.name} ({result.hands.licence}). Box: {result.box_from}."
    name = pathlib.PurePath(photo.name).name
    lead = f"Both hands from one photograph: the first estimate and {last} refinements."
    return page_html(name, [*sections, Section("", [note(remark)])], lead)


def write_viewer(folder: str | os.PathLike, result: Result) -> list[pathlib.Path]:
    """Writes STEM.html, one self-contained file; a writer for predict.py.

    Raises:
      OSError: the folder cannot be written.
    """
    path = pathlib.Path(folder) / f"{result.stem}.html"
    write_bytes(path, viewer_html(result).encode())
    return [path]


def _remark(meshes: np.ndarray, index: int, truth_xyz: np.ndarray | None) -> str:
    """One line on how far a stage is from the last one, and from the truth."""
    parts = []
    if index < len(meshes) - 1:
        parts.append(f"{_distance_mm(meshes[index], meshes[-1]):.1f} mm from the last stage")
    if truth_xyz is not None:
        parts.append(f"{_distance_mm(meshes[index], truth_xyz):.1f} mm from the true hands")
    if not parts:
        return "The last stage is the result."
    return f"The vertices lie {' and '.join(parts)}, on average."


def _distance_mm(first_xyz: np.ndarray, second_xyz: np.ndarray) -> float:
    return 1000 * float(np.linalg.norm(first_xyz - second_xyz, axis=-1).mean())


def _overlays(result: Result) -> Html:
    """The crop, and over it the picture of every stage with the hands drawn."""
    square = result.photo.square
    matrix = crop_affine(square, VIEW_SIZE)
    crop = cv2.warpAffine(
        result.photo.image, matrix, (VIEW_SIZE, VIEW_SIZE), flags=cv2.INTER_LINEAR
    )
    last = len(result.vertices_xyz) - 1
    layers = [_image(crop, "the crop that the network saw")]
    for index, mesh in enumerate(result.vertices_xyz):
        points_px = result.vertices_px[index] @ matrix[:, :2].T + matrix[:, 2]
        drawn = draw_meshes(crop, points_px, mesh[..., 2], mesh, result.faces)
        alt = f"{stage_name(index)}: hands over the photo"
        layers.append(_image(drawn, alt, data_stage_picture=index, hidden=index != last))
    stack = element("div", join(*layers), class_="stack")
    return element("figure", join(stack, element("div", class_="controls overlay-controls")))


def _image(image: np.ndarray, alt: str, **attributes: object) -> Html:
    return element("img", src=data_uri(image), alt=alt, **attributes)


def _whole_photo(photo: Photo) -> Html:
    height, width = photo.image.shape[:2]
    scale = min(1.0, PHOTO_SIZE / max(height, width))
    image = cv2.resize(photo.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    caption = f"{width} x {height} pixels"
    if photo.box is not None:
        image = draw_box(image, [scale * value for value in photo.box])
        x, y, box_width, box_height = (round(value) for value in photo.box)
        caption += f"; box {x}, {y}, {box_width}, {box_height}"
    return picture(data_uri(image), "the whole photo", caption)


def _offsets(offset_xyz: np.ndarray) -> Html:
    rows: list[Sequence[object]] = [
        (stage_name(i), *(f"{1000 * v:.0f}" for v in (*offset, np.linalg.norm(offset))))
        for i, offset in enumerate(offset_xyz)
    ]
    header = ("right wrist from left, mm", "to the right", "down", "away", "distance")
    return table(header, rows)
