"""The table of metrics: what is measured of two reconstructed hands, and where it is shown.

A metric is a function and one entry of `METRICS`. Totals, `evaluation.json`, intervals, the
per-sample table, the printed tables, the page and validation during training iterate over that
table, so a new metric appears in all of them. Definitions: docs/method.md, "Evaluation protocols".
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

import mano_jax
from dir_jax.evaluation.interpenetration import intersection_volume_cm3
from dir_jax.evaluation.protocols import (
    MAIN_PROTOCOL,
    PROTOCOLS,
    WRIST,
    Hands,
    Protocol,
    align,
    distance,
    hands_in_one_space,
)
from dir_jax.losses.targets import project
from dir_jax.models.types import IMAGE_SIZE
from mano_jax.constants import SIDES

MILLIMETRES = 1000.0
PCK_THRESHOLDS_MM = np.linspace(0.0, 50.0, 200)
"""Where the curve of correct joints is sampled, both ends included."""

_CELLS = 32
"""Side of the map on which silhouettes overlap."""


@struct.dataclass
class Comparison:
    """What a metric sees of B samples.

    Attributes:
      prediction: predicted hands as they came.
      aligned: the same moved (and scaled) into the ground truth's frame by the protocol.
      truth: true hands, absolute camera positions.
      camera: (B, 3, 3) intrinsics of the crop, or None.
      protocol: that `aligned` follows.
      hands: the hand models.
    """

    prediction: Hands
    aligned: Hands
    truth: Hands
    camera: jax.Array | None
    protocol: Protocol = struct.field(pytree_node=False)
    hands: mano_jax.HandPair = struct.field(pytree_node=False)

    def allows(self, metric: Metric) -> bool:
        """Whether all that a metric needs is there."""
        truth, prediction = self.truth, self.prediction
        there = {
            "vertices_xyz": (truth.vertices_xyz, prediction.vertices_xyz),
            "camera": (self.camera,),
            "offset": (prediction.offset,),
            "joints_px": (prediction.joints_px,),
        }
        return not any(part is None for need in metric.needs for part in there[need])


def joint_mm(comparison: Comparison) -> jax.Array:
    """Distance (B, 2, 21) of every aligned joint, the root's zero included."""
    return MILLIMETRES * distance(comparison.aligned.joints_xyz, comparison.truth.joints_xyz)


def mpjpe(comparison: Comparison) -> jax.Array:
    """Mean distance of the aligned joints."""
    return joint_mm(comparison).mean(-1)


def mpvpe(comparison: Comparison) -> jax.Array:
    """Mean distance of the aligned vertices."""
    aligned, truth = comparison.aligned, comparison.truth
    return MILLIMETRES * distance(aligned.vertices_xyz, truth.vertices_xyz).mean(-1)


def _px(points_xyz: jax.Array, camera: jax.Array) -> jax.Array:
    """Pixels (B, 2, N, 2) of the crop."""
    return (project(camera, points_xyz) + 1) * (IMAGE_SIZE / 2)


def _aligned_px(points_xyz: jax.Array, true_xyz: jax.Array, camera: jax.Array) -> jax.Array:
    return distance(_px(points_xyz, camera), _px(true_xyz, camera)).mean(-1)


def joint_px(comparison: Comparison) -> jax.Array:
    """Mean distance of the aligned joints in the true camera's image."""
    aligned, truth = comparison.aligned, comparison.truth
    return _aligned_px(aligned.joints_xyz, truth.joints_xyz, comparison.camera)


def miaa(comparison: Comparison) -> jax.Array:
    """Mesh-image alignment: mean distance of the aligned vertices in the true camera's image."""
    aligned, truth = comparison.aligned, comparison.truth
    return _aligned_px(aligned.vertices_xyz, truth.vertices_xyz, comparison.camera)


