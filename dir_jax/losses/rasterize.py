"""Which triangle every cell of a small map sees: a z-buffer in JAX, for labels made on the device.

Each cell is tested against every triangle (brute force): at 32x32 and 3076 triangles that is three
million tests an image, a thousandth of the network's arithmetic, without sorting or indexing.
Nothing here carries gradients.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

CHUNK = 128
"""Triangles tested at a time; bounds the memory to side^2 * CHUNK numbers an image."""

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
    padded = -(-faces.shape[0] // CHUNK) * CHUNK
    extra = padded - faces.shape[0]
    padded_faces = jnp.pad(faces, ((0, extra), (0, 0)))
    padded_shown = jnp.pad(shown, ((0, 0), (0, extra)))
    centres = (2.0 * jnp.arange(size, dtype=vertices_uv.dtype) + 1.0) / size - 1.0
    cells = jnp.stack(jnp.meshgrid(centres, centres), axis=-1).reshape(-1, 2)

    def one_image(vertices_uv, depth, shown):
        corners, corner_depth = vertices_uv[padded_faces], depth[padded_faces]
        seen = _z_buffer(corners, corner_depth, shown, cells)
        weights = _weights(corners[seen], corner_depth[seen], cells)
        weights = jnp.where(seen[:, None] >= 0, weights, 0.0)
        return seen.reshape(size, size), weights.reshape(size, size, 3)

    return Visible(*jax.vmap(one_image)(vertices_uv, depth, padded_shown))


def _edge_functions(corners: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Gradients (..., 2, 2) of the first two barycentric weights, and the doubled area (...)."""
    first, second, third = corners[..., 0, :], corners[..., 1, :], corners[..., 2, :]
    a, b = first - third, second - third
    area = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    rows = jnp.stack([b[..., 1], -b[..., 0], -a[..., 1], a[..., 0]], axis=-1)
    safe = jnp.where(jnp.abs(area) > _MIN_AREA, area, 1.0)
    return (rows / safe[..., None]).reshape(*area.shape, 2, 2), area


def _z_buffer(
    corners: jax.Array, corner_depth: jax.Array, shown: jax.Array, cells: jax.Array
) -> jax.Array:
    """Number (C,) of the nearest of triangles (F, 3, 2) at cells (C, 2), or -1."""
    gradients, area = _edge_functions(corners)
    shown = shown & (jnp.abs(area) > _MIN_AREA) & (corner_depth.min(axis=-1) > NEAR)
    # Weights as linear functions of the cell: few operations in the one loop that takes time.
    constants = -jnp.sum(gradients * corners[:, 2, None], axis=-1)[..., None]
    # On the image, 1 / depth is linear within a triangle.
    nearness = jnp.where(shown[:, None], 1.0 / jnp.maximum(corner_depth, NEAR), 0.0)

    def test(best, chunk):
        numbers, gradients, constants, nearness = chunk
        first, second = (
            gradients[:, k, :1] * cells[:, 0]
            + (gradients[:, k, 1:] * cells[:, 1] + constants[:, k])
            for k in range(2)
        )
        inside = jnp.minimum(jnp.minimum(first, second), 1.0 - first - second) >= 0
        third = nearness[:, 2:]
        value = third + first * (nearness[:, :1] - third) + second * (nearness[:, 1:2] - third)
        value = jnp.where(inside, value, 0.0)
        nearest = value.max(axis=0)
        number = jnp.where(value == nearest, numbers[:, None], jnp.iinfo(jnp.int32).max)
        better = nearest > best[0]
        seen = jnp.where(better, number.min(axis=0), best[1])
        return (jnp.maximum(best[0], nearest), seen), None

    count = cells.shape[0]
    start = (jnp.zeros(count, corners.dtype), jnp.full(count, -1, jnp.int32))
    numbers = jnp.arange(corners.shape[0], dtype=jnp.int32)
    chunks = jax.tree.map(
        lambda x: x.reshape(-1, CHUNK, *x.shape[1:]),
        (numbers, gradients, constants, nearness),
    )
    (_, seen), _ = jax.lax.scan(test, start, chunks)
    return seen


def _weights(corners: jax.Array, corner_depth: jax.Array, cells: jax.Array) -> jax.Array:
    """Perspective-correct weights (C, 3) of cells (C, 2) in one triangle (C, 3, 2) each."""
    gradients, _ = _edge_functions(corners)
    step = (cells - corners[:, 2])[:, None]
    flat = jnp.sum(gradients * step, axis=-1)
    flat = jnp.concatenate([flat, 1.0 - flat.sum(axis=-1, keepdims=True)], axis=-1)
    weights = flat / jnp.maximum(corner_depth, NEAR)
    return weights / weights.sum(axis=-1, keepdims=True)
