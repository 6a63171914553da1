"""Both hands in space, to be turned with the mouse, from stage to stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dir_jax.pictures.drawing import HAND_COLOURS, VIEWS
from dir_jax.pictures.pages.page import Html, array_text, element, join, json_script

TRUTH_COLOUR = (0.35, 0.78, 0.45)
ROOM = 1.08
"""The scene's side over the hands' extent."""


class StageMesh(NamedTuple):
    """What one button of the figure shows.

    Attributes:
      label: the button's text.
      vertices_xyz: (2, V, 3) metres, camera axes, left and right hand in one space.
      note: a line shown with it.
    """

    label: str
    vertices_xyz: np.ndarray
    note: str = ""


def hands_figure(
    stages: Sequence[StageMesh],
    faces: Sequence[np.ndarray],
    *,
    truth_xyz: np.ndarray | None = None,
    start: int = -1,
) -> Html:
    """A figure of both hands that can be turned, with a button for every stage.

    It begins as the photograph's camera sees the hands (x right, y down, z away), without
    perspective, at stage `start`.

    Args:
      stages: at least one; in order.
      faces: two arrays (F, 3).
      truth_xyz: (2, V, 3) the true hands in the same space, shown on demand; None: unknown.
      start: number of the stage shown first.

    Returns:
      Markup for `page.Section`.

    Raises:
      ValueError: no stages, wrong shapes, or vertices that are not finite.
    """
    content = {**hands_content(stages, truth_xyz=truth_xyz, start=start), **shared_content(faces)}
    canvas = element("div", class_="canvas", role="img", aria_label="both hands in 3D")
    controls = element("div", class_="controls")
    remark = element("p", class_="stage-note", aria_live="polite")
    inside = join(canvas, controls, remark, json_script(content))
    return element("figure", inside, data_figure="hands", class_="hands3d")


def hands_content(
    stages: Sequence[StageMesh], *, truth_xyz: np.ndarray | None = None, start: int = -1
) -> dict[str, Any]:
    """What a figure's script needs of one pair of hands (see `hands_figure`).

    Raises:
      ValueError: no stages, wrong shapes, or vertices that are not finite.
    """
    if not stages:
        raise ValueError("no stages: there is nothing to show")
    meshes = [np.asarray(stage.vertices_xyz, np.float32) for stage in stages]
    known = meshes if truth_xyz is None else [*meshes, np.asarray(truth_xyz, np.float32)]
    _check(known)
    centre, side = _cube(known)
    return {
        "stages": [
            {"label": stage.label, "note": stage.note, "vertices": _packed(mesh)}
            for stage, mesh in zip(stages, meshes, strict=True)
        ],
        "truth": None if truth_xyz is None else _packed(known[-1]),
        "centre": [round(float(value), 4) for value in centre],
        "side": round(float(side), 4),
        "start": start % len(stages),
    }


def shared_content(faces: Sequence[np.ndarray]) -> dict[str, Any]:
    """What the figures of many pairs of hands have in common.

    Raises:
      ValueError: not the faces of two hands.
    """
    if len(faces) != 2:
        raise ValueError(f"{len(faces)} lists of faces; wanted those of 2 hands")
    return {
        "faces": [array_text(np.asarray(part, "<u2").T) for part in faces],
        "colours": [_colour(colour) for colour in HAND_COLOURS],
        "truthColour": _colour(TRUTH_COLOUR),
        # From where each view looks, and what is up: rows of VIEWS are right, down and away.
        "views": {
            name: {"eye": (-axes[2]).tolist(), "up": (-axes[1]).tolist()}
            for name, axes in VIEWS.items()
        },
    }


def _check(meshes: Sequence[np.ndarray]) -> None:
    for mesh in meshes:
        if mesh.ndim != 3 or mesh.shape[::2] != (2, 3) or mesh.shape != meshes[0].shape:
            raise ValueError(f"vertices of shape {mesh.shape}; wanted (2, V, 3), the same for all")
        if not np.isfinite(mesh).all():
            raise ValueError("the vertices are not finite: there is nothing to show")


def _cube(meshes: Sequence[np.ndarray]) -> tuple[np.ndarray, float]:
    """Centre (3,) and side of a cube around the last mesh, and the others unless far off."""
    low, high = (bound(meshes[-1].reshape(-1, 3), axis=0) for bound in (np.min, np.max))
    centre = (low + high) / 2
    needed = [2 * np.abs(mesh.reshape(-1, 3) - centre).max() for mesh in meshes]
    return centre, max(float(min(max(needed), 2 * needed[-1])) * ROOM, 1e-3)


def _packed(mesh: np.ndarray) -> list[str]:
    """Base64 of little-endian float32, per hand: all x, all y, all z."""
    return [array_text(np.asarray(hand, "<f4").T) for hand in mesh]


def _colour(rgb: Sequence[float]) -> str:
    return "rgb({}, {}, {})".format(*(round(255 * value) for value in rgb))
