"""Rotations of any batch shape, with finite values and gradients everywhere.

Every function works in the dtype of its input and treats leading dimensions as batch. Where a
formula has a removable singularity (angle zero, parallel vectors), both branches of a `where` see
harmless numbers, so that forward- and reverse-mode derivatives stay finite too.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

_SERIES_BELOW = 1e-4
"""Squared angle under which power series replace quotients; their next term is below 1e-17."""

_ZERO_BELOW = 1e-16
"""Squared length under which a vector counts as zero."""

_compiled = functools.partial(jax.jit, inline=True)
"""One program for a call outside of any, instead of one an operation; nothing within another."""


def _sinc(squared: jax.Array) -> jax.Array:
    """sin(x) / x as a smooth function of x squared."""
    small = squared < _SERIES_BELOW
    x = jnp.sqrt(jnp.where(small, 1.0, squared))
    series = 1 - squared / 6 * (1 - squared / 20 * (1 - squared / 42))
    return jnp.where(small, series, jnp.sin(x) / x)


def _cross(a: jax.Array, b: jax.Array) -> jax.Array:
    """Cross product along the last axis; spelt out because it fuses better than `jnp.cross`."""
    ax, ay, az = a[..., 0], a[..., 1], a[..., 2]
    bx, by, bz = b[..., 0], b[..., 1], b[..., 2]
    return jnp.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-1)


def _normalise(
    vector: jax.Array, otherwise: jax.Array, zero_below: float = _ZERO_BELOW
) -> jax.Array:
    """`vector` at unit length, or `otherwise` (already of unit length) where it is zero."""
    squared = jnp.sum(vector * vector, axis=-1, keepdims=True)
    zero = squared < zero_below
    unit = jnp.where(zero, 0, vector) / jnp.sqrt(jnp.where(zero, 1, squared))
    return jnp.where(zero, otherwise, unit)


def _perpendicular(unit: jax.Array) -> jax.Array:
    """Some unit vector at right angles to a unit vector (no gradient flows through the choice)."""
    unit = jax.lax.stop_gradient(unit)
    axis = jax.nn.one_hot(jnp.argmin(jnp.abs(unit), axis=-1), 3, dtype=unit.dtype)
    across = _cross(unit, axis)
    return across / jnp.linalg.norm(across, axis=-1, keepdims=True)


def _rounding(like: jax.Array) -> float:
    """Squared length that the difference of two equal unit vectors may have by rounding."""
    return (32 * float(jnp.finfo(like.dtype).eps)) ** 2


def _unit_axis(like: jax.Array, axis: int) -> jax.Array:
    return jnp.broadcast_to(jnp.eye(3, dtype=like.dtype)[axis], like.shape)


def _cross_matrix(vector: jax.Array) -> jax.Array:
    """(..., 3) to (..., 3, 3): the matrix whose product with w is the cross product with w."""
    x, y, z = vector[..., 0], vector[..., 1], vector[..., 2]
    zero = jnp.zeros_like(x)
    cross = jnp.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1)
    return cross.reshape(*vector.shape, 3)


@_compiled
def matrix_from_axis_angle(axis_angle: jax.Array | np.ndarray) -> jax.Array:
    """Rotation matrices of rotation vectors (Rodrigues' formula), exact at zero and beyond pi.

    Args:
      axis_angle: (..., 3) unit axis times angle, radians.

    Returns:
      (..., 3, 3).
    """
    axis_angle = jnp.asarray(axis_angle)
    squared = jnp.sum(axis_angle * axis_angle, axis=-1)[..., None, None]
    sine = _sinc(squared)  # sin(a) / a
    versine = 0.5 * _sinc(squared / 4) ** 2  # (1 - cos(a)) / a^2, without cancellation
    cross = _cross_matrix(axis_angle)
    outer = axis_angle[..., :, None] * axis_angle[..., None, :]
    identity = jnp.eye(3, dtype=axis_angle.dtype)
    # K^2 = v v^T - |v|^2 I
    return identity + sine * cross + versine * (outer - squared * identity)


@_compiled
def matrix_from_axis_angle_manopth(axis_angle: jax.Array) -> jax.Array:
    """Rotation matrices as the manopth layer of the PyTorch reference computes them.

    It adds 1e-8 to every component before taking the angle, so its rotations are off by up to
    2e-8. For comparisons with the reference only: Adam divides by tiny gradients, and so turns
    this difference into a visible one within three optimiser steps.

    Args:
      axis_angle: (..., 3) unit axis times angle, radians.

    Returns:
      (..., 3, 3).
    """
    axis_angle = jnp.asarray(axis_angle)
    angle = jnp.linalg.norm(axis_angle + 1e-8, axis=-1, keepdims=True)
    real, imaginary = jnp.cos(angle / 2), jnp.sin(angle / 2) * axis_angle / angle
    length = jnp.sqrt(real**2 + jnp.sum(imaginary**2, axis=-1, keepdims=True))
    real, imaginary = real / length, imaginary / length
    cross = _cross_matrix(imaginary)
    return jnp.eye(3, dtype=axis_angle.dtype) + 2 * (real[..., None] * cross + cross @ cross)


def _columns(x: jax.Array, y: jax.Array, z: jax.Array) -> jax.Array:
    return jnp.stack([x, y, z], axis=-1)


@_compiled
def matrix_from_6d(sixd: jax.Array | np.ndarray) -> jax.Array:
    """Rotation whose first column is along the first vector (Gram-Schmidt; Zhou et al. 2019).

    Zero or parallel vectors still give a rotation, with finite gradients.

    Args:
      sixd: (..., 6) two vectors, one after the other.

    Returns:
      (..., 3, 3).
    """
    sixd = jnp.asarray(sixd)
    x = _normalise(sixd[..., :3], _unit_axis(sixd[..., :3], 0))
    second = _normalise(sixd[..., 3:], x)
    along = jnp.sum(x * second, axis=-1, keepdims=True) * x
    y = _normalise(second - along, _perpendicular(x), _rounding(x))
    return _columns(x, y, _cross(x, y))


@_compiled
def matrix_from_6d_robust(sixd: jax.Array | np.ndarray) -> jax.Array:
    """Rotation that treats both vectors alike, as DIR's root rotation (manopth's robust form).

    The unit vectors' sum and difference are perpendicular; the columns x and y lie at 45 degrees
    between them. Zero, equal or opposite vectors still give a rotation, with finite gradients.

    Args:
      sixd: (..., 6) two vectors, one after the other.

    Returns:
      (..., 3, 3).
    """
    sixd = jnp.asarray(sixd)
    x = _normalise(sixd[..., :3], _unit_axis(sixd[..., :3], 0))
    y = _normalise(sixd[..., 3:], _unit_axis(sixd[..., 3:], 1))
    across = _perpendicular(x)
    middle = _normalise(x + y, across, _rounding(x))
    orthogonal = _normalise(x - y, across, _rounding(x))
    x = _normalise(middle + orthogonal, x)
    y = _normalise(middle - orthogonal, y)
    return _columns(x, y, _normalise(_cross(x, y), x))
