"""Labels of a batch, made on the device from hand parameters.

The data pipeline sends parameters and one matrix per example, not meshes or drawn maps: posing two
hands and drawing 32x32 maps costs a GPU next to nothing, and would cost the host several times the
rest of its work.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dir_jax.models.types import (
    IMAGE_SIZE,
    MAP_SIZE,
    SEGMENTATION_CLASSES,
    Targets,
)
from mano_jax import HandPair, pose_hand, tip_indices
from mano_jax.constants import FACES, SIDES, VERTICES

WINDOW = 3
"""Cells along the window of a small triangle."""

CHUNK = 128
"""Larger triangles tested at a time; bounds the memory to side^2 * CHUNK numbers an image."""

_EDGE = 1e-3
"""Of a cell: room for rounding where a window begins and ends."""

NEAR = 1e-3
"""Metres: triangles with a vertex nearer than this, or behind the camera, are left out."""

_MIN_AREA = 1e-12

# --- Meshes -------------------------------------------------------------------------------------


def pose_batch(batch: Mapping[str, jax.Array], hands: HandPair, tips: str = "intaghand"):
    """Meshes of a batch in the stored photograph's camera, before augmentation.

    Args:
      batch: global_orient (B, 2, 3, 3), hand_pose (B, 2, 15, 3), betas (B, 2, 10), transl
        (B, 2, 3); hands in the order left, right.
      hands: the hand models.
      tips: convention of the fingertips.

    Returns:
      `mano_jax.HandMesh` of vertices (B, 2, 778, 3) and joints (B, 2, 21, 3), metres.
    """
    pose = jax.vmap(
        lambda hand, tip, *parameters: pose_hand(hand, *parameters, tips=tip),
        in_axes=(0, 0, 1, 1, 1, 1),
        out_axes=1,
    )
    names = ("global_orient", "hand_pose", "betas", "transl")
    return pose(hands.stacked(), tip_indices("both", tips), *(batch[name] for name in names))


def project(camera: jax.Array, points_xyz: jax.Array) -> jax.Array:
    """Pinhole projection to uv.

    Args:
      camera: (B, 3, 3) intrinsics of the crop, pixels.
      points_xyz: (B, ..., 3) metres, camera axes.

    Returns:
      (B, ..., 2) in [-1, 1] over the crop. Points at or behind the camera plane give finite
      numbers without meaning.
    """
    homogeneous = _apply(camera, points_xyz)
    pixels = homogeneous[..., :2] / jnp.maximum(homogeneous[..., 2:], NEAR)
    return pixels * (2.0 / IMAGE_SIZE) - 1.0


def _apply(matrices: jax.Array, points: jax.Array) -> jax.Array:
    # Full precision: TF32 would move points by a pixel.
    return jnp.einsum("bij,b...j->b...i", matrices, points, precision=jax.lax.Precision.HIGHEST)


# --- Which triangle every cell of a small map sees: a z-buffer ----------------------------------
#
# A hand's triangles are small: most span a cell or two of 32x32. Each is tested against the few
# cells of a window at its corner, which scatters the nearest into the map; the rare larger ones are
# tested against every cell. Nothing of it carries gradients.


class Visible(NamedTuple):
    """What the cells of a map see.

    Attributes:
      face: (B, S, S) int32 number of the nearest triangle, -1 where there is none.
      weights: (B, S, S, 3) perspective-correct barycentric weights of its corners, 0 for none.
    """

    face: jax.Array
    weights: jax.Array


def nearest_faces(
    vertices_uv: jax.Array, depth: jax.Array, faces: jax.Array, shown: jax.Array, size: int
) -> Visible:
    """Finds the nearest triangle at the centre of every cell, whichever way triangles wind.

    Args:
      vertices_uv: (B, N, 2) projected vertices in [-1, 1] over the map.
      depth: (B, N) metres in front of the camera.
      faces: (F, 3) vertex numbers, the same for the batch.
      shown: (B, F) bool; False hides a triangle.
      size: side S of the map.

    Returns:
      `Visible`. Of triangles at exactly the same depth the first is seen.
    """
    vertices_uv, depth = jax.lax.stop_gradient((vertices_uv, depth))
    faces = jnp.asarray(faces, jnp.int32)

    def one_image(vertices_uv, depth, shown):
        corners, corner_depth = vertices_uv[faces], depth[faces]
        seen = _z_buffer(corners, corner_depth, shown, size)
        weights = _weights(corners[seen], corner_depth[seen], _centres(size))
        weights = jnp.where(seen[:, None] >= 0, weights, 0.0)
        return seen.reshape(size, size), weights.reshape(size, size, 3)

    return Visible(*jax.vmap(one_image)(vertices_uv, depth, shown))


def _centres(size: int) -> np.ndarray:
    """(S^2, 2) centres of the cells in [-1, 1], row by row."""
    centres = (2.0 * np.arange(size, dtype=np.float32) + 1.0) / size - 1.0
    return np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)


def _edge_functions(corners: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Gradients (..., 2, 2) of the first two barycentric weights, and the doubled area (...)."""
    first, second, third = corners[..., 0, :], corners[..., 1, :], corners[..., 2, :]
    a, b = first - third, second - third
    area = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    rows = jnp.stack([b[..., 1], -b[..., 0], -a[..., 1], a[..., 0]], axis=-1)
    safe = jnp.where(jnp.abs(area) > _MIN_AREA, area, 1.0)
    return (rows / safe[..., None]).reshape(*area.shape, 2, 2), area


