"""Reconstructed hands as files for other programs: GLB, OBJ, and JSON of the parameters."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import mano_jax
from dir_jax.models import constants
from dir_jax.pictures.drawing import HAND_COLOURS, UPRIGHT
from input_pipeline.files import write_bytes, write_json
from mano_jax.constants import JOINT_NAMES, SIDES

UNITS = {
    "global_orient": "rotation matrix, camera axes (x right, y down, z away from the camera)",
    "global_orient_axis_angle": "radians",
    "hand_pose": "axis-angle of MANO's 15 finger joints, radians, MANO's mean pose included",
    "hand_pose_pca": "MANO's 45 pose components, without the mean pose",
    "betas": "MANO's shape coefficients",
    "camera": "weak perspective on the crop: uv = scale * xyz[:2] + translation, uv in [-1, 1]; "
    "xyz relative to this hand's own root joint (root_joint)",
    "vertices_xyz": "metres, camera axes, origin at the left wrist, both hands in one space",
    "joints_xyz": "metres, camera axes, origin at the left wrist, both hands in one space",
    "joints_px": "pixels of the photo (x right, y down; whole numbers at pixel centres)",
    "offset": "metres, right wrist minus left wrist, camera axes",
    "box": "pixels of the photo: x, y, width, height",
    "hand_boxes": "of single hands as a detector saw them, like box",
    "crop": "square of the photo the network saw: centre x, centre y, side, pixels",
}


def _scene(vertices_xyz: np.ndarray, faces: Sequence[np.ndarray]):
    import trimesh  # here, so that drawing and evaluation start without it

    scene = trimesh.Scene()
    for index, side in enumerate(SIDES):
        material = trimesh.visual.material.PBRMaterial(
            name=f"{side} hand",
            baseColorFactor=[*HAND_COLOURS[index], 1.0],
            metallicFactor=0.0,
            roughnessFactor=0.8,
        )
        mesh = trimesh.Trimesh(vertices_xyz[index], faces[index], process=False)
        mesh.visual = trimesh.visual.TextureVisuals(material=material)
        name = f"{side}_hand"
        scene.add_geometry(mesh, node_name=name, geom_name=name, transform=UPRIGHT)
    return scene


def write_glb(
    path: str | os.PathLike, vertices_xyz: np.ndarray, faces: Sequence[np.ndarray]
) -> None:
    """Writes both hands as one GLB scene, upright in any viewer.

    The vertices keep camera axes; each node carries the turn to glTF's axes.

    Args:
      path: file to write.
      vertices_xyz: (2, V, 3) metres, camera axes, left and right hand in one space.
      faces: two arrays (F, 3).
    """
    scene = _scene(vertices_xyz, faces)
    write_bytes(path, scene.export(file_type="glb", include_normals=True))


def write_obj(
    path: str | os.PathLike, vertices_xyz: np.ndarray, faces: Sequence[np.ndarray]
) -> None:
    """Writes both hands as two objects of one Wavefront OBJ, metres, y up and z to the viewer."""
    lines = ["# two hands, metres, x right, y up, z towards the viewer"]
    start = 1
    for index, side in enumerate(SIDES):
        turned = np.asarray(vertices_xyz[index], np.float64) @ UPRIGHT[:3, :3].T
        lines.append(f"o {side}_hand")
        lines += ["v {:.7f} {:.7f} {:.7f}".format(*vertex) for vertex in turned.tolist()]
        lines += ["f {} {} {}".format(*face) for face in (faces[index] + start).tolist()]
        start += len(turned)
    write_bytes(path, ("\n".join(lines) + "\n").encode())


@functools.partial(jax.jit, static_argnums=0)
def _mano_terms(hands: mano_jax.HandPair, params: jax.Array) -> dict[str, list[jax.Array]]:
    orient = mano_jax.matrix_from_6d_robust(params[:, constants.ROTATION])
    pca = params[:, constants.POSE]
    return {
        "global_orient": orient,
        "global_orient_axis_angle": mano_jax.axis_angle_from_matrix(orient),
        "hand_pose": [mano_jax.pca_to_axis_angle(hands[s], pca[i]) for i, s in enumerate(SIDES)],
        "hand_pose_pca": pca,
        "betas": params[:, constants.BETAS],
    }


def mano_parameters(
    hands: mano_jax.HandPair, params: np.ndarray, root_joint: int
) -> list[dict[str, Any]]:
    """The 64 numbers of each hand in the terms of MANO.

    Args:
      hands: the hand models.
      params: (2, 64) see `dir_jax.models.constants`.
      root_joint: joint to which the model's vertices are relative.

    Returns:
      For the left and the right hand, lists and numbers ready for JSON; units in `UNITS`.
    """
    terms = _mano_terms(hands, params)
    result = []
    for index in range(2):
        values = {name: np.asarray(value[index]).tolist() for name, value in terms.items()}
        values["camera"] = {
            "scale": float(params[index, constants.CAMERA_SCALE]),
            "translation": np.asarray(params[index, constants.CAMERA_TRANSLATION]).tolist(),
            "root_joint": root_joint,
        }
        result.append(values)
    return result


def hand_terms(
    hands: mano_jax.HandPair,
    params: np.ndarray,
    root_joint: int,
    per_hand: dict[str, np.ndarray],
) -> dict[str, dict[str, Any]]:
    """`mano_parameters` and arrays with a leading axis of the two hands, as {"left", "right"}."""
    content = {}
    for index, (side, terms) in enumerate(
        zip(SIDES, mano_parameters(hands, params, root_joint), strict=True)
    ):
        arrays = {name: np.asarray(value[index]).tolist() for name, value in per_hand.items()}
        content[side] = terms | arrays
    return content


def write_parameters(
    path: str | os.PathLike,
    hands: mano_jax.HandPair,
    params: np.ndarray,
    root_joint: int,
    per_hand: dict[str, np.ndarray],
    record: dict[str, Any],
) -> None:
    """Writes the reconstruction of one photo as JSON with the units beside it.

    Args:
      path: file to write.
      hands: the hand models.
      params: (2, 64).
      root_joint: joint to which each hand's own vertices are relative.
      per_hand: arrays with a leading axis of the two hands (joints_xyz, joints_px...).
      record: what concerns both (image, box, crop, offset...), ready for JSON.
    """
    content = dict(record)
    content["hand_model"] = {"name": hands.name, "licence": hands.licence}
    content["joint_names"] = list(JOINT_NAMES)
    content["units"] = UNITS
    write_json(path, content | hand_terms(hands, params, root_joint, per_hand))
