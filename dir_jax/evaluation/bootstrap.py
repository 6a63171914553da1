"""How far a mean over samples can be trusted: bootstrap intervals without keeping the samples.

Instead of drawing N samples with replacement at the end, every sample enters each resample as many
times as a Poisson variable of mean 1 says (Chamandy et al., "Estimating Uncertainty for Massive
Data Streams", 2012). For more than a few dozen samples the two agree, and memory stays constant.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

RESAMPLES = 1000
LEVELS = (2.5, 97.5)
"""Percentiles between which 95 % of the resampled means lie."""


class Bootstrap:
    """Resampled means of named columns.

    Args:
      seed: of the resampling; a sample's weights depend on it and on the sample's number alone.
    """

    def __init__(self, seed: int = 0):
        self._seed = seed
        self._names: list[str] = []
        self._sums = np.zeros((RESAMPLES, 0))
        self._counts = np.zeros((RESAMPLES, 0))

    def add(self, first_index: int, columns: Mapping[str, np.ndarray]) -> None:
        """Adds samples.

        Args:
          first_index: number of the first of them, for the random weights.
          columns: (n,) each, NaN where a sample has no value; the same names every time.
        """
        if not self._names:
            self._names = list(columns)
            self._sums = np.zeros((RESAMPLES, len(columns)))
            self._counts = np.zeros((RESAMPLES, len(columns)))
        values = np.stack([np.asarray(columns[name], np.float64) for name in self._names], axis=1)
        rng = np.random.default_rng((self._seed, first_index))
        weights = rng.poisson(1.0, (RESAMPLES, len(values))).astype(np.float64)
        known = np.isfinite(values)
        self._sums += weights @ np.where(known, values, 0.0)
        self._counts += weights @ known

    def interval(self, *names: str) -> list[float] | None:
        """95 % interval of a column's mean, or of the average of several columns' means.

        Returns:
          [low, high], or None when nothing was measured.
        """
        places = [self._names.index(name) for name in names if name in self._names]
        if not places or not self._counts[:, places].any(0).all():
            return None
        with np.errstate(invalid="ignore", divide="ignore"):
            means = (self._sums[:, places] / self._counts[:, places]).mean(1)
        means = means[np.isfinite(means)]
        return np.percentile(means, LEVELS).tolist() if len(means) else None
