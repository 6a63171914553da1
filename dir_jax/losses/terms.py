"""Training losses (docs/method.md, "Losses"): every term is a row of `TERMS`, value and weight.

Pure functions of the output and the targets. A term of one's own is one more row: its name, its
weight and what it computes; it then has a field of its own in every recipe (`--config.loss.NAME`),
where 0 leaves it out. Of a batch spread over devices, a term's mean over them, and the mean of its
gradients, are those of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dir_jax.models.config import Field
from dir_jax.models.layers import across_devices
from dir_jax.models.types import LENGTH_SCALE, Output, Stage, Targets
from mano_jax import HandPair
from mano_jax.constants import SIDES

THRESHOLD = 0.01
"""Where smooth L1 turns from quadratic to linear."""
EDGE_EPSILON = 1e-12
UNIT_EPSILON = 1e-12
CLASS_WEIGHTS = np.array([0.1, 0.45, 0.45], np.float32)
"""Cross-entropy weights of background and the two hands, in float32 as PyTorch keeps them."""

# --- Distances and means ------------------------------------------------------------------------


def smooth_l1(difference: jax.Array) -> jax.Array:
    """0.5 z^2 where |z| < 0.01, else 0.01 (|z| - 0.005); elementwise."""
    size = jnp.abs(difference)
    quadratic = 0.5 * jnp.square(difference)
    return jnp.where(size < THRESHOLD, quadratic, THRESHOLD * (size - THRESHOLD / 2))


def l1(difference: jax.Array) -> jax.Array:
    """|z| with smooth L1's slope at large errors (ablation); elementwise."""
    return THRESHOLD * jnp.abs(difference)


DISTANCES = {"smooth_l1": smooth_l1, "l1": l1}
"""Of coordinates: the recipe's field `distance`."""


def mean_of_known(values: jax.Array, known: jax.Array | None) -> jax.Array:
    """Mean over the first axis of the values that are known.

    The number of known values is the mean over the devices that share the batch, so that the mean
    of the results over them is the mean over the whole batch.

    Args:
      values: (B, ...).
      known: (B, ...) bool; None: all are.

    Returns:
      (...); zero, without gradient, where nothing is known. What is not known has no gradient.
    """
    if known is None:
        return values.mean(0)
    count = across_devices(known.sum(0).astype(values.dtype))
    return jnp.where(known, values, 0).sum(0) / jnp.where(count > 0, count, 1)


# --- Meshes -------------------------------------------------------------------------------------


def _unit(vectors):
    squares = jnp.sum(jnp.square(vectors), -1, keepdims=True)
    # The square root has no finite slope at zero: a collapsed edge must not poison the gradient.
    length = jnp.sqrt(jnp.maximum(squares, UNIT_EPSILON**2))
    return vectors / length


def _corners(vertices, faces):
    """(B, 2, 778, 3), (2, 1538, 3) to three arrays (B, 2, 1538, 3)."""
    take = jax.vmap(lambda v, f: v[:, f], in_axes=(1, 0), out_axes=1)
    corners = take(vertices, faces)
    return corners[..., 0, :], corners[..., 1, :], corners[..., 2, :]


def edge_length(vertices: jax.Array, wanted: jax.Array, faces: jax.Array) -> jax.Array:
    """Mean absolute difference of edge lengths of each hand.

    Args:
      vertices: (B, 2, 778, 3) predicted.
      wanted: likewise.
      faces: (2, 1538, 3).

    Returns:
      (B, 2).
    """

    def lengths(points):
        a, b, c = _corners(points, faces)
        edges = jnp.stack([a - b, a - c, b - c], -2)
        return jnp.sqrt(jnp.sum(jnp.square(edges), -1) + EDGE_EPSILON)

    return jnp.abs(lengths(vertices) - lengths(wanted)).mean((2, 3))


def normal_consistency(vertices: jax.Array, wanted: jax.Array, faces: jax.Array) -> jax.Array:
    """Mean |cosine| between predicted edges and the labelled faces' normals, (B, 2)."""
    a, b, c = _corners(vertices, faces)
    edges = _unit(jnp.stack([b - a, c - a, c - b], -2))
    a, b, c = _corners(wanted, faces)
    normal = _unit(jnp.cross(_unit(b - a), _unit(c - a)))
    return jnp.abs(jnp.sum(edges * normal[..., None, :], -1)).mean((2, 3))


# --- Maps ---------------------------------------------------------------------------------------


def cross_entropy(
    logits: jax.Array, labels: jax.Array, known: jax.Array | None = None
) -> jax.Array:
    """Class-weighted mean cross-entropy of (B, H, W, 3) logits and (B, H, W) labels.

    The weights of the whole batch, on all devices that share it, normalise it. Pixels outside
    `known` (B, H, W) do not count.
    """
    weights = jnp.asarray(CLASS_WEIGHTS, logits.dtype)[labels]
    if known is not None:
        weights = jnp.where(known, weights, 0)
    log_likelihood = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], -1)[..., 0]
    total = across_devices(weights.sum())
    if known is not None:
        total = jnp.where(total > 0, total, 1)
    return -(weights * log_likelihood).sum() / total


