"""Pictures and meshes that set a prediction beside its label."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from dir_jax.losses.targets import pose_batch
from dir_jax.models.constants import IMAGE_SIZE
from dir_jax.models.types import one_space
from dir_jax.pictures.drawing import (
    HAND_COLOURS,
    UPRIGHT,
    caption,
    contact_sheet,
    draw_meshes,
    draw_view,
    to_uint8,
    view_extent,
)
from input_pipeline.crop import project
from mano_jax import HandPair
from mano_jax.constants import SIDES


def comparison_picture(
    batch: dict[str, np.ndarray], stages: Any, index: int, hands: HandPair
) -> np.ndarray:
    """One row: photo, label over it, prediction over it, both from the side.

    Args:
      batch: of `input_pipeline.batches.eval_batches`.
      stages: the network's estimates of (at least) the batch's first images, numpy.
      index: which example.
      hands: the hand models.

    Returns:
      (256, w, 3) uint8.
    """
    crop = np.asarray(batch["image"][index])
    faces = [hands[side].faces for side in SIDES]
    truth = _truth(batch, index, hands)[0]
    truth = np.where(batch["hand_valid"][index][:, None, None], truth, np.nan)
    truth_px = project(batch["camera"][index], truth)
    stage = jax.tree.map(lambda value: np.asarray(value[index]), stages[-1])
    predicted, _ = one_space(stage)
    predicted_px = (stage.vertices_uv + 1) / 2 * IMAGE_SIZE
    extent = max(view_extent(truth), view_extent(predicted))
    row = [
        caption(crop, "photo"),
        caption(draw_meshes(crop, truth_px, truth[..., 2], truth, faces), "label"),
        caption(draw_meshes(crop, predicted_px, predicted[..., 2], predicted, faces), "prediction"),
        caption(draw_view(truth, faces, "side", IMAGE_SIZE, extent), "label, side"),
        caption(draw_view(predicted, faces, "side", IMAGE_SIZE, extent), "prediction, side"),
    ]
    return contact_sheet(row, len(row))


def comparison_mesh(
    batch: dict[str, np.ndarray], stages: Any, index: int, hands: HandPair
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The label and, to its right, the prediction, both hands each, as one mesh.

    Args:
      batch: of `input_pipeline.batches.eval_batches`.
      stages: the network's estimates of (at least) the batch's first images, numpy.
      index: which example.
      hands: the hand models.

    Returns:
      vertices (4 * 778, 3) metres, y up and z to the viewer, origin at the label's first valid
      wrist; faces (F, 3), none of a hand without a valid label; colours (4 * 778, 3) uint8.
    """
    truth, joints = _truth(batch, index, hands)
    valid = np.asarray(batch["hand_valid"][index], bool)
    stage = jax.tree.map(lambda value: np.asarray(value[index]), stages[-1])
    predicted, _ = one_space(stage)
    truth = (truth - joints[np.argmax(valid), 0]) * valid[:, None, None]
    aside = max(view_extent(truth), view_extent(predicted))
    meshes = np.concatenate([truth, predicted + [aside, 0, 0]])
    count = meshes.shape[1]
    faces = [hands[side].faces for side in SIDES] * 2
    shown = [*valid, True, True]
    return (
        meshes.reshape(-1, 3) @ UPRIGHT[:3, :3].T,
        np.concatenate([part + n * count for n, part in enumerate(faces) if shown[n]]),
        np.repeat(to_uint8(np.array(HAND_COLOURS * 2)), count, axis=0),
    )


def _truth(
    batch: dict[str, np.ndarray], index: int, hands: HandPair
) -> tuple[np.ndarray, np.ndarray]:
    """The label's vertices (2, 778, 3) and joints (2, 21, 3), metres, camera axes."""
    one = {name: value[index : index + 1] for name, value in batch.items()}
    mesh = pose_batch(one, hands)
    return np.asarray(mesh.vertices)[0], np.asarray(mesh.joints)[0]