def mrrpe(comparison: Comparison) -> jax.Array:
    """Error of the vector between the hands' roots: never scaled, from the predicted offset."""
    prediction, truth, root = comparison.prediction, comparison.truth, comparison.protocol.root
    true_vector = truth.joints_xyz[:, 1, root] - truth.joints_xyz[:, 0, root]
    vector = prediction.offset
    if root != WRIST:
        vector = vector + prediction.joints_xyz[:, 1, root] - prediction.joints_xyz[:, 0, root]
    return MILLIMETRES * distance(true_vector, vector)


def auc(comparison: Comparison) -> jax.Array:
    """Area under the curve of correct joints (trapezia), 1 for a perfect hand."""
    distance_mm = joint_mm(comparison)[..., None]
    share = (distance_mm <= PCK_THRESHOLDS_MM.astype(distance_mm.dtype)).mean(-2)
    return ((share[..., 1:] + share[..., :-1]) / 2).mean(-1)


def _procrustes_mm(points_xyz: jax.Array, true_xyz: jax.Array) -> jax.Array:
    """Mean distance (B, 2) after the best similarity of each hand (Umeyama, PAMI 1991).

    Rotation, scale and translation are chosen by least squares; a reflection is none. Points
    (B, 2, N, 3) on a line or in one place have several best ones, which are equally far away.
    """
    source, target = (x - x.mean(-2, keepdims=True) for x in (points_xyz, true_xyz))
    full = jax.lax.Precision.HIGHEST
    left, stretch, right = jnp.linalg.svd(
        jnp.einsum("bhni,bhnj->bhij", source, target, precision=full)
    )
    mirrored = jnp.linalg.det(left) * jnp.linalg.det(right)
    signs = jnp.ones_like(stretch).at[..., 2].set(jnp.sign(mirrored))
    moved = jnp.einsum("bhni,bhik,bhk,bhkj->bhnj", source, left, signs, right, precision=full)
    # Points in one place have no scale; the floor leaves them there.
    scale = (stretch * signs).sum(-1) / jnp.maximum((source**2).sum((-1, -2)), 1e-30)
    return MILLIMETRES * distance(scale[..., None, None] * moved, target).mean(-1)


def pa_mpjpe(comparison: Comparison) -> jax.Array:
    """Mean distance of the joints after the best similarity."""
    return _procrustes_mm(comparison.prediction.joints_xyz, comparison.truth.joints_xyz)


def pa_mpvpe(comparison: Comparison) -> jax.Array:
    """Mean distance of the vertices after their own best similarity."""
    return _procrustes_mm(comparison.prediction.vertices_xyz, comparison.truth.vertices_xyz)


def overlay(comparison: Comparison) -> jax.Array:
    """Mean distance in the crop of the joints, where the model's own camera shows them."""
    true_px = _px(comparison.truth.joints_xyz, comparison.camera)
    return distance(comparison.prediction.joints_px, true_px).mean(-1)


def interpenetration(comparison: Comparison) -> np.ndarray:
    """Volume in which the predicted hands sink into each other; the offset places them."""
    return _shared_volume(comparison.prediction, comparison.hands)


def true_interpenetration(comparison: Comparison) -> np.ndarray:
    """Volume in which the true hands sink into each other."""
    return _shared_volume(comparison.truth, comparison.hands)


def hands_distance(comparison: Comparison) -> jax.Array:
    """Smallest distance between the true hands' vertices (joints where there are none)."""
    truth = comparison.truth
    points = truth.joints_xyz if truth.vertices_xyz is None else truth.vertices_xyz
    # Around a common middle, else float32 loses the short distances a metre away.
    left, right = jnp.moveaxis(points - points[:, :1].mean(-2, keepdims=True), 1, 0)
    product = jnp.einsum("bni,bmi->bnm", left, right, precision=jax.lax.Precision.HIGHEST)
    squares = (left**2).sum(-1)[:, :, None] + (right**2).sum(-1)[:, None] - 2 * product
    return MILLIMETRES * jnp.sqrt(jnp.maximum(squares.min((1, 2)), 0.0))


