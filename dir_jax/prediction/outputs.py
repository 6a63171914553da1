"""What predict.py leaves for every photo: pictures, meshes, parameters."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dir_jax.models.types import one_space
from dir_jax.pictures.drawing import (
    caption,
    contact_sheet,
    draw_box,
    draw_joints,
    draw_view,
    save_png,
    view_extent,
)
from dir_jax.prediction.meshes import write_glb, write_obj, write_parameters
from dir_jax.prediction.predictor import Reconstruction, draw_overlay
from dir_jax.prediction.result import Result

VIEW_SIZE = 512
HAND_BOX_COLOUR = (250, 220, 70)


def overlay(result: Result, stage: int = -1) -> np.ndarray:
    """The photo (h, w, 3) uint8 with both meshes over it, the nearer hand in front."""
    return draw_overlay(result.found, result.faces, stage)


def joints_and_boxes(result: Result, stage: int = -1) -> np.ndarray:
    """The photo (h, w, 3) uint8 with joints, bones, the box and what a detector saw."""
    picture = draw_joints(result.photo.image, result.joints_px[stage])
    for box in result.photo.hand_boxes:
        picture = draw_box(picture, box, HAND_BOX_COLOUR)
    if result.photo.box is not None:
        picture = draw_box(picture, result.photo.box)
    return picture


def _view(name: str) -> Callable[[Result], np.ndarray]:
    return lambda result: draw_view(result.vertices_xyz[-1], result.faces, name, VIEW_SIZE)


PICTURES: dict[str, Callable[[Result], np.ndarray]] = {
    "overlay": overlay,
    "joints": joints_and_boxes,
    "side": _view("side"),
    "top": _view("top"),
}
"""Pictures by the name that --write and the file know them by."""


def _write_glb(path: pathlib.Path, result: Result) -> None:
    write_glb(path, result.vertices_xyz[-1], result.faces)


def _write_obj(path: pathlib.Path, result: Result) -> None:
    write_obj(path, result.vertices_xyz[-1], result.faces)


def _write_json(path: pathlib.Path, result: Result) -> None:
    write_parameters(
        path,
        result.hands,
        result.params[-1],
        result.root_joint,
        {"joints_xyz": result.joints_xyz[-1], "joints_px": result.joints_px[-1]},
        record(result),
    )


FILES: dict[str, Callable[[pathlib.Path, Result], None]] = {
    "glb": _write_glb,
    "obj": _write_obj,
    "json": _write_json,
}
"""Files by suffix."""

KINDS = (*PICTURES, *FILES)


def write_result(
    folder: str | os.PathLike, result: Result, kinds: Sequence[str] = KINDS
) -> list[pathlib.Path]:
    """Writes STEM_overlay.png, _joints.png, _side.png, _top.png, STEM.glb, .obj and .json.

    Args:
      folder: where to; made when missing.
      result: what to write.
      kinds: which of `KINDS`.

    Returns:
      The files.

    Raises:
      OSError: the folder cannot be written.
    """
    base = pathlib.Path(folder)
    paths = []
    for kind in kinds:
        if kind in PICTURES:
            paths.append(base / f"{result.stem}_{kind}.png")
            save_png(paths[-1], PICTURES[kind](result))
        else:
            paths.append(base / f"{result.stem}.{kind}")
            FILES[kind](paths[-1], result)
    return paths


def record(result: Result) -> dict[str, Any]:
    """What concerns both hands (photo, box, crop, offset), ready for JSON."""
    photo = result.photo
    x, y, half_side = (float(value) for value in photo.square)
    return {
        "image": str(photo.name),
        "image_size": [photo.image.shape[1], photo.image.shape[0]],
        "box": None if photo.box is None else [float(value) for value in photo.box],
        "box_from": result.box_from,
        "hand_boxes": [[float(value) for value in box] for box in photo.hand_boxes],
        "crop": {"centre": [x, y], "side": 2 * half_side},
        "offset": result.offset_xyz[-1].tolist(),
    }


def stage_sheet(
    crop: np.ndarray, found: Reconstruction, faces: list[np.ndarray], size: int = 256
) -> np.ndarray:
    """One row: the crop, then for every stage the overlay and the side view.

    Args:
      crop: (256, 256, 3) uint8.
      found: a reconstruction whose photo is the crop itself.
      faces: two arrays (F, 3).
      size: side of each small picture.

    Returns:
      (size, w, 3) uint8.
    """
    spaces = [one_space(stage)[0] for stage in found.stages]
    extent = max(view_extent(space) for space in spaces)
    row = [caption(crop, "photo")]
    for number, space in enumerate(spaces):
        row.append(caption(draw_overlay(found, faces, number), f"stage {number}"))
        row.append(caption(draw_view(space, faces, "side", size, extent), "side"))
    return contact_sheet(row, len(row))