def lovasz_softmax(
    scores: jax.Array, labels: jax.Array, known: jax.Array | None = None
) -> jax.Array:
    """Lovasz-softmax (Berman et al. 2018, algorithm 1) over the classes present in the batch.

    The released code feeds raw logits where the paper of the loss has probabilities. The pixels of
    all devices that share the batch are taken together.

    Args:
      scores: (B, H, W, K).
      labels: (B, H, W) class numbers.
      known: (B, H, W) bool, the pixels that count; None: all.

    Returns:
      The mean over present classes; zero when no pixel counts.
    """
    if known is None:
        known = jnp.ones(labels.shape, bool)
    scores, labels, known = across_devices((scores, labels, known), jax.lax.all_gather)
    classes = scores.shape[-1]
    flat, labels = scores.reshape(-1, classes), labels.reshape(-1)
    counts = known.reshape(-1, 1).astype(flat.dtype)
    truth = (labels[:, None] == jnp.arange(classes)).astype(flat.dtype) * counts
    errors = jnp.abs(truth - flat) * counts
    order = jnp.argsort(-jax.lax.stop_gradient(errors), axis=0)
    sorted_truth = jnp.take_along_axis(truth, order, 0)
    size = sorted_truth.sum(0)
    intersection = size - jnp.cumsum(sorted_truth, 0)
    others = jnp.take_along_axis(counts - truth, order, 0)
    union = jnp.maximum(size + jnp.cumsum(others, 0), 1)
    jaccard = 1 - intersection / union
    steps = jnp.diff(jaccard, axis=0, prepend=jnp.zeros_like(jaccard[:1]))
    per_class = jnp.sum(jnp.take_along_axis(errors, order, 0) * steps, 0)
    present = size > 0
    return jnp.where(present, per_class, 0).sum() / jnp.maximum(present.sum(), 1)


def map_distance(
    values: jax.Array,
    wanted: jax.Array,
    distance: Callable[[jax.Array], jax.Array] = smooth_l1,
    known: jax.Array | None = None,
) -> jax.Array:
    """Mean distance of two maps (B, H, W, C) over the pixels in `known` (B, H, W); None: all."""
    values = distance(values - wanted)
    if known is None:
        return values.mean()
    return mean_of_known(values.mean(-1).reshape(-1), known.reshape(-1))


# --- The table ----------------------------------------------------------------------------------


class Estimate(NamedTuple):
    """What terms of a stage compare: predicted and wanted, lengths in units of 0.15 m.

    Attributes:
      joints, vertices, joints_uv, vertices_uv: pairs of (B, 2, N, 3) or (B, 2, N, 2), those in
        space relative to the origin joint.
      offset: a pair of (B, 3).
      faces: (2, 1538, 3).
      distance: of coordinates, elementwise.
    """

    joints: tuple[jax.Array, jax.Array]
    vertices: tuple[jax.Array, jax.Array]
    joints_uv: tuple[jax.Array, jax.Array]
    vertices_uv: tuple[jax.Array, jax.Array]
    offset: tuple[jax.Array, jax.Array]
    faces: jax.Array
    distance: Callable[[jax.Array], jax.Array]

    def apart(self, name: str) -> jax.Array:
        """Mean distance of a pair's coordinates: (B, 2), of the offset (B,)."""
        found, wanted = getattr(self, name)
        return self.distance(found - wanted).mean((-2, -1) if found.ndim == 4 else -1)


class Maps(NamedTuple):
    """What terms of the 32x32 maps compare.

    Attributes:
      logits: (B, 32, 32, 3); labels: (B, 32, 32) int32, the classes.
      dense: (B, 32, 32, 3) predicted; wanted_dense: likewise.
      known: (B, 32, 32) bool, pixels with a label; None: all.
    """

    logits: jax.Array
    labels: jax.Array
    dense: jax.Array
    wanted_dense: jax.Array
    known: jax.Array | None


class Term(NamedTuple):
    """One term of the loss.

    Attributes:
      weight: in the released recipe; 0: not part of it.
      of: "hand": value (B, 2) of an `Estimate`, averaged over valid hands; "pair": value (B,) of
        one, averaged over examples with two valid hands; "maps": scalar of the `Maps`.
      value: the unweighted value.
    """

    weight: float
    of: str
    value: Callable[[Any], jax.Array]


