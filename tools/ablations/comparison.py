"""Means and spreads over seeds, and whether the orderings of the paper show in them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dir_jax.evaluation.published import ABLATIONS, Ablation

METRICS = {"mpjpe_mm": "MPJPE mm", "mpvpe_mm": "MPVPE mm", "miaa_px": "MIAA px"}

SHOWS, LEANS, LEANS_AGAINST, REVERSED = "shows", "leans", "leans against", "reversed"
VERDICTS = {
    SHOWS: "the same order, and the 95 % interval of the gap leaves zero out",
    LEANS: "the same order, within the spread over the seeds",
    LEANS_AGAINST: "the other order, within the spread over the seeds",
    REVERSED: "the other order, and the interval leaves zero out",
}

_T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""97.5th percentile of Student's distribution for 1 to 10 degrees of freedom."""
_T_LARGE = 2.228

Values = Mapping[int, Mapping[str, float]]
"""One recipe's errors: by seed, then by key of `METRICS`."""


class Ordering(NamedTuple):
    """Two rows of one table, the one that the paper finds better first.

    Attributes:
      table: a key of `published.ABLATION_TABLES`.
      metric: a key of `METRICS`.
      better: label of the row with the smaller published error.
      worse: label of the other.
      published_gap: worse minus better, as published.
      gap: the same of our means over the seeds.
      interval: half width of its 95 % interval (Welch's), None with a single seed.
      agreeing: seeds with which the gap has the paper's sign.
      seeds: that both rows were trained with.
      verdict: a key of `VERDICTS`.
    """

    table: str
    metric: str
    better: str
    worse: str
    published_gap: float
    gap: float
    interval: float | None
    agreeing: int
    seeds: int
    verdict: str


def errors_of(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """The columns of the tables from the content of `evaluation.json` (wrist_scaled)."""
    values = {metric: evaluation["wrist_scaled"].get(metric) for metric in METRICS}
    return {metric: float(value) for metric, value in values.items() if value is not None}


def mean_and_spread(values: Values, metric: str) -> tuple[float | None, float | None]:
    """Mean over the seeds, and standard deviation where there are two or more."""
    found = [errors[metric] for errors in values.values() if metric in errors]
    spread = float(np.std(found, ddof=1)) if len(found) > 1 else None
    return (float(np.mean(found)) if found else None), spread


def gap_interval(worse: Sequence[float], better: Sequence[float]) -> float | None:
    """Half width of the 95 % interval of the difference of two means, by Welch's test."""
    if len(worse) < 2 or len(better) < 2:
        return None
    shares = [float(np.var(values, ddof=1)) / len(values) for values in (worse, better)]
    total = sum(shares)
    if total == 0.0:
        return 0.0
    freedom = total**2 / sum(
        share**2 / (len(values) - 1) for share, values in zip(shares, (worse, better), strict=True)
    )
    place = math.floor(freedom + 1e-9) - 1
    factor = _T_975[place] if place < len(_T_975) else _T_LARGE
    return factor * math.sqrt(total)


def verdict(gap: float, interval: float | None) -> str:
    """What a gap (positive: the paper's order) and its interval's half width say."""
    clear = interval is not None and abs(gap) > interval
    if gap > 0:
        return SHOWS if clear else LEANS
    return REVERSED if clear else LEANS_AGAINST


def orderings(values: Mapping[str, Values]) -> list[Ordering]:
    """All pairs of rows of one table whose published figures differ.

    Args:
      values: by recipe; recipes without any run are left out.
    """
    found = []
    for metric in METRICS:
        for first, second in itertools.combinations(ABLATIONS, 2):
            if first.table == second.table and _comparable(first, second, metric, values):
                found.append(_ordering(first, second, metric, values))
    return found


def _comparable(first: Ablation, second: Ablation, metric: str, values) -> bool:
    for row in (first, second):
        if metric not in row.values:
            return False
        if not any(metric in errors for errors in values.get(row.recipe, {}).values()):
            return False
    return first.values[metric] != second.values[metric]


def _ordering(first: Ablation, second: Ablation, metric: str, values) -> Ordering:
    better, worse = sorted((first, second), key=lambda row: row.values[metric])
    ours = [
        {seed: errors[metric] for seed, errors in values[row.recipe].items() if metric in errors}
        for row in (better, worse)
    ]
    low, high = (list(by_seed.values()) for by_seed in ours)
    gap = float(np.mean(high) - np.mean(low))
    interval = gap_interval(high, low)
    shared = ours[0].keys() & ours[1].keys()
    return Ordering(
        table=first.table,
        metric=metric,
        better=better.label,
        worse=worse.label,
        published_gap=worse.values[metric] - better.values[metric],
        gap=gap,
        interval=interval,
        agreeing=sum(ours[1][seed] > ours[0][seed] for seed in shared),
        seeds=len(shared),
        verdict=verdict(gap, interval),
    )