def _z_buffer(
    corners: jax.Array, corner_depth: jax.Array, shown: jax.Array, size: int
) -> jax.Array:
    """Number (S^2,) of the nearest of triangles (F, 3, 2) at every cell, or -1."""
    cells = jnp.asarray(_centres(size), corners.dtype)
    gradients, area = _edge_functions(corners)
    shown = shown & (jnp.abs(area) > _MIN_AREA) & (corner_depth.min(axis=-1) > NEAR)
    # Weights as linear functions of the cell: few operations for every test.
    constants = -jnp.sum(gradients * corners[:, 2, None], axis=-1)
    # On the image, 1 / depth is linear within a triangle.
    nearness = 1.0 / jnp.maximum(corner_depth, NEAR)

    def test(chosen, points):
        """Nearness of triangles (K,) at points (K or 1, C, 2); 0 outside."""
        gradient, constant, near = gradients[chosen], constants[chosen], nearness[chosen]
        first, second = (
            gradient[:, k, :1] * points[..., 0]
            + (gradient[:, k, 1:] * points[..., 1] + constant[:, k, None])
            for k in range(2)
        )
        inside = jnp.minimum(jnp.minimum(first, second), 1.0 - first - second) >= 0
        third = near[:, 2:]
        value = third + first * (near[:, :1] - third) + second * (near[:, 1:2] - third)
        return jnp.where(inside & shown[chosen, None], value, 0.0)

    number = jnp.arange(corners.shape[0], dtype=jnp.int32)
    none = jnp.iinfo(jnp.int32).max
    places = (corners + 1.0) * (size / 2) - 0.5  # cell k has its centre at k
    low = jnp.clip(jnp.ceil(places.min(axis=1) - _EDGE), 0, size)
    high = jnp.clip(jnp.floor(places.max(axis=1) + _EDGE), -1, size - 1)
    large = shown & (high - low >= WINDOW).any(axis=-1)

    order = jnp.argsort(~large).astype(jnp.int32)  # stable: large ones first
    order = jnp.pad(order, (0, -order.size % CHUNK), mode="edge")

    def test_large(state):
        start, best, seen = state
        chosen = jax.lax.dynamic_slice(order, (start,), (CHUNK,))
        value = test(chosen, cells[None])
        nearest = value.max(axis=0)
        found = jnp.where(value == nearest, chosen[:, None], none).min(axis=0)
        seen = jnp.where(nearest > best, found, seen)
        return start + CHUNK, jnp.maximum(best, nearest), seen

    start = (0, jnp.zeros(len(cells), corners.dtype), jnp.full(len(cells), none, jnp.int32))
    _, best, seen = jax.lax.while_loop(lambda state: state[0] < large.sum(), test_large, start)

    window = np.stack(np.meshgrid(*[np.arange(WINDOW)] * 2), axis=-1).reshape(-1, 2)
    cell = low.astype(jnp.int32)[:, None] + window
    inside = (cell < size).all(axis=-1)
    cell = jnp.where(inside, cell[..., 1] * size + cell[..., 0], 0)
    value = jnp.where(inside, test(number, cells[cell]), 0.0)
    nearest = best.at[cell].max(value)
    found = jnp.where((value > 0) & (value == nearest[cell]), number[:, None], none)
    seen = jnp.where(nearest > best, none, seen).at[cell].min(found)
    return jnp.where(nearest > 0, seen, -1)


def _weights(corners: jax.Array, corner_depth: jax.Array, cells: jax.Array) -> jax.Array:
    """Perspective-correct weights (C, 3) of cells (C, 2) in one triangle (C, 3, 2) each."""
    gradients, _ = _edge_functions(corners)
    step = (cells - corners[:, 2])[:, None]
    flat = jnp.sum(gradients * step, axis=-1)
    flat = jnp.concatenate([flat, 1.0 - flat.sum(axis=-1, keepdims=True)], axis=-1)
    weights = flat / jnp.maximum(corner_depth, NEAR)
    return weights / weights.sum(axis=-1, keepdims=True)


# --- Labels -------------------------------------------------------------------------------------


