"""Scores of one predictor over a data set: every protocol, on the device, batch by batch."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mano_jax
from dir_jax.evaluation.breakdown import silhouette_overlap
from dir_jax.evaluation.interpenetration import intersection_volume_cm3
from dir_jax.evaluation.metrics import (
    MILLIMETRES,
    PROTOCOLS,
    WRIST,
    Errors,
    Hands,
    InterNetErrors,
    all_errors,
    evaluation_joints,
)
from dir_jax.evaluation.totals import HAND_METRICS, InterNetTotals, ProtocolTotals
from mano_jax.constants import SIDES


@functools.partial(jax.jit, static_argnums=0)
def measured_hands(
    hands: mano_jax.HandPair, vertices_xyz: jax.Array, offset: jax.Array | None = None
) -> Hands:
    """Meshes (B, 2, 778, 3) with the joints that the protocols measure, and the offset (B, 3)."""
    return Hands(evaluation_joints(hands, vertices_xyz), vertices_xyz, offset)


@jax.jit
def score_batch(
    prediction: Hands, truth: Hands, camera: jax.Array | None
) -> tuple[dict[str, Errors], dict[str, jax.Array]]:
    """Errors of B samples under every protocol, and what makes a sample hard.

    Args:
      prediction: predicted hands.
      truth: true hands, absolute.
      camera: (B, 3, 3) or None.

    Returns:
      errors by protocol, and columns (B,) about the true hands: `hands_distance_mm`, the smallest
      distance between their vertices (joints where there are none), and with vertices and camera
      `silhouette_overlap` (see `breakdown.silhouette_overlap`).
    """
    points = truth.joints_xyz if truth.vertices_xyz is None else truth.vertices_xyz
    about = {"hands_distance_mm": nearest_mm(points)}
    if truth.vertices_xyz is not None and camera is not None:
        about["silhouette_overlap"] = silhouette_overlap(truth.vertices_xyz, camera)
    return all_errors(prediction, truth, camera), about


def nearest_mm(points_xyz: jax.Array) -> jax.Array:
    """(B,) smallest distance in mm between the left and the right points of (B, 2, N, 3)."""
    left, right = points_xyz[:, 0], points_xyz[:, 1]
    # Around a common middle, else float32 loses the short distances a metre away.
    middle = left.mean(1, keepdims=True)
    left, right = left - middle, right - middle
    product = jnp.einsum("bni,bmi->bnm", left, right, precision=jax.lax.Precision.HIGHEST)
    squares = (left**2).sum(-1)[:, :, None] + (right**2).sum(-1)[:, None] - 2 * product
    return jnp.sqrt(jnp.maximum(squares.min((1, 2)), 0.0)) * MILLIMETRES


def hands_in_one_space(hands: Hands) -> np.ndarray:
    """(B, 2, V, 3) vertices: left wrist at the origin, right wrist at the offset.

    Without an offset the hands' own places are taken (the ground truth's).
    """
    vertices = np.asarray(hands.vertices_xyz, np.float64)
    joints = np.asarray(hands.joints_xyz, np.float64)
    if hands.offset is None:
        return vertices - joints[:, :1, WRIST, None]
    placed = vertices - joints[:, :, WRIST, None]
    placed[:, 1] += np.asarray(hands.offset, np.float64)[:, None]
    return placed


class Scores:
    """Running totals of one predictor under every protocol.

    Args:
      hands: the hand models, for the faces; None: no interpenetration volumes.
    """

    def __init__(self, hands: mano_jax.HandPair | None = None):
        self.protocols = {name: ProtocolTotals() for name in PROTOCOLS}
        self.internet = InterNetTotals()
        self._faces = None if hands is None else [hands[side].faces for side in SIDES]
        self._volume_sum = {"predicted": 0.0, "true": 0.0}
        self._volume_count = {"predicted": 0, "true": 0}

    def add(self, errors: dict[str, Errors], hand_valid: np.ndarray) -> dict[str, np.ndarray]:
        """Adds a batch of errors.

        Args:
          errors: by protocol.
          hand_valid: (B, 2) bool, hands that count.

        Returns:
          Columns (B,) of the per-sample table; NaN for hands that do not count.
        """
        columns: dict[str, np.ndarray] = {}
        for name, value in errors.items():
            value = jax.tree.map(np.asarray, value)
            self.protocols[name].add(value, hand_valid)
            columns |= sample_columns(name, value, hand_valid)
        return columns

    def add_volumes(self, which: str, hands: Hands, hand_valid: np.ndarray) -> np.ndarray:
        """Adds the interpenetration of a batch; `which` is "predicted" or "true".

        Returns:
          (B,) cm^3, NaN where a hand does not count.
        """
        both = np.asarray(hand_valid, bool).all(-1)
        volumes = np.full(len(both), np.nan)
        if both.any():
            placed = hands_in_one_space(hands)[both]
            volumes[both] = intersection_volume_cm3([placed[:, 0], placed[:, 1]], self._faces)
            self._volume_sum[which] += volumes[both].sum()
            self._volume_count[which] += int(both.sum())
        return volumes

    def add_internet(
        self, errors: InterNetErrors, mask: np.ndarray, interacting: np.ndarray
    ) -> None:
        """Adds a batch of InterNet's protocol (see `InterNetTotals.add`)."""
        self.internet.add(jax.tree.map(np.asarray, errors), mask, interacting)

    def volume_cm3(self, which: str = "predicted") -> float | None:
        """Mean interpenetration, None when none was measured."""
        count = self._volume_count[which]
        return float(self._volume_sum[which] / count) if count else None

    def protocol_summaries(self) -> dict[str, Any]:
        """Means of every protocol in the keys of `evaluation.json`."""
        return {name: totals.summary() for name, totals in self.protocols.items()}


def sample_columns(protocol: str, errors: Errors, hand_valid: np.ndarray) -> dict[str, np.ndarray]:
    """Per-sample columns of one protocol, named PROTOCOL_METRIC_SIDE_UNIT and _mrrpe_mm."""
    valid = np.asarray(hand_valid, bool)
    values = {
        "mpjpe": errors.joint_mm.mean(-1),
        "mpvpe": errors.vertex_mm,
        "miaa": errors.vertex_px,
        "joint": errors.joint_px,
    }
    columns = {}
    for metric, unit in HAND_METRICS.items():
        if values[metric] is not None:
            for index, side in enumerate(SIDES):
                column = np.where(valid[:, index], values[metric][:, index], np.nan)
                columns[f"{protocol}_{metric}_{side}_{unit}"] = column
    if errors.root_mm is not None:
        columns[f"{protocol}_mrrpe_mm"] = np.where(valid.all(-1), errors.root_mm, np.nan)
    return columns


def about_hands(about: dict[str, jax.Array], hand_valid: np.ndarray) -> dict[str, np.ndarray]:
    """Columns of `score_batch` about the true hands; NaN where one of them does not count."""
    both = np.asarray(hand_valid, bool).all(-1)
    return {name: np.where(both, np.asarray(value), np.nan) for name, value in about.items()}
