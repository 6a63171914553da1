"""One photo's result, ready to be drawn, written or shown: what every writer is handed."""

from __future__ import annotations

import dataclasses

import numpy as np

from dir_jax.models.constants import CAMERA_SCALE, CAMERA_TRANSLATION
from dir_jax.models.types import offset_metres, one_space
from dir_jax.prediction.photos import Photo
from dir_jax.prediction.predictor import Reconstruction
from dir_jax.weights.loading import Loaded
from mano_jax import HandPair
from mano_jax.constants import SIDES


class NotFiniteError(ValueError):
    """The network answered with NaN or infinity: there is nothing to show."""


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """Both hands of one photo at every stage; the axis of size 2 is left, right.

    Attributes:
      stem: what the names of its files begin with; may hold subfolders.
      photo: the image (h, w, 3) uint8 RGB, the box, the crop's square, single hands' boxes.
      box_from: "given", "annotated", "detected", "tracked" or "whole photo".
      found: the network's own numbers (`dir_jax.models.types.Stage` per stage, the last one best).
      vertices_xyz: (T, 2, 778, 3) metres, camera axes, one space per stage: origin at its left
        wrist.
      joints_xyz: (T, 2, 21, 3) in the same spaces.
      vertices_px: (T, 2, 778, 2) pixels of the photo, each hand by its own camera.
      joints_px: (T, 2, 21, 2) pixels of the photo.
      offset_xyz: (T, 3) metres, right wrist minus left wrist, camera axes.
      cameras: (T, 2, 3) scale and translation: uv = scale * xyz[:2] + translation over the crop in
        [-1, 1], xyz relative to the hand's own root joint.
      params: (T, 2, 64) see `dir_jax.models.constants`.
      hands: the hand models.
      faces: two arrays (1538, 3).
      root_joint: joint to which the network's own vertices are relative.
    """

    stem: str
    photo: Photo
    box_from: str
    found: Reconstruction
    vertices_xyz: np.ndarray
    joints_xyz: np.ndarray
    vertices_px: np.ndarray
    joints_px: np.ndarray
    offset_xyz: np.ndarray
    cameras: np.ndarray
    params: np.ndarray
    hands: HandPair
    faces: tuple[np.ndarray, np.ndarray]
    root_joint: int


def result_of(stem: str, found: Reconstruction, loaded: Loaded, box_from: str = "given") -> Result:
    """Gathers what can be said of a photo.

    Raises:
      NotFiniteError: the network answered with NaN or infinity.
    """
    stages = range(len(found.stages))
    spaces = [one_space(stage) for stage in found.stages]
    params = np.stack([np.asarray(stage.params) for stage in found.stages])
    result = Result(
        stem=stem,
        photo=found.photo,
        box_from=box_from,
        found=found,
        vertices_xyz=np.stack([vertices for vertices, _ in spaces]),
        joints_xyz=np.stack([joints for _, joints in spaces]),
        vertices_px=np.stack([found.vertices_px(stage) for stage in stages]),
        joints_px=np.stack([found.joints_px(stage) for stage in stages]),
        offset_xyz=np.stack([offset_metres(stage) for stage in found.stages]),
        cameras=np.concatenate(
            [params[..., CAMERA_SCALE, None], params[..., CAMERA_TRANSLATION]], axis=-1
        ),
        params=params,
        hands=loaded.hands,
        faces=tuple(loaded.hands[side].faces for side in SIDES),
        root_joint=loaded.model.config.root_joint,
    )
    numbers = (result.vertices_xyz, result.vertices_px, params)
    if not all(np.isfinite(values).all() for values in numbers):
        raise NotFiniteError(
            f"{found.photo.name}: the network's answer is not finite; check the weights"
        )
    return result
