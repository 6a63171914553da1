"""Where a reconstruction fails: errors by the hands' distance, their overlap, and the camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dir_jax.evaluation.metrics import project_px
from dir_jax.models.constants import IMAGE_SIZE

DISTANCE_EDGES_MM = (0.0, 3.0, 10.0, 30.0, np.inf)
"""Smallest distance between the two true meshes; below 3 mm they touch or sink into each other."""
OVERLAP_EDGES = (0.0, 0.01, 0.15, 0.35, 1.0)
"""Intersection over union of the two true hands' silhouettes."""

_METRICS = ("mpjpe", "mpvpe")
_PROTOCOL = "wrist_scaled"
_CELLS = 32


def silhouette_overlap(vertices_xyz: jax.Array, camera: jax.Array) -> jax.Array:
    """How much of the two hands lies in front of each other in the image.

    Args:
      vertices_xyz: (B, 2, 778, 3) true hands, camera space.
      camera: (B, 3, 3) intrinsics of the crop.

    Returns:
      (B,) intersection over union of the cells of a 32x32 map that either hand's vertices fall in.
    """
    cells = jnp.floor(project_px(vertices_xyz, camera) * (_CELLS / IMAGE_SIZE))
    cells = jnp.clip(jnp.nan_to_num(cells), -1, _CELLS).astype(jnp.int32) + 1
    side = _CELLS + 2  # a border collects what lies outside
    numbers = cells[..., 1] * side + cells[..., 0]
    one_hand = jax.vmap(lambda n: jnp.zeros(side * side, bool).at[n].set(True))
    filled = jax.vmap(one_hand)(numbers)
    inside = jnp.zeros((side, side), bool).at[1:-1, 1:-1].set(True).reshape(-1)
    left, right = filled[:, 0] & inside, filled[:, 1] & inside
    return (left & right).sum(-1) / jnp.maximum((left | right).sum(-1), 1)


class Breakdown:
    """Running sums of the main errors in groups of samples."""

    def __init__(self):
        self._distance = _Bins(DISTANCE_EDGES_MM)
        self._overlap = _Bins(OVERLAP_EDGES)
        self._cameras: dict[str, _Sums] = {}

    def add(self, columns: Mapping[str, np.ndarray], cameras: Sequence[str] | None = None) -> None:
        """Adds samples.

        Args:
          columns: the per-sample table's columns (n,): hands_distance_mm, silhouette_overlap and
            the errors.
          cameras: (n,) names of the cameras, or None.
        """
        errors = main_errors(columns)
        self._distance.add(columns.get("hands_distance_mm"), errors)
        self._overlap.add(columns.get("silhouette_overlap"), errors)
        if cameras is not None:
            names = np.asarray(cameras)
            for name in np.unique(names):
                self._cameras.setdefault(str(name), _Sums()).add(errors[names == name])

    def summary(self) -> dict[str, Any]:
        """Groups with their limits, number of samples and wrist_scaled errors, for JSON."""
        return {
            "by_hands_distance_mm": self._distance.summary(),
            "by_silhouette_overlap": self._overlap.summary(),
            "by_camera": {name: sums.summary() for name, sums in sorted(self._cameras.items())},
        }


def main_errors(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """wrist_scaled MPJPE and MPVPE (n, 2) of samples, mean over the hands that count."""
    found = []
    for metric in _METRICS:
        sides = [columns.get(f"{_PROTOCOL}_{metric}_{side}_mm") for side in ("left", "right")]
        if sides[0] is None:
            found.append(np.full(len(next(iter(columns.values()))), np.nan))
            continue
        both = np.stack(sides)
        known = np.isfinite(both)
        count = known.sum(0)
        total = np.where(known, both, 0.0).sum(0)
        found.append(np.where(count > 0, total / np.maximum(count, 1), np.nan))
    return np.stack(found, axis=1)


class _Sums:
    """Sums and counts of each metric."""

    def __init__(self):
        self.samples = 0
        self.total = np.zeros(len(_METRICS))
        self.count = np.zeros(len(_METRICS))

    def add(self, errors: np.ndarray) -> None:
        known = np.isfinite(errors)
        self.samples += len(errors)
        self.total += np.where(known, errors, 0.0).sum(0)
        self.count += known.sum(0)

    def summary(self) -> dict[str, float | int | None]:
        means = {
            f"{metric}_mm": float(self.total[i] / self.count[i]) if self.count[i] else None
            for i, metric in enumerate(_METRICS)
        }
        return {"samples": self.samples, **means}


class _Bins:
    """Groups between consecutive edges (the lower one included)."""

    def __init__(self, edges: Sequence[float]):
        self._edges = edges
        self._sums = [_Sums() for _ in edges[1:]]

    def add(self, values: np.ndarray | None, errors: np.ndarray) -> None:
        if values is None:
            return
        known = np.isfinite(values)
        place = np.searchsorted(self._edges, values, side="right") - 1
        place = np.clip(place, 0, len(self._sums) - 1)  # the last edge belongs to the last group
        for number, sums in enumerate(self._sums):
            sums.add(errors[known & (place == number)])

    def summary(self) -> list[dict[str, Any]]:
        return [
            {"from": low, "to": None if np.isinf(high) else high, **sums.summary()}
            for low, high, sums in zip(self._edges, self._edges[1:], self._sums, strict=False)
        ]