def silhouette_overlap(comparison: Comparison) -> jax.Array:
    """How much of the true hands lies in front of each other in the image.

    Intersection over union of the cells of a 32x32 map that either hand's vertices fall in.
    """
    points_px = _px(comparison.truth.vertices_xyz, comparison.camera)
    cells = jnp.floor(points_px * (_CELLS / IMAGE_SIZE))
    cells = jnp.clip(jnp.nan_to_num(cells), -1, _CELLS).astype(jnp.int32) + 1
    side = _CELLS + 2  # a border collects what lies outside
    one_hand = jax.vmap(lambda x, y: jnp.zeros((side, side), bool).at[y, x].set(True))
    left, right = jnp.moveaxis(jax.vmap(one_hand)(cells[..., 0], cells[..., 1]), 1, 0)[
        ..., 1:-1, 1:-1
    ]
    union = (left | right).sum((-1, -2))
    return (left & right).sum((-1, -2)) / jnp.maximum(union, 1)


def _shared_volume(hands: Hands, models: mano_jax.HandPair) -> np.ndarray:
    faces = [models[side].faces for side in SIDES]
    return intersection_volume_cm3(np.moveaxis(hands_in_one_space(hands), 1, 0), faces)


class Metric(NamedTuple):
    """One thing that is measured.

    Attributes:
      name: beginning of its key; `key` adds the side and the unit.
      unit: end of its key.
      heading: of its column in tables.
      measure: from a `Comparison`: (B, 2) for each hand, or (B,) for the pair.
      per_hand: which of the two. A mean over hands is the mean of the left and the right mean;
        a pair counts when both hands do.
      needs: parts of `Hands`, and "camera", without which it is not measured.
      aligned: measured under every protocol; otherwise once, and it must not read `aligned`.
      slow: numpy, asked for the pairs that count only; validation during training leaves it out.
      shown: where besides evaluation.json and the per-sample table: "table" (printed and page),
        "sides" (there with a column for each hand), "detail" (by stage, by group, in the list of
        samples, and in validation).
    """

    name: str
    unit: str
    heading: str
    measure: Callable[[Comparison], jax.Array | np.ndarray]
    per_hand: bool = True
    needs: tuple[str, ...] = ()
    aligned: bool = True
    slow: bool = False
    shown: tuple[str, ...] = ("table", "detail")

    def key(self, side: str = "") -> str:
        """Its key in `evaluation.json`, such as mpjpe_mm or mpjpe_left_mm."""
        return "_".join(part for part in (self.name, side, self.unit) if part)

    def columns(self, protocol: str) -> tuple[str, ...]:
        """Its columns of the per-sample table: one for each hand, or one for the pair."""
        prefix = f"{protocol}_" if self.aligned else ""
        return tuple(prefix + self.key(side) for side in (SIDES if self.per_hand else ("",)))


METRICS = (
    Metric("mpjpe", "mm", "MPJPE mm", mpjpe, shown=("table", "sides", "detail")),
    Metric("mpvpe", "mm", "MPVPE mm", mpvpe, needs=("vertices_xyz",)),
    Metric("joint", "px", "joints px", joint_px, needs=("camera",), shown=("table",)),
    Metric("miaa", "px", "MIAA px", miaa, needs=("vertices_xyz", "camera")),
    Metric("mrrpe", "mm", "MRRPE mm", mrrpe, per_hand=False, needs=("offset",)),
    Metric("auc", "0_50", "AUC 0-50", auc, shown=("table",)),
    Metric("pa_mpjpe", "mm", "PA-MPJPE mm", pa_mpjpe),
    Metric("pa_mpvpe", "mm", "PA-MPVPE mm", pa_mpvpe, needs=("vertices_xyz",)),
    Metric("overlay", "px", "overlay px", overlay, needs=("joints_px", "camera"), aligned=False),
    Metric(
        *("interpenetration", "cm3", "IV cm³", interpenetration),
        per_hand=False, needs=("vertices_xyz", "offset"), aligned=False, slow=True,
    ),
    Metric(
        *("true_interpenetration", "cm3", "true IV cm³", true_interpenetration),
        per_hand=False, needs=("vertices_xyz",), aligned=False, slow=True, shown=(),
    ),
    Metric(
        *("hands_distance", "mm", "hands apart mm", hands_distance),
        per_hand=False, aligned=False, shown=(),
    ),
    Metric(
        *("silhouette_overlap", "", "overlap", silhouette_overlap),
        per_hand=False, needs=("vertices_xyz", "camera"), aligned=False, shown=(),
    ),
)  # fmt: skip
"""In the order of the tables' columns. The first one ranks samples and checkpoints."""


