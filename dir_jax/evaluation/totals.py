"""Averages over a data set: sums and counts of per-sample figures, never means of batch means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import mano_jax
from dir_jax.evaluation.internet import InterNetTotals
from dir_jax.evaluation.metrics import (
    METRICS,
    PCK_THRESHOLDS_MM,
    Measured,
    measure,
    measure_slow,
)
from dir_jax.evaluation.protocols import MAIN_PROTOCOL, PROTOCOLS, Hands
from mano_jax.constants import JOINTS, SIDES

RESAMPLES = 1000
LEVELS = (2.5, 97.5)
"""Percentiles between which 95 % of the resampled means lie."""


class Means:
    """Means of named columns, and how far they can be trusted, without keeping the samples.

    Instead of drawing N samples with replacement at the end, every sample enters each resample as
    many times as a Poisson variable of mean 1 says (Chamandy et al., "Estimating Uncertainty for
    Massive Data Streams", 2012). For more than a few dozen samples the two agree.

    Args:
      resamples: of the bootstrap; 0: means only.
    """

    def __init__(self, resamples: int = 0):
        self.samples = 0
        self._names: list[str] = []
        self._resamples = resamples
        self._sums = self._counts = np.zeros((1 + resamples, 0))

    def add(self, columns: Mapping[str, np.ndarray], first_index: int = 0) -> None:
        """Adds samples.

        Args:
          columns: (n,) each, NaN where a sample has no value; the same names every time.
          first_index: number of the first sample; the resampling depends on it alone.
        """
        if not self._names:
            self._names = list(columns)
            self._sums, self._counts = np.zeros((2, 1 + self._resamples, len(columns)))
        values = np.stack([np.asarray(columns[name], np.float64) for name in self._names], axis=1)
        self.samples += len(values)
        draws = np.random.default_rng((0, first_index)).poisson(1.0, (self._resamples, len(values)))
        weights = np.concatenate([np.ones((1, len(values))), draws])  # row 0: each sample once
        known = ~np.isnan(values)
        with np.errstate(invalid="ignore"):  # an infinite error, not drawn
            self._sums = self._sums + weights @ np.where(known, values, 0.0)
        self._counts = self._counts + weights @ known

    def _means(self, columns: tuple[str, ...]) -> np.ndarray | None:
        """(1 + resamples,) average of the columns' means, leaving out those without values."""
        places = [self._names.index(name) for name in columns if name in self._names]
        places = [place for place in places if self._counts[0, place]]
        if not places:
            return None
        with np.errstate(invalid="ignore", divide="ignore"):
            return (self._sums[:, places] / self._counts[:, places]).mean(1)

    def mean(self, *columns: str) -> float | None:
        """Average of the columns' means; None when nothing was measured."""
        means = self._means(columns)
        return None if means is None else float(means[0])

    def interval(self, *columns: str) -> list[float] | None:
        """95 % interval [low, high] of `mean`; None when nothing was measured."""
        means = self._means(columns)
        means = np.zeros(0) if means is None else means[1:][np.isfinite(means[1:])]
        return np.percentile(means, LEVELS).tolist() if len(means) else None


class JointTotals:
    """Running sums of every joint's distance under one protocol."""

    def __init__(self):
        self._hands = np.zeros(2)
        self._sum = np.zeros((2, JOINTS))
        self._within = np.zeros(len(PCK_THRESHOLDS_MM))

    def add(self, joint_mm: np.ndarray, hand_valid: np.ndarray) -> None:
        """Adds distances (B, 2, 21) of the hands (B, 2) bool that count."""
        joint_mm = np.asarray(joint_mm, np.float64)
        self._hands += hand_valid.sum(0)
        self._sum += np.where(hand_valid[..., None], joint_mm, 0.0).sum(0)
        ordered = np.sort(joint_mm[hand_valid].ravel())
        self._within += np.searchsorted(ordered, PCK_THRESHOLDS_MM, side="right")

    def pck(self) -> np.ndarray:
        """(200,) share of all joints of all counted hands within each threshold."""
        return self._within / max(self._hands.sum() * JOINTS, 1)

    def by_joint_mm(self) -> dict[str, list[float]]:
        """Mean error of every joint, by side."""
        means = self._sum / np.maximum(self._hands, 1)[:, None]
        return dict(zip(SIDES, means.tolist(), strict=True))


class Scores:
    """Running totals of one predictor.

    Args:
      hands: the hand models.
      protocols: names of those it is measured under.
      slow: whether to measure the slow metrics too.
    """

    def __init__(
        self,
        hands: mano_jax.HandPair,
        protocols: tuple[str, ...] = tuple(PROTOCOLS),
        slow: bool = False,
    ):
        self.samples = 0
        self.internet = InterNetTotals()
        self._hands, self._protocols, self._slow = hands, protocols, slow
        self._means = Means()
        self._joints = {name: JointTotals() for name in protocols}

    def add(
        self, prediction: Hands, truth: Hands, camera: Any, hand_valid: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Measures and adds a batch.

        Args:
          prediction: predicted hands of B samples.
          truth: true hands, absolute.
          camera: (B, 3, 3) or None.
          hand_valid: (B, 2) bool, hands that count; a padded sample has none.

        Returns:
          Columns (B,) of the per-sample table; NaN for hands that do not count.
        """
        valid = np.asarray(hand_valid, bool)
        measured = measure(self._hands, prediction, truth, camera, self._protocols)
        if self._slow:
            measured.values[""].update(measure_slow(self._hands, prediction, truth, valid.all(-1)))
        for name, joint_mm in measured.joint_mm.items():
            self._joints[name].add(joint_mm, valid)
        columns = sample_columns(measured, valid)
        counted = valid.any(-1)
        self._means.add({name: column[counted] for name, column in columns.items()})
        self.samples += int(counted.sum())
        return columns

    def summary(self, protocol: str) -> dict[str, float | int | None]:
        """Means under one protocol in the keys of `evaluation.json`; None where not measured."""
        return self._summary(protocol) | {"samples": self.samples}

    def _summary(self, protocol: str) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for metric in METRICS:
            if metric.aligned == bool(protocol):
                columns = metric.columns(protocol)
                result[metric.key()] = self._means.mean(*columns)
                if metric.per_hand:
                    for side, column in zip(SIDES, columns, strict=True):
                        result[metric.key(side)] = self._means.mean(column)
        return result

    def pck(self) -> dict[str, list[float]]:
        """The curve of correct joints under every protocol, and its thresholds."""
        curves = {name: joints.pck().tolist() for name, joints in self._joints.items()}
        return {"thresholds_mm": PCK_THRESHOLDS_MM.tolist(), **curves}

    def report(self, baseline: Scores | None = None) -> dict[str, Any]:
        """The content of `evaluation.json`.

        Args:
          baseline: scores of the mean hand, or None.

        Raises:
          ValueError: there are no samples.
        """
        if not self.samples:
            raise ValueError("there are no samples to evaluate")
        result: dict[str, Any] = {name: self.summary(name) for name in PROTOCOLS}
        mean = None
        if baseline is not None:
            mean = {name: baseline.summary(name) for name in PROTOCOLS} | {"pck": baseline.pck()}
        return {
            **result,
            **self._summary(""),
            "samples": self.samples,
            "baseline_mean_hand": mean,
            "internet": self.internet.summary(),
            "by_joint_mm": {name: joints.by_joint_mm() for name, joints in self._joints.items()},
            "pck": self.pck(),
            "hands": self._hands.name,
        }


def sample_columns(measured: Measured, hand_valid: np.ndarray) -> dict[str, np.ndarray]:
    """Per-sample columns (B,) of everything measured; NaN for hands (B, 2) that do not count.

    What counts and is not a number becomes infinite, lest it pass for something that does not
    count and make a mean look better.
    """
    found: dict[str, np.ndarray] = {}
    for protocol, values in measured.values.items():
        for metric in METRICS:
            if metric.name in values:
                value = np.asarray(values[metric.name], np.float64)
                value = np.where(np.isnan(value), np.inf, value)
                valid = hand_valid if metric.per_hand else hand_valid.all(-1, keepdims=True)
                value = np.where(valid, value.reshape(valid.shape), np.nan)
                found |= zip(metric.columns(protocol), value.T, strict=True)
    return found


def detail(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What is listed of single samples: every "detail" metric (n,), `MAIN_PROTOCOL`.

    Args:
      columns: of the per-sample table.

    Returns:
      By key, mean over the hands that count; NaN where there are none, or nothing was measured.
    """
    size = len(next(iter(columns.values())))
    found = {}
    for metric in METRICS:
        if "detail" in metric.shown:
            sides = [columns.get(c, np.full(size, np.nan)) for c in metric.columns(MAIN_PROTOCOL)]
            known = ~np.isnan(sides)
            total = np.where(known, sides, 0.0).sum(0)
            found[metric.key()] = np.where(
                known.any(0), total / np.maximum(known.sum(0), 1), np.nan
            )
    return found
