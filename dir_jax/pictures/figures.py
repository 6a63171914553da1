"""plotly figures: the look that all of them share, and both hands in space to be turned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go

from dir_jax.pictures.drawing import HAND_COLOURS, VIEWS
from dir_jax.pictures.page import data_uri
from mano_jax.constants import SIDES

TRUTH_COLOUR = (0.35, 0.78, 0.45)
HUES = ("#3f7fe0", "#e8833a", "#2fa36b", "#c0508f", "#8a6fdf", "#b59a1d", "#2ba3b5", "#d4534f")
_AXIS = {"automargin": True, "gridcolor": "#e4e7ea", "zeroline": False, "title": {"standoff": 8}}
THEME = go.layout.Template(
    layout={
        "colorway": HUES,
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "#3c434b"},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "margin": {"l": 10, "r": 15, "t": 60, "b": 10},
        "legend": {"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top"},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
    }
)
"""White ground, quiet lines; left hands are blue and right hands orange as in all pictures."""

ROOM = 1.08
"""The scene's side over the hands' extent."""
_WHOLE = {"x": 2.15, "y": 2.15, "z": 2.15}
"""Without perspective plotly zooms by the scene's aspect ratio; at this one the cube that holds the
hands fills the scene."""
_LIGHT = {
    "lighting": {"ambient": 0.42, "diffuse": 0.62, "specular": 0.08, "roughness": 0.6,
                 "fresnel": 0.02, "vertexnormalsepsilon": 0, "facenormalsepsilon": 0},
    # The light turns with the viewer: right, up, away from the eye, where without perspective
    # plotly stretches depth by some hundreds (found by trying).
    "lightposition": {"x": -60000, "y": 90000, "z": -420},
}  # fmt: skip


class StageView(NamedTuple):
    """What one position of the slider shows.

    Attributes:
      label: its name.
      vertices_xyz: (2, V, 3) metres, camera axes, left and right hand in one space; a hand that is
        not finite is left out.
      picture: (h, w, 3) uint8, shown beside the hands; None: no picture.
    """

    label: str
    vertices_xyz: np.ndarray
    picture: np.ndarray | None = None


def stage_name(index: int) -> str:
    """What a person calls a stage."""
    return "initial" if index == 0 else f"refined {index}"


def hands_figure(
    stages: Sequence[StageView],
    faces: Sequence[np.ndarray],
    *,
    truth_xyz: np.ndarray | None = None,
) -> go.Figure:
    """Both hands in space, to be turned, with a slider from stage to stage.

    It begins with the last stage as the photograph's camera sees it (x right, y down, z away),
    without perspective. The legend shows and hides the true hands.

    Args:
      stages: at least one; in order, all with a picture or none.
      faces: two arrays (F, 3).
      truth_xyz: (2, V, 3) the true hands in the same space; None: unknown.

    Raises:
      ValueError: no hand is finite.
    """
    meshes = [stage.vertices_xyz for stage in stages]
    meshes = _finite([*meshes] if truth_xyz is None else [*meshes, truth_xyz])
    frames = [_stage_traces(stage, mesh) for stage, mesh in zip(stages, meshes, strict=False)]
    traces = [dict(trace) for trace in frames[-1]]
    for index, side in enumerate(SIDES):
        traces[index] |= _surface(faces[index], HAND_COLOURS[index], f"{side} hand")
        if truth_xyz is not None:
            looks = _surface(faces[index], TRUTH_COLOUR, "true hands (click)")
            looks |= {"legendgroup": "truth", "showlegend": index == 0, "opacity": 0.5}
            traces.append(_points(meshes[-1][index]) | looks | {"visible": "legendonly"})
    places = list(range(len(frames[-1])))
    return go.Figure(
        traces,
        frames=[
            go.Frame(name=str(number), data=frame, traces=places)
            for number, frame in enumerate(frames)
        ],
        layout={
            "template": THEME,
            "height": 600,
            "margin": {"l": 5, "r": 5, "t": 5, "b": 5},
            "xaxis": {"visible": False, "domain": [0, 0.49]},
            "yaxis": {"visible": False},
            "scene": _scene(meshes, [0 if stages[-1].picture is None else 0.51, 1]),
            "sliders": [_slider(stages)] if len(stages) > 1 else [],
            "updatemenus": [_view_buttons()],
            "legend": {"x": 1, "xanchor": "right", "y": 1, "yanchor": "top"},
        },
    )


def _finite(meshes: Sequence[np.ndarray]) -> np.ndarray:
    """Meshes (n, 2, V, 3) float32, a hand that is not finite drawn together to a point."""
    points = np.asarray(meshes, np.float32)
    known = np.isfinite(points).all((2, 3))
    if not known.any():
        raise ValueError("the vertices are not finite: there is nothing to show")
    return np.where(known[..., None, None], points, points[known][-1].mean(0))


def _stage_traces(stage: StageView, mesh: np.ndarray) -> list[dict]:
    """What changes from stage to stage: both hands' points, and the picture."""
    traces = [_points(hand) for hand in mesh]
    if stage.picture is not None:
        traces.append({"type": "image", "source": data_uri(stage.picture), "hoverinfo": "skip"})
    return traces


