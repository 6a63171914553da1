"""Which triangle every cell of a small map sees: a z-buffer in JAX, for labels made on the device.

A hand's triangles are small: most span a cell or two of 32x32. Each is tested against the few cells
of a window at its corner, which scatters the nearest into the map; the rare larger ones are tested
against every cell. Nothing here carries gradients.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

WINDOW = 3
"""Cells along the window of a small triangle."""

CHUNK = 128
"""Larger triangles tested at a time; bounds the memory to side^2 * CHUNK numbers an image."""

_EDGE = 1e-3
"""Of a cell: room for rounding where a window begins and ends."""

NEAR = 1e-3
"""Metres: triangles with a vertex nearer than this, or behind the camera, are left out."""

_MIN_AREA = 1e-12


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

    order = jnp.argsort(~large)  # stable: large ones first
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
