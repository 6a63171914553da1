"""What an evaluation keeps of every sample: its row in the table, intervals, groups."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dir_jax.evaluation.bootstrap import Bootstrap
from dir_jax.evaluation.breakdown import Breakdown, main_errors
from dir_jax.evaluation.metrics import PROTOCOLS
from dir_jax.evaluation.table import SampleTable
from dir_jax.evaluation.totals import HAND_METRICS
from mano_jax.constants import SIDES

LISTED_COLUMNS = {
    "MRRPE mm": "wrist_scaled_mrrpe_mm",
    "hands apart mm": "hands_distance_mm",
    "overlap": "silhouette_overlap",
    "IV cm³": "interpenetration_cm3",
}
"""What the report lists of a sample besides its main errors: its heading, the table's column."""


class Samples(contextlib.AbstractContextManager):
    """Takes the per-sample columns of an evaluation, batch by batch.

    Args:
      path: CSV file for the table, or None.
      identities: identities by sample index (see `table.SampleTable`), or None.
    """

    def __init__(self, path: str | os.PathLike | None, identities: Sequence[Any] | None = None):
        self._identities = identities
        self._table = SampleTable(path, identities)
        self._bootstrap, self._breakdown = Bootstrap(), Breakdown()
        self._indices: list[np.ndarray] = []
        self._numbers: list[np.ndarray] = []

    def __enter__(self) -> Samples:
        self._table.__enter__()
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._table.__exit__(*error)

    def add(self, indices: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
        """Adds real samples: their numbers (n,) and columns (n,) each."""
        if not len(indices):
            return
        self._table.add(indices, columns)
        unknown = np.full(len(indices), np.nan)
        others = [columns.get(name, unknown) for name in LISTED_COLUMNS.values()]
        self._indices.append(np.asarray(indices))
        self._numbers.append(np.column_stack([main_errors(columns), *others]).astype(np.float32))
        self._bootstrap.add(int(indices[0]), columns)
        cameras = None
        if self._identities is not None:
            found = [self._identities[index] for index in indices.tolist()]
            cameras = [getattr(identity, "camera_name", "") for identity in found]
        self._breakdown.add(columns, cameras if cameras and any(cameras) else None)

    def ranking(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers (N,) and wrist_scaled MPJPE (N,) in mm of all samples."""
        indices, numbers = self.listed()
        return indices, numbers[next(iter(numbers))]

    def listed(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Numbers (N,) of all samples, and (N,) for each column of the report's list."""
        table = np.concatenate(self._numbers).astype(np.float64)
        names = ("MPJPE mm", "MPVPE mm", *LISTED_COLUMNS)
        return np.concatenate(self._indices), dict(zip(names, table.T, strict=True))

    def summary(self) -> dict[str, Any]:
        """Intervals (`confidence_95`) and groups, for `evaluation.json`."""
        intervals: dict[str, Any] = {}
        for protocol in PROTOCOLS:
            names = {
                f"{metric}_{unit}": [f"{protocol}_{metric}_{side}_{unit}" for side in SIDES]
                for metric, unit in HAND_METRICS.items()
            }
            names["mrrpe_mm"] = [f"{protocol}_mrrpe_mm"]
            intervals[protocol] = {
                key: self._bootstrap.interval(*columns) for key, columns in names.items()
            }
        intervals["interpenetration_cm3"] = self._bootstrap.interval("interpenetration_cm3")
        return {"confidence_95": intervals, **self._breakdown.summary()}
