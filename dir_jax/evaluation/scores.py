"""One predictor's figures: what was measured of every sample, their means, intervals and groups.

Every sample's figures are kept (about 0.5 KB a sample), so means are over samples, never means of
batch means, and the batch size changes nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import mano_jax
from dir_jax.evaluation.internet import internet_errors, internet_summary
from dir_jax.evaluation.metrics import (
    EVERYTHING,
    METRICS,
    PCK_THRESHOLDS_MM,
    Measured,
    Metric,
    figure,
    known,
    known_mean,
    measure,
    measure_slow,
    shown_in,
)
from dir_jax.evaluation.protocols import MAIN_PROTOCOL, PROTOCOLS, Hands
from mano_jax.constants import JOINTS, SIDES

RESAMPLES = 1000
LEVELS = (2.5, 97.5)
"""Percentiles between which 95 % of the resampled means lie."""


DIFFICULTIES = {
    "hands_distance_mm": (
        "By the smallest distance between the true hands, mm",
        (0.0, 3.0, 10.0, 30.0, np.inf),  # below 3 mm they touch or sink into each other
    ),
    "silhouette_overlap": (
        "By the overlap of the hands' silhouettes (occlusion)",
        (0.0, 0.01, 0.15, 0.35, 1.0),
    ),
}
"""Figures of the true hands that samples are grouped by, by the metric's key: title, and limits of
the groups, the lower one included."""


class Scores:
    """Takes one predictor's hands batch by batch.

    Args:
      hands: the hand models.
      wanted: what of it is measured (see `measure`).
      slow: whether to measure the slow metrics too.
    """

    def __init__(
        self, hands: mano_jax.HandPair, wanted: tuple[str, ...] = EVERYTHING, slow: bool = False
    ):
        self._hands, self._wanted, self._slow = hands, wanted, slow
        self._parts: dict[str, dict[str, list[np.ndarray]]] = {}
        nobody = {"joint_mm": np.zeros((0, 2, JOINTS)), "root_mm": np.zeros(0)}
        self._keep("internet", nobody | {"interacting": np.zeros(0, bool)}, slice(None))

    def add(
        self,
        prediction: Hands,
        truth: Hands,
        camera: Any,
        hand_valid: np.ndarray,
        index: np.ndarray,
        annotated: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        """Measures a batch.

        Args:
          prediction: predicted hands of B samples.
          truth: true hands, absolute.
          camera: (B, 3, 3) or None.
          hand_valid: (B, 2) bool, hands that count; of a padded sample, none.
          index: (B,) numbers of the samples.
          annotated: joints (B, 2, 21, 3) and which of them are annotated (B, 2, 21) bool, for
            InterNet's protocol; None: nobody has annotated any.
        """
        valid = np.asarray(hand_valid, bool)
        measured = measure(self._hands, prediction, truth, camera, self._wanted)
        joints = {name: measured[name].pop("joint_mm") for name in measured if name}
        joints = {name: known(np.float32(mm), valid[..., None]) for name, mm in joints.items()}
        if self._slow:
            measured[""] |= measure_slow(self._hands, prediction, truth, valid.all(-1))
        columns = {"index": index, **sample_columns(measured, valid)}
        self._keep("columns", columns, valid.any(-1))
        self._keep("joints", joints, valid.any(-1))
        if annotated is not None:
            self._keep("internet", internet_errors(prediction, *annotated), slice(None))

    def _keep(self, kind: str, arrays: Mapping[str, np.ndarray], rows: Any) -> None:
        for name, array in arrays.items():
            self._parts.setdefault(kind, {}).setdefault(name, []).append(array[rows])

    def _kept(self, kind: str) -> dict[str, np.ndarray]:
        """Arrays of all samples by name; they are put together when they are first asked for."""
        parts = self._parts.get(kind, {})
        parts |= {name: [np.concatenate(arrays)] for name, arrays in parts.items()}
        return {name: array for name, (array,) in parts.items()}

    def columns(self) -> dict[str, np.ndarray]:
        """The per-sample table: "index" and every figure, (N,) each; NaN where it does not count.

        Raises:
          ValueError: there are no samples.
        """
        columns = self._kept("columns")
        if not len(columns.get("index", ())):
            raise ValueError("there are no samples to evaluate")
        return columns

    def listed(self) -> dict[str, np.ndarray]:
        """What pages list of single samples: "detail" metrics and `DIFFICULTIES`, by key.

        Under `MAIN_PROTOCOL`, (N,) each, mean over the hands that count; NaN where not measured.
        """
        columns = self.columns()
        keys = {metric.key(): metric for metric in METRICS}
        unknown = np.full(len(columns["index"]), np.nan)
        listed = {}
        for metric in [*shown_in("detail"), *(keys[key] for key in DIFFICULTIES)]:
            sides = [columns.get(name, unknown) for name in metric.columns(MAIN_PROTOCOL)]
            listed[metric.key()] = known_mean(np.array(sides), 0)
        return listed

    def summary(self, protocol: str = "") -> dict[str, float | int | None]:
        """Means under a protocol, or of what needs none, by key; None where not measured."""
        columns = self.columns()
        result: dict[str, float | int | None] = {"samples": len(columns["index"])}
        for metric in METRICS:
            if metric.aligned == bool(protocol):
                names = metric.columns(protocol)
                result[metric.key()] = _mean(columns, names)
                if metric.per_hand:
                    for side, name in zip(SIDES, names, strict=True):
                        result[metric.key(side)] = _mean(columns, (name,))
        return result

    def pck(self) -> dict[str, list[float]]:
        """The curve of correct joints by protocol, and "thresholds_mm"."""
        curves = {"thresholds_mm": PCK_THRESHOLDS_MM.tolist()}
        for name, joint_mm in self._kept("joints").items():
            ordered = np.sort(joint_mm[~np.isnan(joint_mm)])
            within = np.searchsorted(ordered, PCK_THRESHOLDS_MM, side="right")
            curves[name] = (within / max(len(ordered), 1)).tolist()
        return curves

    def by_joint_mm(self) -> dict[str, dict[str, list[float]]]:
        """Mean error of every joint, by protocol and side."""
        means = {name: known_mean(joint_mm, 0) for name, joint_mm in self._kept("joints").items()}
        return {name: dict(zip(SIDES, mean.tolist(), strict=True)) for name, mean in means.items()}

    def report(
        self, baseline: Scores | None = None, cameras: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """The content of `evaluation.json`.

        Args:
          baseline: scores of the mean hand, or None.
          cameras: (N,) names of the samples' cameras, or None.

        Raises:
          ValueError: there are no samples.
        """
        mean = None
        if baseline is not None:
            mean = {name: baseline.summary(name) for name in PROTOCOLS} | {"pck": baseline.pck()}
        return {
            **{name: self.summary(name) for name in PROTOCOLS},
            **self.summary(),
            "baseline_mean_hand": mean,
            "internet": internet_summary(**self._kept("internet")),
            "by_joint_mm": self.by_joint_mm(),
            "pck": self.pck(),
            "confidence_95": intervals(self.columns()),
            **groups(self.listed(), cameras),
            "hands": self._hands.name,
        }


class Evaluated(NamedTuple):
    """A predictor's evaluation.

    Attributes:
      result: the content of `evaluation.json`.
      scores: what was measured of every sample.
      shown: gives the samples that the page shows (`examples.Shown`).
    """

    result: dict[str, Any]
    scores: Scores
    shown: Callable[[], list[Any]]


def sample_columns(measured: Measured, hand_valid: np.ndarray) -> dict[str, np.ndarray]:
    """Columns (B,) of everything measured; NaN for hands (B, 2) that do not count."""
    found: dict[str, np.ndarray] = {}
    for protocol, values in measured.items():
        for metric in METRICS:
            if metric.name in values:
                value = np.asarray(values[metric.name], np.float64)
                valid = hand_valid if metric.per_hand else hand_valid.all(-1, keepdims=True)
                value = known(value.reshape(valid.shape), valid)
                found |= zip(metric.columns(protocol), value.T, strict=True)
    return found


def _mean(columns: Mapping[str, np.ndarray], names: Iterable[str]) -> float | None:
    """Average of the means of the columns that hold anything; None when none does."""
    return figure(np.array([known_mean(columns.get(name, np.nan)) for name in names]))


def intervals(columns: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """95 % bootstrap intervals of all means: by protocol, then by key; others by key.

    Instead of drawing N samples with replacement, every sample enters each resample as many times
    as a Poisson variable of mean 1 says (Chamandy et al., "Estimating Uncertainty for Massive Data
    Streams", 2012), which needs little memory. For more than a few dozen samples the two agree.

    Args:
      columns: the per-sample table.
    """
    places = {name: place for place, name in enumerate(columns)}
    values = np.stack([np.asarray(column, np.float64) for column in columns.values()], axis=1)
    sums, counts = np.zeros((2, RESAMPLES, len(columns)))
    rng = np.random.default_rng(0)
    with np.errstate(invalid="ignore", divide="ignore"):  # infinite errors, columns without any
        for chunk in np.array_split(values, -(-len(values) // 256)):
            weights = rng.poisson(1.0, (RESAMPLES, len(chunk))).astype(np.float64)
            counted = ~np.isnan(chunk)
            sums += weights @ np.where(counted, chunk, 0.0)
            counts += weights @ counted
        means = sums / counts

    def interval(metric: Metric, protocol: str) -> list[float] | None:
        found = [places[name] for name in metric.columns(protocol) if name in places]
        found = [place for place in found if not np.isnan(values[:, place]).all()]
        resampled = means[:, found].mean(1) if found else np.zeros(0)
        resampled = resampled[np.isfinite(resampled)]
        return np.percentile(resampled, LEVELS).tolist() if len(resampled) else None

    aligned = [metric for metric in METRICS if metric.aligned]
    return {
        **{name: {m.key(): interval(m, name) for m in aligned} for name in PROTOCOLS},
        **{metric.key(): interval(metric, "") for metric in METRICS if not metric.aligned},
    }


def groups(
    listed: Mapping[str, np.ndarray], cameras: Sequence[str] | None = None
) -> dict[str, Any]:
    """Errors of samples that have something in common.

    Args:
      listed: see `Scores.listed`.
      cameras: (N,) names of the samples' cameras, or None.

    Returns:
      For each of `DIFFICULTIES` a list of groups with their limits, and "by_camera" by name; of
      each the number of samples and their "detail" metrics.
    """

    def group(chosen: np.ndarray) -> dict[str, Any]:
        inside = {metric.key(): listed[metric.key()][chosen] for metric in shown_in("detail")}
        return {"samples": int(chosen.sum())} | {key: figure(inside[key]) for key in inside}

    result: dict[str, Any] = {}
    for key, (_, edges) in DIFFICULTIES.items():
        values = listed[key]
        place = np.searchsorted(edges, values, side="right") - 1
        place = np.where(np.isfinite(values), np.minimum(place, len(edges) - 2), -1)
        result[f"by_{key}"] = [
            {"from": low, "to": None if np.isinf(high) else high, **group(place == number)}
            for number, (low, high) in enumerate(itertools.pairwise(edges))
        ]
    names = np.array([] if cameras is None else cameras)
    result["by_camera"] = {
        str(name): group(names == name) for name in np.unique(names[names != ""])
    }
    return result