TERMS: dict[str, Term] = {
    "segmentation": Term(0.1, "maps", lambda m: cross_entropy(m.logits, m.labels, m.known)),
    "lovasz": Term(0.1, "maps", lambda m: lovasz_softmax(m.logits, m.labels, m.known)),
    "segmentation_square": Term(0.0, "maps", lambda m: map_distance(
        m.logits, jax.nn.one_hot(m.labels, m.logits.shape[-1]), jnp.square, m.known)),
    "dense": Term(1.0, "maps", lambda m: map_distance(m.dense, m.wanted_dense, known=m.known)),
    "dense_square": Term(0.0, "maps", lambda m: map_distance(
        m.dense, m.wanted_dense, jnp.square, m.known)),
    "joints_xyz": Term(10.0, "hand", lambda e: e.apart("joints")),
    "vertices_xyz": Term(10.0, "hand", lambda e: e.apart("vertices")),
    "joints_uv": Term(10.0, "hand", lambda e: e.apart("joints_uv")),
    "vertices_uv": Term(10.0, "hand", lambda e: e.apart("vertices_uv")),
    "edge": Term(1.0, "hand", lambda e: edge_length(*e.vertices, e.faces)),
    "normal": Term(0.1, "hand", lambda e: normal_consistency(*e.vertices, e.faces)),
    "offset": Term(10.0, "pair", lambda e: e.apart("offset")),
}  # fmt: skip

LOSS_FIELDS: dict[str, Field] = {
    "distance": Field("smooth_l1", "of coordinates", choices=tuple(DISTANCES))
} | {name: Field(term.weight, "weight of this term; 0: left out") for name, term in TERMS.items()}
"""What each field of the loss may be and means, by name."""

RELEASED = {name: field.default for name, field in LOSS_FIELDS.items()}
RECIPES: dict[str, dict[str, Any]] = {
    "released": RELEASED,
    "paper": RELEASED
    | {"segmentation": 0.0, "lovasz": 0.0, "segmentation_square": 1.0}
    | {"dense": 0.0, "dense_square": 1.0},
}
"""Weights by term, and the distance of coordinates."""


def loss_config(recipe: str | Mapping[str, Any]) -> dict[str, Any]:
    """Every weight, and `distance`, from a recipe's name or fields over `recipe` (if named).

    Raises:
      ValueError: an unknown recipe, field or distance; a weight that is not a number from 0.
    """
    fields = {"recipe": recipe} if isinstance(recipe, str) else dict(recipe)
    name = fields.pop("recipe", "released")
    if name not in RECIPES:
        raise ValueError(f"loss recipe is {name!r}; wanted one of {', '.join(RECIPES)}")
    if unknown := sorted(set(fields) - set(RELEASED)):
        raise ValueError(f"unknown loss field {unknown[0]!r}; known: {', '.join(sorted(RELEASED))}")
    found = RECIPES[name] | fields
    for field, value in found.items():
        LOSS_FIELDS[field].check(f"loss.{field}", value)
    return found


def loss_terms(
    output: Output,
    targets: Targets,
    hands: HandPair,
    recipe: str | Mapping[str, Any] = "released",
    *,
    root_joint: int = 0,
) -> dict[str, jax.Array]:
    """Every weighted term; their sum is the loss.

    Terms of a hand are means over its valid instances in the batch, the offset's over the examples
    with two valid hands, those of the maps over the pixels whose label is known.

    Args:
      output: of the network.
      targets: of the same batch.
      hands: for the meshes' faces.
      recipe: "released", "paper", or a mapping of fields over a `recipe` (see `RECIPES`).
      root_joint: the joint on which the model centres its meshes.

    Returns:
      `joints_xyz_left_0` and so on by term, hand and stage; `offset_0` ..; `segmentation`,
      `lovasz`, `dense` ... Scalars; terms of weight 0 are left out.
    """
    weights = loss_config(recipe)
    distance = DISTANCES[weights.pop("distance")]
    weights = {name: weight for name, weight in weights.items() if weight}
    labels = targets.segmentation.astype(jnp.int32)
    maps = Maps(output.segmentation, labels, output.dense, targets.dense, targets.pixel_valid)
    terms = {
        name: weight * TERMS[name].value(maps)
        for name, weight in weights.items()
        if TERMS[name].of == "maps"
    }
    faces, valid = jnp.asarray(hands.stacked().faces), targets.hand_valid
    both = None if valid is None else valid.all(-1)
    for index, stage in enumerate(output.stages):
        estimate = _estimate(stage, targets, faces, distance, root_joint)
        for name, weight in weights.items():
            term = TERMS[name]
            if term.of == "pair":
                terms[f"{name}_{index}"] = weight * mean_of_known(term.value(estimate), both)
            elif term.of == "hand":
                values = weight * mean_of_known(term.value(estimate), valid)
                for side, value in zip(SIDES, values, strict=True):
                    terms[f"{name}_{side}_{index}"] = value
    return terms


def _estimate(stage: Stage, targets: Targets, faces, distance, root_joint: int) -> Estimate:
    root = targets.joints_xyz[:, :, root_joint, None]
    return Estimate(
        joints=(stage.joints_xyz / LENGTH_SCALE, (targets.joints_xyz - root) / LENGTH_SCALE),
        vertices=(stage.vertices_xyz / LENGTH_SCALE, (targets.vertices_xyz - root) / LENGTH_SCALE),
        joints_uv=(stage.joints_uv, targets.joints_uv),
        vertices_uv=(stage.vertices_uv, targets.vertices_uv),
        offset=(stage.offset, (root[:, 1, 0] - root[:, 0, 0]) / LENGTH_SCALE),
        faces=faces,
        distance=distance,
    )
