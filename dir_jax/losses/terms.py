"""Training losses (docs/method.md, "Losses"), pure functions of the output and the targets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from dir_jax.losses.maps import cross_entropy, dense_loss, lovasz_softmax
from dir_jax.losses.means import THRESHOLD, mean_of_known, smooth_l1
from dir_jax.models.types import LENGTH_SCALE, Output, Stage, Targets
from mano_jax import HandPair
from mano_jax.constants import SIDES

EDGE_EPSILON = 1e-12
UNIT_EPSILON = 1e-12


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights and forms of the terms.

    Attributes:
      coordinates: weight of joints, vertices and the offset, in space and in the image.
      edge: weight of edge lengths.
      normal: weight of normal consistency.
      distance: "smooth_l1", or "l1" with the same slope at large errors (ablation).
      auxiliary: "released": weighted cross-entropy, Lovasz-softmax and smooth L1; "paper": mean
        square error of both maps.
      segmentation: weight of cross-entropy and of Lovasz-softmax (or of the square error).
      dense: weight of the dense map.
    """

    coordinates: float = 10.0
    edge: float = 1.0
    normal: float = 0.1
    distance: str = "smooth_l1"
    auxiliary: str = "released"
    segmentation: float = 0.1
    dense: float = 1.0

    def __post_init__(self):
        if self.distance not in ("smooth_l1", "l1"):
            raise ValueError(f"loss.distance is {self.distance!r}; wanted smooth_l1 or l1")
        if self.auxiliary not in ("released", "paper"):
            raise ValueError(f"loss.auxiliary is {self.auxiliary!r}; wanted released or paper")


RECIPES = {
    "released": LossConfig(),
    "paper": LossConfig(auxiliary="paper", segmentation=1.0),
}


def loss_config(recipe: str | LossConfig | Mapping[str, Any]) -> LossConfig:
    """A `LossConfig` from a recipe's name or a mapping of fields over `recipe` (if named)."""
    if isinstance(recipe, LossConfig):
        return recipe
    fields = {"recipe": recipe} if isinstance(recipe, str) else dict(recipe)
    name = fields.pop("recipe", "released")
    if name not in RECIPES:
        raise ValueError(f"loss recipe is {name!r}; wanted one of {', '.join(RECIPES)}")
    known = {field.name for field in dataclasses.fields(LossConfig)}
    if unknown := sorted(set(fields) - known):
        raise ValueError(f"unknown loss field {unknown[0]!r}; known: {', '.join(sorted(known))}")
    return dataclasses.replace(RECIPES[name], **fields)


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


def _stage_terms(stage: Stage, targets: Targets, faces, config: LossConfig, root_joint: int):
    """Name to (B, 2) per hand, unweighted; `offset` to (B,)."""
    distance = smooth_l1
    if config.distance == "l1":

        def distance(difference):
            return THRESHOLD * jnp.abs(difference)

    root = targets.joints_xyz[:, :, root_joint, None]
    wanted_joints = (targets.joints_xyz - root) / LENGTH_SCALE
    wanted_vertices = (targets.vertices_xyz - root) / LENGTH_SCALE
    joints, vertices = stage.joints_xyz / LENGTH_SCALE, stage.vertices_xyz / LENGTH_SCALE
    wanted_offset = (root[:, 1, 0] - root[:, 0, 0]) / LENGTH_SCALE
    per_hand = (2, 3)
    return {
        "joints_xyz": distance(joints - wanted_joints).mean(per_hand),
        "vertices_xyz": distance(vertices - wanted_vertices).mean(per_hand),
        "joints_uv": distance(stage.joints_uv - targets.joints_uv).mean(per_hand),
        "vertices_uv": distance(stage.vertices_uv - targets.vertices_uv).mean(per_hand),
        "edge": edge_length(vertices, wanted_vertices, faces),
        "normal": normal_consistency(vertices, wanted_vertices, faces),
        "offset": distance(stage.offset - wanted_offset).mean(-1),
    }


def _auxiliary_terms(output: Output, targets: Targets, config: LossConfig):
    labels, known = targets.segmentation.astype(jnp.int32), targets.pixel_valid
    if config.auxiliary == "paper":
        truth = jax.nn.one_hot(labels, output.segmentation.shape[-1])
        pairs = {
            "segmentation": (output.segmentation, truth),
            "dense": (output.dense, targets.dense),
        }
        return {
            name: getattr(config, name) * dense_loss(*pair, jnp.square, known)
            for name, pair in pairs.items()
        }
    logits = output.segmentation
    dense = dense_loss(output.dense, targets.dense, smooth_l1, known)
    return {
        "segmentation": config.segmentation * cross_entropy(logits, labels, known),
        "lovasz": config.segmentation * lovasz_softmax(logits, labels, known),
        "dense": config.dense * dense,
    }


def loss_terms(
    output: Output,
    targets: Targets,
    hands: HandPair,
    recipe: str | LossConfig | Mapping[str, Any] = "released",
    *,
    root_joint: int = 0,
) -> dict[str, jax.Array]:
    """Every weighted term; their sum is the loss.

    Terms of a hand are means over its valid instances in the batch, the offset's over the examples
    with two valid hands, those of the maps over the pixels whose label is known. Of a batch spread
    over devices, the terms' mean over the devices, and that of their gradients, are those of the
    whole batch.

    Args:
      output: of the network.
      targets: of the same batch.
      hands: for the meshes' faces.
      recipe: "released", "paper", a `LossConfig`, or a mapping of its fields over a `recipe`.
      root_joint: the joint on which the model centres its meshes.

    Returns:
      `joints_xyz_left_0` and so on by term, hand and stage; `offset_0` ..; `segmentation`,
      `lovasz` (released only) and `dense`. Scalars.
    """
    config = loss_config(recipe)
    faces = jnp.asarray(hands.stacked().faces)
    weights = {"edge": config.edge, "normal": config.normal}
    terms = _auxiliary_terms(output, targets, config)
    valid = targets.hand_valid
    both = None if valid is None else valid.all(-1)
    for index, stage in enumerate(output.stages):
        values = _stage_terms(stage, targets, faces, config, root_joint)
        for name, value in values.items():
            weight = weights.get(name, config.coordinates)
            if name == "offset":
                terms[f"{name}_{index}"] = weight * mean_of_known(value, both)
                continue
            value = weight * mean_of_known(value, valid)
            for side, per_hand in zip(SIDES, value, strict=True):
                terms[f"{name}_{side}_{index}"] = per_hand
    return terms
