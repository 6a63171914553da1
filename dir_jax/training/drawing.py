"""Pictures that set a prediction beside its label."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from dir_jax.constants import IMAGE_SIZE
from dir_jax.pictures import caption, contact_sheet, draw_meshes, draw_view, view_extent
from dir_jax.prediction import one_space
from dir_jax.targets import pose_batch
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
    one = {name: value[index : index + 1] for name, value in batch.items()}
    truth = np.asarray(pose_batch(one, hands).vertices)[0]
    truth = np.where(one["hand_valid"][0][:, None, None], truth, np.nan)
    homogeneous = truth @ np.asarray(batch["camera"][index]).T
    truth_px = homogeneous[..., :2] / homogeneous[..., 2:]
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
