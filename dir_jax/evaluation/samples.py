"""What an evaluation keeps of every sample: its row in the table, intervals, groups of the hard."""

from __future__ import annotations

import contextlib
import csv
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dir_jax.evaluation.metrics import METRICS, MILLIMETRES, shown_in
from dir_jax.evaluation.protocols import PROTOCOLS, Hands, project_px
from dir_jax.evaluation.totals import RESAMPLES, Means, detail
from dir_jax.models.types import IMAGE_SIZE
from input_pipeline.files import whole_file

IDENTITY = ("file_name", "capture", "sequence", "camera_name", "frame", "hand_type")
"""Columns that say which photograph a sample is (fields of `input_pipeline.records.Record`)."""

_CELLS = 32


def nearest_mm(points_xyz: jax.Array) -> jax.Array:
    """(B,) smallest distance in mm between the left and the right points of (B, 2, N, 3)."""
    left, right = points_xyz[:, 0], points_xyz[:, 1]
    # Around a common middle, else float32 loses the short distances a metre away.
    middle = left.mean(1, keepdims=True)
    left, right = left - middle, right - middle
    product = jnp.einsum("bni,bmi->bnm", left, right, precision=jax.lax.Precision.HIGHEST)
    squares = (left**2).sum(-1)[:, :, None] + (right**2).sum(-1)[:, None] - 2 * product
    return jnp.sqrt(jnp.maximum(squares.min((1, 2)), 0.0)) * MILLIMETRES


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


class Difficulty(NamedTuple):
    """Something about the true hands that makes a sample hard.

    Attributes:
      heading: of its column in the list of samples.
      title: of the errors grouped by it.
      edges: limits of the groups, the lower one included.
    """

    heading: str
    title: str
    edges: tuple[float, ...]


DIFFICULTIES = {
    "hands_distance_mm": Difficulty(
        "hands apart mm",
        "By the smallest distance between the true hands, mm",
        (0.0, 3.0, 10.0, 30.0, np.inf),  # below 3 mm they touch or sink into each other
    ),
    "silhouette_overlap": Difficulty(
        "overlap",
        "By the overlap of the hands' silhouettes (occlusion)",
        (0.0, 0.01, 0.15, 0.35, 1.0),  # intersection over union
    ),
}
"""By column of the per-sample table."""


@jax.jit
def _difficulties(truth: Hands, camera: jax.Array | None) -> dict[str, jax.Array]:
    points = truth.joints_xyz if truth.vertices_xyz is None else truth.vertices_xyz
    found = {"hands_distance_mm": nearest_mm(points)}
    if truth.vertices_xyz is not None and camera is not None:
        found["silhouette_overlap"] = silhouette_overlap(truth.vertices_xyz, camera)
    return found


def difficulties(truth: Hands, camera: Any, hand_valid: np.ndarray) -> dict[str, np.ndarray]:
    """Columns (B,) about the true hands; NaN where one of them does not count.

    Args:
      truth: true hands, absolute.
      camera: (B, 3, 3) or None.
      hand_valid: (B, 2) bool.
    """
    both = np.asarray(hand_valid, bool).all(-1)
    found = _difficulties(truth, camera)
    return {name: np.where(both, np.asarray(value), np.nan) for name, value in found.items()}


