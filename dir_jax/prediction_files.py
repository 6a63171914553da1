"""What predict.py leaves for every photo: pictures, meshes, parameters."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import numpy as np

from dir_jax.export_mesh import write_glb, write_obj, write_parameters
from dir_jax.loading import Loaded
from dir_jax.pictures import (
    caption,
    contact_sheet,
    draw_box,
    draw_view,
    save_png,
    view_extent,
)
from dir_jax.prediction import Reconstruction, draw_overlay, draw_skeleton, one_space
from mano_jax.constants import SIDES

VIEW_SIZE = 512


def unique_stem(name: str | os.PathLike, taken: set[str]) -> str:
    """A file's name without folder and suffix, numbered when it was used before (and noted)."""
    stem = candidate = pathlib.Path(name).stem or "photo"
    number = 2
    while candidate in taken:
        candidate = f"{stem}_{number}"
        number += 1
    taken.add(candidate)
    return candidate


def write_reconstruction(
    folder: str | os.PathLike, stem: str, found: Reconstruction, loaded: Loaded
) -> list[pathlib.Path]:
    """Writes STEM_overlay.png, _joints.png, _side.png, _top.png, STEM.glb, .obj and .json.

    Args:
      folder: where to; made when missing.
      stem: beginning of the names.
      found: the reconstruction.
      loaded: the model that made it.

    Returns:
      The files.

    Raises:
      OSError: the folder cannot be written.
    """
    base = pathlib.Path(folder)
    faces = [loaded.hands[side].faces for side in SIDES]
    vertices, joints = one_space(found.stages[-1])
    pictures = {"overlay": draw_overlay(found, faces), "joints": draw_skeleton(found)}
    if found.photo.box is not None:
        pictures["joints"] = draw_box(pictures["joints"], found.photo.box)
    for view in ("side", "top"):
        pictures[view] = draw_view(vertices, faces, view, VIEW_SIZE)
    paths = []
    for name, picture in pictures.items():
        paths.append(base / f"{stem}_{name}.png")
        save_png(paths[-1], picture)
    paths += [base / f"{stem}{suffix}" for suffix in (".glb", ".obj", ".json")]
    write_glb(paths[-3], vertices, faces)
    write_obj(paths[-2], vertices, faces)
    write_parameters(
        paths[-1],
        loaded.hands,
        found.stages[-1].params,
        loaded.model.config.root_joint,
        {"joints_xyz": joints, "joints_px": found.joints_px()},
        _record(found),
    )
    return paths


def _record(found: Reconstruction) -> dict[str, Any]:
    photo = found.photo
    x, y, half_side = (float(value) for value in photo.square)
    return {
        "image": str(photo.name),
        "image_size": [photo.image.shape[1], photo.image.shape[0]],
        "box": None if photo.box is None else [float(value) for value in photo.box],
        "crop": {"centre": [x, y], "side": 2 * half_side},
        "offset": found.offset_xyz.tolist(),
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