def dense_colours(hands: HandPair) -> np.ndarray:
    """Colours (778, 3) in [0, 1] that name the places on a hand, the same for both hands.

    They are the right hand's template coordinates, each axis stretched to [0, 1]; a left hand's
    vertex has the colour of the right hand's vertex of the same number, its mirror image, so that
    a mirrored picture keeps its colours. (The released code takes such a table from IntagHand's
    `v_color.pkl`, which is not free to ship.)
    """
    template = np.asarray(hands.right.v_template)
    low, high = template.min(axis=0), template.max(axis=0)
    return (template - low) / (high - low)


def label_maps(
    vertices_uv: jax.Array,
    depth: jax.Array,
    hand_valid: jax.Array,
    hands: HandPair,
    colours: np.ndarray,
    size: int = MAP_SIZE,
) -> tuple[jax.Array, jax.Array]:
    """Draws both hands' label maps, sampled at the cells' centres.

    Args:
      vertices_uv: (B, 2, 778, 2) projected vertices of the left and right model.
      depth: (B, 2, 778) metres.
      hand_valid: (B, 2) bool; a hand without parameters is not drawn.
      hands: for the triangles.
      colours: (778, 3) correspondence colours of either hand.
      size: side of the maps.

    Returns:
      which: (B, S, S) int32, 0 where no hand is seen, 1 the left model, 2 the right one.
      dense: (B, S, S, 3) colours, 0 where no hand is seen.
    """
    batch = depth.shape[0]
    faces = np.concatenate([hands["left"].faces, hands["right"].faces + VERTICES])
    visible = nearest_faces(
        vertices_uv.reshape(batch, -1, 2),
        depth.reshape(batch, -1),
        faces,
        jnp.repeat(hand_valid, FACES, axis=1),
        size,
    )
    which = jnp.where(visible.face < 0, 0, 1 + visible.face // FACES)
    both = jnp.asarray(np.concatenate([colours, colours]), vertices_uv.dtype)
    corner_colours = both[jnp.asarray(faces)[visible.face]]
    return which, jnp.sum(visible.weights[..., None] * corner_colours, axis=-2)


def targets_from_batch(
    batch: Mapping[str, jax.Array],
    hands: HandPair,
    tips: str = "intaghand",
    colours: np.ndarray | None = None,
) -> Targets:
    """Labels of a batch; call it inside `jit` with `hands` fixed.

    Poses both hands, moves them as the image was moved (`motion`), swaps them where the image was
    mirrored, projects them, and draws the 32x32 maps at the centres of the cells. (The released
    code takes the nearest corner pixel for the segmentation, which lies 3.5 pixels off.)

    Args:
      batch: as from `input_pipeline.batches`: parameters, motion, flip, camera, hand_valid, and
        joint_valid where there are annotated joints.
      hands: the hand models.
      tips: convention of the fingertips among the label joints; the released code trains with
        IntagHand's.
      colours: (778, 3) correspondence colours; `dense_colours(hands)` when None.

    Returns:
      `Targets`; segmentation in the class order of `SEGMENTATION_CLASSES`. Of a hand without
      parameters only zeros are known (`hand_valid`); if its annotated joints say that it is in the
      photograph all the same, what is not the other hand may be this one (`pixel_valid`).
    """
    batch = {name: jnp.asarray(value) for name, value in batch.items()}
    mesh = pose_batch(batch, hands, tips)
    vertices_xyz = _apply(batch["motion"], mesh.vertices)
    joints_xyz = _apply(batch["motion"], mesh.joints)
    vertices_uv = project(batch["camera"], vertices_xyz)
    joints_uv = project(batch["camera"], joints_xyz)
    colours = dense_colours(hands) if colours is None else colours
    which, dense = label_maps(
        vertices_uv, vertices_xyz[..., 2], batch["hand_valid"], hands, colours
    )

    flip, hand_valid = batch["flip"], batch["hand_valid"]
    classes = jnp.array([0, *(SEGMENTATION_CLASSES.index(side) for side in SIDES)], jnp.int32)
    # A mirrored left hand is a right hand.
    which = jnp.where(flip[:, None, None] & (which > 0), 3 - which, which)
    swap = flip[:, None, None, None]
    joints_xyz, vertices_xyz, joints_uv, vertices_uv = (
        jnp.where(swap, labels[:, ::-1], labels)
        for labels in (joints_xyz, vertices_xyz, joints_uv, vertices_uv)
    )
    return Targets(
        joints_xyz=joints_xyz,
        vertices_xyz=vertices_xyz,
        joints_uv=joints_uv,
        vertices_uv=vertices_uv,
        segmentation=classes[which],
        dense=dense,
        hand_valid=jnp.where(flip[:, None], hand_valid[:, ::-1], hand_valid),
        pixel_valid=_pixel_valid(which, hand_valid, batch.get("joint_valid")),
    )


def _pixel_valid(which, hand_valid, joint_valid):
    """Cells (B, S, S) whose label is known: all, unless a hand was seen but has no parameters."""
    if joint_valid is None:
        return None
    unknown = (joint_valid.any(axis=-1) & ~hand_valid).any(axis=-1)
    return (which > 0) | ~unknown[:, None, None]