class Samples(contextlib.AbstractContextManager):
    """Takes the per-sample columns of an evaluation, batch by batch; use it in a `with` block.

    Args:
      path: CSV file for the table, or None. It has its name only when the block ends well.
      identities: identities by sample index, or None; a text becomes `file_name`.
    """

    def __init__(self, path: str | os.PathLike | None, identities: Sequence[Any] | None = None):
        self._path, self._identities = path, identities
        self._stack = contextlib.ExitStack()
        self._writer: Any = None
        self._names: list[str] = []
        self._indices: list[np.ndarray] = []
        self._listed: dict[str, list[np.ndarray]] = {}
        self._means = Means(RESAMPLES)
        self._groups = {name: [Means() for _ in d.edges[1:]] for name, d in DIFFICULTIES.items()}
        self._cameras: dict[str, Means] = {}

    def __enter__(self) -> Samples:
        if self._path is not None:
            temporary = self._stack.enter_context(whole_file(self._path))
            file = self._stack.enter_context(open(temporary, "w", newline=""))
            self._writer = csv.writer(file)
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._stack.__exit__(*error)

    def add(self, indices: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
        """Adds real samples: their numbers (n,) and columns (n,) each, of the same names always."""
        if not len(indices):
            return
        identities = None
        if self._identities is not None:
            identities = [self._identities[index] for index in indices.tolist()]
        self._write(indices, identities, columns)
        errors = detail(columns)
        unknown = np.full(len(indices), np.nan)
        about = {name: columns.get(name, unknown) for name in DIFFICULTIES}
        self._indices.append(np.asarray(indices))
        for name, values in (errors | about).items():
            self._listed.setdefault(name, []).append(np.asarray(values, np.float32))
        self._means.add(columns, int(indices[0]))
        for name, values in about.items():
            place = np.searchsorted(DIFFICULTIES[name].edges, values, side="right") - 1
            place = np.minimum(place, len(self._groups[name]) - 1)  # the last edge is included
            for number, means in enumerate(self._groups[name]):
                _add_rows(means, errors, (place == number) & np.isfinite(values))
        cameras = np.array([str(getattr(who, "camera_name", "")) for who in identities or ()])
        for camera in np.unique(cameras[cameras != ""]):
            means = self._cameras.setdefault(str(camera), Means())
            _add_rows(means, errors, cameras == camera)

    def _write(self, indices, identities, columns: Mapping[str, np.ndarray]) -> None:
        if self._writer is None:
            return
        if not self._names:
            self._names = list(columns)
            self._writer.writerow(["index", *(IDENTITY if identities else ()), *self._names])
        for row, index in enumerate(indices.tolist()):
            values = [columns[name][row] for name in self._names]
            numbers = ["" if np.isnan(value) else f"{value:.6g}" for value in values]
            who = identity_row(identities[row]) if identities else []
            self._writer.writerow([index, *who, *numbers])

    def ranking(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers (N,) of all samples and their first metric (N,): wrist_scaled MPJPE, mm."""
        errors = self._listed[METRICS[0].key()]
        return np.concatenate(self._indices), np.concatenate(errors).astype(np.float64)

    def listed(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Numbers (N,) of all samples, and (N,) by heading for each column of the page's list."""
        headings = {metric.key(): metric.heading for metric in shown_in("detail")}
        headings |= {name: difficulty.heading for name, difficulty in DIFFICULTIES.items()}
        columns = {
            headings[name]: np.concatenate(parts).astype(np.float64)
            for name, parts in self._listed.items()
        }
        columns = {name: c for name, c in columns.items() if not np.isnan(c).all()}
        return np.concatenate(self._indices), columns

    def summary(self) -> dict[str, Any]:
        """Intervals (`confidence_95`) and groups, for `evaluation.json`."""
        intervals: dict[str, Any] = {}
        for metric in METRICS:
            for protocol in PROTOCOLS if metric.aligned else ("",):
                place = intervals.setdefault(protocol, {}) if protocol else intervals
                place[metric.key()] = self._means.interval(*metric.columns(protocol))
        groups: dict[str, Any] = {}
        for name, difficulty in DIFFICULTIES.items():
            limits = zip(difficulty.edges, difficulty.edges[1:], strict=False)
            groups[f"by_{name}"] = [
                {"from": low, "to": None if np.isinf(high) else high, **_group(means)}
                for (low, high), means in zip(limits, self._groups[name], strict=True)
            ]
        cameras = {name: _group(means) for name, means in sorted(self._cameras.items())}
        return {"confidence_95": intervals, **groups, "by_camera": cameras}


def _add_rows(means: Means, columns: Mapping[str, np.ndarray], chosen: np.ndarray) -> None:
    if chosen.any():
        means.add({name: values[chosen] for name, values in columns.items()})


def _group(means: Means) -> dict[str, Any]:
    errors = {metric.key(): means.mean(metric.key()) for metric in shown_in("detail")}
    return {"samples": means.samples, **errors}


def identity_row(identity: Any) -> list[Any]:
    """Values of `IDENTITY`; a bare name is the file's."""
    if isinstance(identity, str):
        return [identity, *[""] * (len(IDENTITY) - 1)]
    return [getattr(identity, name) for name in IDENTITY]