def _points(hand: np.ndarray) -> dict:
    return {"type": "mesh3d", **dict(zip("xyz", np.ascontiguousarray(hand.T), strict=True))}


def _surface(faces: np.ndarray, colour: Sequence[float], name: str) -> dict:
    corners = np.ascontiguousarray(np.asarray(faces, np.uint16).T)
    rgb = "rgb({}, {}, {})".format(*(round(255 * value) for value in colour))
    looks = {"name": name, "color": rgb, "hoverinfo": "name", "showlegend": True, **_LIGHT}
    return dict(zip("ijk", corners, strict=True)) | looks


def _scene(meshes: np.ndarray, domain: Sequence[float]) -> dict:
    """A cube around the last mesh, and around the others unless they are far off."""
    last = meshes[-1].reshape(-1, 3)
    centre = (last.min(0) + last.max(0)) / 2
    needed = [2 * np.abs(mesh.reshape(-1, 3) - centre).max() for mesh in meshes]
    # In a video one of the hands may be gone at the end.
    usual = max(needed[-1], sorted(needed)[(len(needed) - 1) // 2])
    half = max(float(min(max(needed), 2 * usual)) * ROOM, 1e-3) / 2
    axes = {
        f"{name}axis": {"visible": False, "range": [float(middle - half), float(middle + half)]}
        for name, middle in zip("xyz", centre, strict=True)
    }
    ratio = {"aspectmode": "manual", "aspectratio": _WHOLE, "dragmode": "orbit"}
    return {**axes, **ratio, "domain": {"x": domain}, "camera": _camera("front")}


def _camera(view: str) -> dict:
    """From where a view looks, and what is up: rows of VIEWS are right, down and away."""
    eye, up = -1.25 * VIEWS[view][2], -VIEWS[view][1]
    return {
        "eye": dict(zip("xyz", eye.tolist(), strict=True)),
        "up": dict(zip("xyz", up.tolist(), strict=True)),
        "center": {"x": 0, "y": 0, "z": 0},
        "projection": {"type": "orthographic"},
    }


def _slider(stages: Sequence[StageView]) -> dict:
    frame = {"duration": 0, "redraw": True}
    at_once = {"mode": "immediate", "transition": {"duration": 0}, "frame": frame}
    steps = [
        {"label": stage.label, "method": "animate", "args": [[str(number)], at_once]}
        for number, stage in enumerate(stages)
    ]
    place = {"x": 0.05, "len": 0.45, "y": 0, "yanchor": "top"}
    return {"steps": steps, "active": len(steps) - 1, "currentvalue": {"visible": False}, **place}


def _view_buttons() -> dict:
    buttons = [
        {
            "label": "as the photo" if view == "front" else view,
            "method": "relayout",
            "args": [{"scene.camera": _camera(view), "scene.aspectratio": _WHOLE}],
        }
        for view in VIEWS
    ]
    looks = {"type": "buttons", "direction": "right", "showactive": False, "pad": {"t": 10}}
    return {"buttons": buttons, "x": 1, "xanchor": "right", "y": 0, "yanchor": "top", **looks}
