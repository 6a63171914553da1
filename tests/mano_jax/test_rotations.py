"""Rotations against scipy, and their derivatives where formulas divide by zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import mano_jax

BATCHES = pytest.mark.parametrize("batch", [(), (1,), (4,), (3, 1, 2)])
AXIS = np.array([0.48, -0.6, 0.64])
ANGLES = np.array(
    [0.0, 1e-12, 1e-7, 5e-3, 0.0099, 0.0101, 1.0, 3.0, np.pi - 1e-7, np.pi, np.pi + 1e-3, 6.0, 8.0]
)


def _jacobians(function, inputs):
    """Of one vector function at many points: forward mode, reverse mode and central differences."""
    forward = jax.jit(jax.vmap(jax.jacfwd(function)))(inputs)
    reverse = jax.jit(jax.vmap(jax.jacrev(function)))(inputs)
    size, step = inputs[0].size, 1e-6
    steps = step * np.eye(size).reshape(size, *inputs.shape[1:])
    moved = jax.jit(jax.vmap(jax.vmap(function)))
    numerical = (moved(inputs[:, None] + steps) - moved(inputs[:, None] - steps)) / (2 * step)
    numerical = np.moveaxis(numerical, 1, -1).reshape(forward.shape)
    return forward, reverse, numerical


def _is_rotation(matrix, tolerance=1e-12):
    matrix = np.asarray(matrix)
    products = matrix @ np.swapaxes(matrix, -1, -2)
    np.testing.assert_allclose(products, np.broadcast_to(np.eye(3), matrix.shape), atol=tolerance)
    np.testing.assert_allclose(np.linalg.det(matrix), 1, atol=tolerance)


@BATCHES
@pytest.mark.usefixtures("x64")
def test_axis_angle_equals_scipy(batch):
    vectors = np.random.RandomState(0).normal(size=(*batch, 3)) * 2
    matrices = mano_jax.matrix_from_axis_angle(vectors)
    wanted = Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(*batch, 3, 3)
    np.testing.assert_allclose(matrices, wanted, atol=1e-14)


@pytest.mark.usefixtures("x64")
def test_axis_angle_at_every_angle():
    vectors = ANGLES[:, None] * AXIS
    matrices = mano_jax.matrix_from_axis_angle(vectors)
    np.testing.assert_allclose(matrices, Rotation.from_rotvec(vectors).as_matrix(), atol=2e-15)
    forward, reverse, numerical = _jacobians(mano_jax.matrix_from_axis_angle, vectors)
    np.testing.assert_allclose(forward, reverse, atol=1e-13)
    np.testing.assert_allclose(forward, numerical, atol=1e-8)


def test_float32_stays_float32_and_accurate():
    angles = np.array([0.0, 1e-8, 1e-3, 0.0099, 0.0101, 1.0, 3.1415])
    vectors = np.float32(angles[:, None] * AXIS)
    matrices = mano_jax.matrix_from_axis_angle(vectors)
    assert matrices.dtype == np.float32
    np.testing.assert_allclose(matrices, Rotation.from_rotvec(vectors).as_matrix(), atol=3e-7)


@BATCHES
@pytest.mark.usefixtures("x64")
def test_6d_forms(batch):
    sixd = np.random.RandomState(1).normal(size=(*batch, 6))
    plain, robust = mano_jax.matrix_from_6d(sixd), mano_jax.matrix_from_6d_robust(sixd)
    _is_rotation(plain)
    _is_rotation(robust)
    x = sixd[..., :3] / np.linalg.norm(sixd[..., :3], axis=-1, keepdims=True)
    y = sixd[..., 3:] / np.linalg.norm(sixd[..., 3:], axis=-1, keepdims=True)
    # Gram-Schmidt keeps the first direction; both keep the plane and its orientation.
    np.testing.assert_allclose(plain[..., :, 0], x, atol=1e-14)
    normal = np.cross(x, y) / np.linalg.norm(np.cross(x, y), axis=-1, keepdims=True)
    np.testing.assert_allclose(plain[..., :, 2], normal, atol=1e-12)
    np.testing.assert_allclose(robust[..., :, 2], normal, atol=1e-12)
    # The robust form turns both vectors by the same amount.
    turned_x = np.sum(robust[..., :, 0] * x, axis=-1)
    turned_y = np.sum(robust[..., :, 1] * y, axis=-1)
    np.testing.assert_allclose(turned_x, turned_y, atol=1e-12)
    # Of a rotation's own first two columns both forms make the rotation again.
    columns = np.concatenate([plain[..., :, 0], plain[..., :, 1]], axis=-1)
    for form in (mano_jax.matrix_from_6d, mano_jax.matrix_from_6d_robust):
        np.testing.assert_allclose(form(columns), plain, atol=1e-12)


@pytest.mark.parametrize("form", [mano_jax.matrix_from_6d, mano_jax.matrix_from_6d_robust])
@pytest.mark.usefixtures("x64")
def test_6d_derivatives(form):
    forward, reverse, numerical = _jacobians(form, np.random.RandomState(2).normal(size=(5, 6)))
    np.testing.assert_allclose(forward, reverse, atol=1e-12)
    np.testing.assert_allclose(forward, numerical, atol=1e-7)


DEGENERATE = {
    "zero": [0, 0, 0, 0, 0, 0], "first zero": [0, 0, 0, 0, 1, 2], "second zero": [1, 2, 3, 0, 0, 0],
    "equal": [1, 2, 3, 1, 2, 3], "opposite": [1, 2, 3, -1, -2, -3], "axis": [0, 0, 2, 0, 0, 5],
}  # fmt: skip


@pytest.mark.parametrize("form", [mano_jax.matrix_from_6d, mano_jax.matrix_from_6d_robust])
def test_degenerate_6d_gives_a_rotation_with_finite_gradients(form):
    sixd = jnp.array(list(DEGENERATE.values()), jnp.float32)
    _is_rotation(form(sixd), 2e-6)
    for jacobian in (jax.jacfwd, jax.jacrev):
        found = jax.jit(jax.vmap(jacobian(form)))(sixd)
        for case, values in zip(DEGENERATE, found, strict=True):
            assert np.isfinite(values).all(), case