def shown_in(place: str) -> list[Metric]:
    """Metrics that are shown in one of the places of `Metric.shown`."""
    return [metric for metric in METRICS if place in metric.shown]


Measured = dict[str, dict[str, jax.Array]]
"""What was measured of B samples: by the name of the protocol ("" for what is not aligned) and of
the metric (B, 2) for each hand or (B,) for the pair; and by protocol "joint_mm" (B, 2, 21)."""


EVERYTHING = ("", *PROTOCOLS)


@functools.partial(jax.jit, static_argnums=(0, 4))
def measure(
    hands: mano_jax.HandPair,
    prediction: Hands,
    truth: Hands,
    camera: jax.Array | None = None,
    wanted: tuple[str, ...] = EVERYTHING,
) -> Measured:
    """Measures B samples on the device: every metric that is not slow.

    Args:
      hands: the hand models.
      prediction: predicted hands; what they lack is not measured.
      truth: true hands, absolute camera positions.
      camera: (B, 3, 3) intrinsics of the crop, or None: no pixel errors.
      wanted: names from `PROTOCOLS`, and "" for what no protocol is needed for.
    """
    found: Measured = {}
    for name in wanted:
        protocol = PROTOCOLS[name or MAIN_PROTOCOL]
        aligned = align(prediction, truth, protocol)
        comparison = Comparison(prediction, aligned, truth, camera, protocol, hands)
        chosen = [m for m in METRICS if m.aligned == bool(name) and not m.slow]
        found[name] = {m.name: m.measure(comparison) for m in chosen if comparison.allows(m)}
        if name:
            found[name]["joint_mm"] = joint_mm(comparison)
    return found


def measure_slow(
    hands: mano_jax.HandPair, prediction: Hands, truth: Hands, counted: np.ndarray
) -> dict[str, np.ndarray]:
    """Measures the slow metrics.

    Args:
      hands: the hand models.
      prediction: predicted hands of B samples.
      truth: true hands.
      counted: (B,) bool, pairs that count.

    Returns:
      By the metric's name: (B,), NaN where a pair does not count.
    """
    rows = [jax.tree.map(lambda a: np.asarray(a)[counted], part) for part in (prediction, truth)]
    comparison = Comparison(rows[0], rows[0], rows[1], None, PROTOCOLS[MAIN_PROTOCOL], hands)
    found = {}
    for metric in METRICS:
        if metric.slow and comparison.allows(metric):
            found[metric.name] = np.full(len(counted), np.nan)
            found[metric.name][counted] = metric.measure(comparison)
    return found


def known(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Values, NaN where they do not count.

    What counts and is not a number becomes infinite, lest it pass for something that does not
    count and make a mean look better.
    """
    return np.where(valid, np.where(np.isnan(values), np.inf, values), np.nan)


def known_mean(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Mean of what counts (see `known`); NaN where nothing does."""
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # of an empty mean
        return np.nanmean(np.asarray(values, np.float64), axis)


def figure(values: np.ndarray) -> float | None:
    """The mean of what counts for `evaluation.json`; None where nothing does."""
    mean = float(known_mean(values))
    return None if np.isnan(mean) else mean
