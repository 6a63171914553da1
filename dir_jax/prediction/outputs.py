"""What predict.py leaves for every photo: pictures, meshes, numbers, a page.

A new format is one function of a path and a `Result`, and one line of `FORMATS`.
"""

from __future__ import annotations

import functools
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.spatial.transform import Rotation

import mano_jax
from dir_jax.models import types
from dir_jax.pictures.drawing import (
    HAND_COLOURS,
    UPRIGHT,
    draw_box,
    draw_joints,
    draw_meshes,
    draw_view,
    save_png,
)
from dir_jax.prediction.inputs import result_path
from dir_jax.prediction.predictor import Result
from dir_jax.weights.loading import Loaded
from input_pipeline.files import write_bytes, write_json
from mano_jax.constants import JOINT_NAMES, SIDES

VIEW_SIZE = 512
HAND_BOX_COLOUR = (250, 220, 70)

UNITS = {
    "global_orient": "rotation matrix, camera axes (x right, y down, z away from the camera)",
    "global_orient_axis_angle": "radians",
    "hand_pose": "axis-angle of MANO's 15 finger joints, radians, MANO's mean pose included",
    "hand_pose_pca": "MANO's 45 pose components, without the mean pose",
    "betas": "MANO's shape coefficients",
    "camera": "weak perspective on the crop: uv = scale * xyz[:2] + translation, uv in [-1, 1]; "
    "xyz relative to this hand's own root joint (root_joint)",
    "joints_xyz": "metres, camera axes, both hands in one space, origin at the left wrist (of a "
    "right hand alone: at its own)",
    "joints_px": "pixels of the photo (x right, y down; whole numbers at pixel centres)",
    "offset": "metres, right wrist minus left wrist, camera axes",
    "box": "pixels of the photo: x, y, width, height",
    "hand_boxes": "of single hands as a detector saw them, like box",
    "confidence": "of each of the hand_boxes, 0 to 1",
    "presence": "how sure it is that each hand is in the photo, 0 to 1; of one that is not taken "
    "to be there is nothing else, and no offset",
    "on_landmarks": "whether a hand was moved onto the landmarks that were seen of it",
    "crop": "square of the photo the network saw: centre x, centre y, side, pixels",
}

NAMES = {"sides": list(SIDES), "joint_names": list(JOINT_NAMES), "units": UNITS}
"""What every file of numbers says of its own terms."""


def overlay(result: Result, stage: int = -1, opacity: float = 0.9) -> np.ndarray:
    """The photo (h, w, 3) uint8 with both meshes over it, the nearer hand in front."""
    space = result.vertices_xyz[stage]
    points = result.vertices_px[stage]
    return draw_meshes(result.photo.image, points, space, result.faces, opacity)


def joints_and_boxes(result: Result, stage: int = -1) -> np.ndarray:
    """The photo (h, w, 3) uint8 with joints, bones, the box and what a detector saw."""
    picture = draw_joints(result.photo.image, result.joints_px[stage])
    for box in (hand.box for hand in result.photo.seen):
        picture = draw_box(picture, box, HAND_BOX_COLOUR)
    if result.photo.box is not None:
        picture = draw_box(picture, result.photo.box)
    return picture


def view(result: Result, name: str) -> np.ndarray:
    """Both hands in one space from a side (a key of `dir_jax.pictures.drawing.VIEWS`)."""
    return draw_view(result.vertices_xyz[-1], result.faces, name, VIEW_SIZE)


def present_sides(result: Result) -> list[tuple[int, str]]:
    """Numbers and names of the hands that are in the photo."""
    return [(index, side) for index, side in enumerate(SIDES) if result.present[index]]


