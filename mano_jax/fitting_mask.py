"""How far a projected hand is from its mask: what lies outside, and what it leaves uncovered."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mano_jax import constants

CELLS = 64
"""Side of the grid on which a mask is kept."""

_COVERED = 128
"""Places of the mask that the hand should cover."""

POINTS = np.arange(0, constants.VERTICES, 6)
"""Vertices compared with the mask."""


class MaskMaps(NamedTuple):
    """A mask, prepared; an empty one pulls at nothing.

    Attributes:
      outside: (64, 64) pixels from the mask, 0 inside, over the whole image.
      cell: (2,) width and height of its cells, pixels.
      places: (128, 2) pixels inside the mask.
      reach: () pixels that a point covers around itself.
    """

    outside: jax.Array
    cell: jax.Array
    places: jax.Array
    reach: jax.Array


def mask_maps(mask: np.ndarray) -> MaskMaps:
    """Prepares a mask.

    Args:
      mask: (height, width) bool.
    """
    height, width = mask.shape
    centres = (np.arange(CELLS) + 0.5) / CELLS
    coarse = mask[(centres * height).astype(int)[:, None], (centres * width).astype(int)]
    cell = np.array([width, height]) / CELLS
    rows, columns = np.nonzero(coarse)
    if len(rows) == 0:
        nothing = np.zeros(coarse.shape)
        return MaskMaps(nothing, cell, np.zeros((_COVERED, 2)), np.array(np.inf))
    apart = np.square(np.arange(CELLS)[:, None] - np.arange(CELLS))
    along = np.where(coarse[:, None, :], apart * cell[0] ** 2, np.inf).min(axis=-1)
    squared = (apart[:, :, None] * cell[1] ** 2 + along[None]).min(axis=1)
    chosen = np.linspace(0, len(rows) - 1, _COVERED).round().astype(int)
    places = (np.stack([columns, rows], axis=-1)[chosen] + 0.5) * cell
    # Half of the points are on the far side; the others share the mask's area.
    reach = np.sqrt(len(rows) * cell.prod() / (len(POINTS) / 2))
    return MaskMaps(np.sqrt(squared), cell, places, reach)


def _sample(outside: jax.Array, cell: jax.Array, px: jax.Array) -> jax.Array:
    """Bilinear values (P,) at pixels (P, 2); beyond the image its edge's."""
    inside = jnp.clip(px / cell - 0.5, 0, CELLS - 1.001)
    low = jnp.floor(jax.lax.stop_gradient(inside)).astype(jnp.int32)
    x, y = (inside - low).T
    column, row = low.T
    top = outside[row, column] * (1 - x) + outside[row, column + 1] * x
    bottom = outside[row + 1, column] * (1 - x) + outside[row + 1, column + 1] * x
    return top * (1 - y) + bottom * y


def compare_with_mask(mask: MaskMaps, px: jax.Array) -> dict[str, jax.Array]:
    """Distances in pixels of the hand's projected points (P, 2) from the mask, and back.

    Returns:
      outside (P, 1), how far each point is from the mask; uncovered (128, 2), what separates each
      place of the mask from what its nearest point covers.
    """
    nearest = jnp.argmin(jnp.sum((mask.places[:, None] - px) ** 2, axis=-1), axis=-1)
    away = px[nearest] - mask.places
    squared = jnp.sum(away**2, axis=-1, keepdims=True)
    beyond = squared > mask.reach**2
    share = jnp.where(beyond, 1 - mask.reach / jnp.sqrt(jnp.where(beyond, squared, 1)), 0)
    return {"outside": _sample(mask.outside, mask.cell, px)[:, None], "uncovered": away * share}
