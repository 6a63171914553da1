"""Scoring anyone's predictions (see `prediction_tables`) under every protocol."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

import mano_jax
from dir_jax.evaluation.given_files import PredictionTable, in_camera_space
from dir_jax.evaluation.metrics import WRIST, Hands, internet_errors
from dir_jax.evaluation.runner import Progress, report
from dir_jax.evaluation.samples import Samples
from dir_jax.evaluation.scoring import Scores, about_hands, measured_hands, score_batch

BATCH = 250
"""Samples at a time: a thousand are four batches of one compiled program."""


def hands_of(
    pair: mano_jax.HandPair, batch: dict[str, np.ndarray], prefix: str, vertices: bool
) -> Hands:
    """Meshes with measured joints, or joints alone, from a batch's arrays."""
    if vertices:
        return measured_hands(pair, batch[f"{prefix}vertices_xyz"])
    if f"{prefix}joints_xyz" in batch:
        return Hands(jax.numpy.asarray(batch[f"{prefix}joints_xyz"]))
    return Hands(measured_hands(pair, batch[f"{prefix}vertices_xyz"]).joints_xyz)


def score_predictions(
    table: PredictionTable,
    hands: mano_jax.HandPair,
    *,
    volumes: bool = True,
    samples: Samples | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Errors of predictions under every protocol, in the precision of their arrays.

    Args:
      table: checked predictions.
      hands: hand models whose regressor and faces belong to the vertices.
      volumes: whether to measure interpenetration (needs vertices and offsets).
      samples: takes every sample's errors; give one to have the table written, or to rank them.
      progress: called after every batch with its number of samples.

    Returns:
      The content of `evaluation.json`.
    """
    meshes = table.has_meshes
    scores = Scores(hands)
    absolute: bool | None = None
    with jax.enable_x64(True), samples or Samples(None) as kept:
        for batch in table.batches(min(BATCH, len(table))):
            prediction = hands_of(hands, batch, "", meshes)
            if absolute is None:
                absolute = in_camera_space(prediction.joints_xyz[:, :, WRIST])
            prediction = placed(prediction, batch.get("offset"), absolute)
            truth = hands_of(hands, batch, "gt_", meshes)
            columns = _add(scores, batch, prediction, truth, volumes and meshes)
            real = batch["mask"]
            kept.add(batch["index"][real], {k: v[real] for k, v in columns.items()})
            if progress is not None:
                progress(int(real.sum()))
    return report(scores, hands) | kept.summary()


def placed(prediction: Hands, offset: np.ndarray | None, absolute: bool) -> Hands:
    """Adds the offset; hands in camera space are moved to their own wrists first."""
    if not absolute:
        return prediction.replace(offset=offset)
    wrists = prediction.joints_xyz[:, :, WRIST]
    vertices = prediction.vertices_xyz
    return Hands(
        prediction.joints_xyz - wrists[:, :, None],
        None if vertices is None else vertices - wrists[:, :, None],
        wrists[:, 1] - wrists[:, 0] if offset is None else offset,
    )


def _add(
    scores: Scores, batch: dict[str, np.ndarray], prediction: Hands, truth: Hands, volumes: bool
) -> dict[str, np.ndarray]:
    """Adds one batch to the scores; returns its columns of the per-sample table."""
    mask = batch["mask"]
    valid = batch.get("hand_valid", np.ones((len(mask), 2), bool)).astype(bool) & mask[:, None]
    errors, about = score_batch(prediction, truth, batch.get("camera"))
    columns = scores.add(errors, valid)
    columns |= about_hands(about, valid)
    if volumes:
        columns["true_interpenetration_cm3"] = scores.add_volumes("true", truth, valid)
        if prediction.offset is not None:
            columns["interpenetration_cm3"] = scores.add_volumes("predicted", prediction, valid)
    if "annotated_joints_xyz" in batch:
        annotated = batch["annotated_joints_xyz"]
        known = batch.get("joint_valid", np.isfinite(annotated).all(-1)).astype(bool)
        interacting = known.any(-1).all(-1)
        scores.add_internet(internet_errors(prediction, annotated, known), mask, interacting)
    return columns