def write_glb(path: str | os.PathLike, result: Result) -> None:
    """Writes both hands as one GLB scene, upright in any viewer.

    The vertices keep camera axes; each node carries the turn to glTF's axes.
    """
    import trimesh  # here, so that drawing and evaluation start without it

    scene = trimesh.Scene()
    scene.metadata.update(model_record(result.loaded))  # becomes the file's extras
    for index, side in present_sides(result):
        material = trimesh.visual.material.PBRMaterial(
            name=f"{side} hand",
            baseColorFactor=[*HAND_COLOURS[index], 1.0],
            metallicFactor=0.0,
            roughnessFactor=0.8,
        )
        vertices_xyz, faces = result.vertices_xyz[-1, index], result.faces[index]
        mesh = trimesh.Trimesh(vertices_xyz, faces, process=False)
        mesh.visual = trimesh.visual.TextureVisuals(material=material)
        name = f"{side}_hand"
        scene.add_geometry(mesh, node_name=name, geom_name=name, transform=UPRIGHT)
    write_bytes(path, scene.export(file_type="glb", include_normals=True))


def write_obj(path: str | os.PathLike, result: Result) -> None:
    """Writes both hands as two objects of one Wavefront OBJ, metres, y up and z to the viewer."""
    lines = ["# metres, x right, y up, z towards the viewer", f"# {about(result.loaded)}"]
    start = 1
    for index, side in present_sides(result):
        turned = np.asarray(result.vertices_xyz[-1, index], np.float64) @ UPRIGHT[:3, :3].T
        lines.append(f"o {side}_hand")
        lines += ["v {:.7f} {:.7f} {:.7f}".format(*vertex) for vertex in turned.tolist()]
        lines += ["f {} {} {}".format(*face) for face in (result.faces[index] + start).tolist()]
        start += len(turned)
    write_bytes(path, ("\n".join(lines) + "\n").encode())


def write_page(path: str | os.PathLike, result: Result) -> None:
    """Writes one self-contained HTML file on which the hands can be turned."""
    from dir_jax.prediction.page import result_html  # plotly is not needed for the rest

    write_bytes(path, result_html(result).encode())


def model_record(loaded: Loaded) -> dict[str, Any]:
    """Which weights, which hand model, and what their licences are, ready for JSON."""
    weights = {
        "name": loaded.source,
        "step": loaded.meta.get("step"),
        "trained_with": loaded.meta.get("hands"),
        "licence": loaded.meta.get("licence"),
    }
    return {
        "model": {name: value for name, value in weights.items() if value is not None},
        "hand_model": {"name": loaded.hands.name, "licence": loaded.hands.licence},
    }


def about(loaded: Loaded) -> str:
    """The same in a line of plain text."""
    record = model_record(loaded)
    weights, hands = record["model"], record["hand_model"]
    licence = f" ({weights['licence']})" if "licence" in weights else ""
    return f"Model: {weights['name']}{licence}. Hand model: {hands['name']} ({hands['licence']})"


def hand_numbers(result: Result) -> dict[str, np.ndarray]:
    """MANO's parameters, cameras and joints of both hands by name, arrays (2, ...).

    Units in `UNITS`; NaN for a hand that is not in the photo.
    """
    terms = _mano_terms(result.hands, result.params[-1])
    orient = Rotation.from_matrix(np.asarray(terms["global_orient"]))
    terms |= {"global_orient_axis_angle": orient.as_rotvec(), "camera": result.cameras[-1]}
    terms |= {"joints_xyz": result.joints_xyz[-1], "joints_px": result.joints_px[-1]}
    numbers = {name: np.array(value, np.float32) for name, value in terms.items()}
    for values in numbers.values():
        values[~result.present] = np.nan
    return numbers


