"""Averages over a data set: sums and counts of per-sample errors, never means of batch means."""

from __future__ import annotations

import numpy as np

from dir_jax.evaluation.metrics import Errors, InterNetErrors
from mano_jax.constants import JOINTS, SIDES

PCK_THRESHOLDS_MM = np.linspace(0.0, 50.0, 200)
"""Where the curve of correct joints is sampled, both ends included."""

HAND_METRICS = {"mpjpe": "mm", "mpvpe": "mm", "miaa": "px", "joint": "px"}
"""Errors measured on each hand, with the unit that ends their key."""


def auc(curve: np.ndarray, thresholds: np.ndarray = PCK_THRESHOLDS_MM) -> float:
    """Area under a PCK curve (same length as thresholds), 1 for a perfect predictor."""
    area = np.sum((curve[1:] + curve[:-1]) / 2 * np.diff(thresholds))
    return float(area / (thresholds[-1] - thresholds[0]))


def _ratio(total: float, count: float) -> float | None:
    return float(total / count) if count else None


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


class ProtocolTotals:
    """Running sums of one protocol's errors."""

    def __init__(self):
        self.samples = 0
        self.hand_count = np.zeros(2)
        self.sums = {name: np.zeros(2) for name in HAND_METRICS}
        self.counts = {name: np.zeros(2) for name in HAND_METRICS}
        self.joint_sum = np.zeros((2, JOINTS))
        self.within = np.zeros(len(PCK_THRESHOLDS_MM))
        self.root_sum, self.root_count = 0.0, 0

    def add(self, errors: Errors, hand_valid: np.ndarray) -> None:
        """Adds a batch.

        Args:
          errors: of B samples.
          hand_valid: (B, 2) bool, hands that count; a padded sample has none.
        """
        valid = np.asarray(hand_valid, bool)
        joint_mm = np.asarray(errors.joint_mm, np.float64)
        per_hand = {
            "mpjpe": joint_mm.mean(-1),
            "mpvpe": errors.vertex_mm,
            "miaa": errors.vertex_px,
            "joint": errors.joint_px,
        }
        for name, values in per_hand.items():
            if values is not None:
                values = np.asarray(values, np.float64)
                self.sums[name] += np.where(valid, values, 0.0).sum(0)
                self.counts[name] += valid.sum(0)
        self.samples += int(valid.any(-1).sum())
        self.hand_count += valid.sum(0)
        self.joint_sum += np.where(valid[..., None], joint_mm, 0.0).sum(0)
        ordered = np.sort(joint_mm[valid].ravel())
        self.within += np.searchsorted(ordered, PCK_THRESHOLDS_MM, side="right")
        if errors.root_mm is not None:
            both = valid.all(-1)
            self.root_sum += np.asarray(errors.root_mm, np.float64)[both].sum()
            self.root_count += int(both.sum())

    def pck(self) -> np.ndarray:
        """(200,) share of all joints of all counted hands within each threshold."""
        return self.within / max(self.hand_count.sum() * JOINTS, 1)

    def by_joint_mm(self) -> np.ndarray:
        """(2, 21) mean error of every joint."""
        return self.joint_sum / np.maximum(self.hand_count, 1)[:, None]

    def summary(self) -> dict[str, float | int | None]:
        """Means in the keys of `evaluation.json`; None where nothing was measured."""
        result: dict[str, float | int | None] = {}
        for name, unit in HAND_METRICS.items():
            means = [_ratio(*pair) for pair in zip(self.sums[name], self.counts[name], strict=True)]
            result[f"{name}_{unit}"] = _mean(means)
            for side, value in zip(SIDES, means, strict=True):
                result[f"{name}_{side}_{unit}"] = value
        result["mrrpe_mm"] = _ratio(self.root_sum, self.root_count)
        result["auc_0_50"] = auc(self.pck()) if self.samples else None
        result["samples"] = self.samples
        return result


class InterNetTotals:
    """Running sums of InterNet's protocol: single hands, interacting hands and all apart.

    Like InterNet's evaluation, the mean of a group is the mean over the 42 joints of each joint's
    mean error, so that rarely annotated joints weigh as much as the others.
    """

    GROUPS = ("single", "interacting", "all")

    def __init__(self):
        self.joint_sum = {group: np.zeros((2, JOINTS)) for group in self.GROUPS}
        self.joint_count = {group: np.zeros((2, JOINTS)) for group in self.GROUPS}
        self.samples = dict.fromkeys(self.GROUPS, 0)
        self.root_sum, self.root_count = 0.0, 0

    def add(self, errors: InterNetErrors, mask: np.ndarray, interacting: np.ndarray) -> None:
        """Adds a batch.

        Args:
          errors: of B samples.
          mask: (B,) bool, samples that count.
          interacting: (B,) bool, whether a sample shows two interacting hands.
        """
        mask, interacting = np.asarray(mask, bool), np.asarray(interacting, bool)
        valid = np.asarray(errors.valid) & mask[:, None, None]
        mask = mask & valid.any((1, 2))
        joint_mm = np.asarray(errors.joint_mm, np.float64)
        chosen = {"single": mask & ~interacting, "interacting": mask & interacting, "all": mask}
        for group, rows in chosen.items():
            self.samples[group] += int(rows.sum())
            self.joint_count[group] += valid[rows].sum(0)
            self.joint_sum[group] += np.where(valid[rows], joint_mm[rows], 0.0).sum(0)
        if errors.root_mm is not None:
            rows = mask & interacting & np.asarray(errors.root_valid)
            self.root_sum += np.asarray(errors.root_mm, np.float64)[rows].sum()
            self.root_count += int(rows.sum())

    def summary(self) -> dict[str, float | int | None]:
        """`{group}_mpjpe_mm` and `{group}_samples` of every group, and `mrrpe_mm`."""
        result: dict[str, float | int | None] = {}
        for group in self.GROUPS:
            count = self.joint_count[group]
            seen = count > 0
            means = self.joint_sum[group][seen] / count[seen]
            result[f"{group}_mpjpe_mm"] = float(means.mean()) if seen.any() else None
            result[f"{group}_samples"] = self.samples[group]
        result["mrrpe_mm"] = _ratio(self.root_sum, self.root_count)
        return result
