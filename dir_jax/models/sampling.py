"""Reading feature maps at joints: bilinear, half-pixel centres, zero outside the map.

docs/method.md, "Joint features". Each function takes maps (B, S, S, C) and points uv (B, N, 2) in
[-1, 1], where -1 and 1 are the map's outer edges, and gives (B, N, C), the same values. The points
come without gradient.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def _positions(uv: jax.Array, size: int) -> jax.Array:
    """uv in [-1, 1] to pixel indices; the centre of pixel i is at i."""
    return (uv + 1) / 2 * size - 0.5


def sample_gather(features: jax.Array, uv: jax.Array) -> jax.Array:
    """Gathers each point's four neighbours: the fewest operations, and what GPUs do well."""
    batch, size, _, channels = features.shape
    position = _positions(uv, size)
    corner = jnp.floor(position)
    fraction = position - corner
    flat = features.reshape(batch, size * size, channels)
    total = jnp.zeros((*uv.shape[:-1], channels), features.dtype)
    for dy in (0, 1):
        for dx in (0, 1):
            x, y = corner[..., 0] + dx, corner[..., 1] + dy
            inside = (x >= 0) & (x < size) & (y >= 0) & (y < size)
            index = jnp.clip(y, 0, size - 1) * size + jnp.clip(x, 0, size - 1)
            values = jnp.take_along_axis(flat, index.astype(jnp.int32)[..., None], axis=1)
            weight_x = fraction[..., 0] if dx else 1 - fraction[..., 0]
            weight_y = fraction[..., 1] if dy else 1 - fraction[..., 1]
            weight = jnp.where(inside, weight_x * weight_y, 0).astype(features.dtype)
            total = total + values * weight[..., None]
    return total


def sample_onehot_matmul(features: jax.Array, uv: jax.Array) -> jax.Array:
    """Two matrix products with hat-shaped rows: no indexed memory access at all."""
    size = features.shape[1]
    distance = _positions(uv, size)[..., None] - jnp.arange(size, dtype=uv.dtype)
    hats = jnp.maximum(0, 1 - jnp.abs(distance)).astype(features.dtype)  # (B, N, 2, S)
    rows = jnp.einsum("bny,byxc->bnxc", hats[:, :, 1], features)
    return jnp.einsum("bnx,bnxc->bnc", hats[:, :, 0], rows)


def sample_map_coordinates(features: jax.Array, uv: jax.Array) -> jax.Array:
    """`jax.scipy.ndimage.map_coordinates` over every channel: the library's own form."""
    position = _positions(uv, features.shape[1]).astype(features.dtype)

    def one_channel(image, points):  # (S, S), (N, 2)
        coordinates = [points[:, 1], points[:, 0]]
        return jax.scipy.ndimage.map_coordinates(image, coordinates, order=1, mode="constant")

    over_channels = jax.vmap(one_channel, in_axes=(2, None), out_axes=1)
    return jax.vmap(over_channels)(features, position)