def photo_record(result: Result, numbers: dict[str, np.ndarray]) -> dict[str, Any]:
    """Where the hands are: box, crop, offset and, per hand, its `hand_numbers`. Ready for JSON."""
    photo = result.photo
    x, y, half_side = (float(value) for value in photo.square)
    record = {
        "box": None if photo.box is None else [float(value) for value in photo.box],
        "box_from": photo.box_from,
        "hand_boxes": [[float(value) for value in hand.box] for hand in photo.seen],
        "confidence": photo.confidence,
        "crop": {"centre": [x, y], "side": 2 * half_side},
        "on_landmarks": dict(zip(SIDES, result.fitted.tolist(), strict=True)),
        "presence": dict(zip(SIDES, np.round(result.presence, 3).tolist(), strict=True)),
        "warnings": result.warnings,
        "offset": result.offset_xyz[-1].tolist() if result.present.all() else None,
        **dict.fromkeys(SIDES),
    }
    for index, side in present_sides(result):
        hand = {name: value[index].tolist() for name, value in numbers.items()}
        scale, *translation = hand["camera"]
        hand["camera"] = {"scale": scale, "translation": translation}
        hand["camera"]["root_joint"] = result.root_joint
        record[side] = hand
    return record


@functools.partial(jax.jit, static_argnums=0)
def _mano_terms(hands: mano_jax.HandPair, params: jax.Array) -> dict[str, Any]:
    """The parameters (2, 64) in the terms of MANO."""
    orient = mano_jax.matrix_from_6d_robust(params[:, types.ROTATION])
    pca = params[:, types.POSE]
    return {
        "global_orient": orient,
        "hand_pose": [mano_jax.pca_to_axis_angle(hands[s], pca[i]) for i, s in enumerate(SIDES)],
        "hand_pose_pca": pca,
        "betas": params[:, types.BETAS],
    }


def write_numbers(path: str | os.PathLike, result: Result) -> None:
    """Writes the reconstruction as JSON, with the model, the licences and the units in it."""
    height, width = result.photo.image.shape[:2]
    source = {"image": str(result.photo.name), "image_size": [width, height]}
    write_json(
        path,
        source | model_record(result.loaded) | NAMES | photo_record(result, hand_numbers(result)),
    )


class Format(NamedTuple):
    """A kind of result.

    Attributes:
      ending: of the file's name, after ".hands.".
      write: makes the file.
    """

    ending: str
    write: Callable[[pathlib.Path, Result], None]


def _picture(name: str, draw: Callable[[Result], np.ndarray]) -> Format:
    def write(path: pathlib.Path, result: Result) -> None:
        save_png(path, draw(result), about(result.loaded))

    return Format(f"{name}.png", write)


FORMATS: dict[str, Format] = {
    "overlay": _picture("overlay", overlay),
    "joints": _picture("joints", joints_and_boxes),
    "side": _picture("side", functools.partial(view, name="side")),
    "top": _picture("top", functools.partial(view, name="top")),
    "glb": Format("glb", write_glb),
    "obj": Format("obj", write_obj),
    "json": Format("json", write_numbers),
    "html": Format("html", write_page),
}
"""What can be written, by the name that --write knows it by."""

USUAL = tuple(name for name in FORMATS if name != "html")
"""Written unless something else is asked for; a page takes 2 MB and is not."""


def write_result(
    folder: str | os.PathLike,
    stem: str,
    result: Result,
    kinds: Sequence[str] = USUAL,
    number: int = 1,
) -> list[pathlib.Path]:
    """Writes FOLDER/STEM.hands.overlay.png, STEM.hands.glb and so on.

    The second pair of hands in a photo goes to STEM.hands.2.overlay.png.

    Args:
      folder: where to; made when missing.
      stem: beginning of the files' names; it may hold subfolders.
      result: what to write.
      kinds: which of `FORMATS`.
      number: of the pair of hands in its photo, from 1.

    Returns:
      The files.

    Raises:
      OSError: the folder cannot be written.
    """
    paths, pair = [], "" if number == 1 else f"{number}."
    for kind in kinds:
        paths.append(result_path(folder, stem, pair + FORMATS[kind].ending))
        FORMATS[kind].write(paths[-1], result)
    return paths
