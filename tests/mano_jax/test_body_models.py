"""A second opinion: the PyPI package body-models on the same arrays."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import mano_jax

body_models_numpy = pytest.importorskip("body_models.mano.numpy")


@pytest.mark.parametrize("side", ["left", "right"])
def test_body_models_agrees(pair, tmp_path, side):
    mano_jax.save_npz(pair, tmp_path)
    # flat_hand_mean: the mean is in the pose already, as pose_hand wants it.
    model = body_models_numpy.MANO(
        model_path=tmp_path / f"MANO_{side.upper()}.npz", flat_hand_mean=True
    )
    rng = np.random.RandomState(11)
    orient = rng.normal(size=(6, 3)).astype(np.float32)
    pose = (0.7 * rng.normal(size=(6, 15, 3))).astype(np.float32)
    betas = rng.normal(size=(6, 10)).astype(np.float32)
    vertices = model.forward_vertices(pose, wrist_rotation=orient, shape=betas)
    skeleton = model.forward_skeleton(pose, wrist_rotation=orient, shape=betas)
    matrices = Rotation.from_rotvec(orient).as_matrix().astype(np.float32)
    mesh = mano_jax.pose_hand(pair[side], matrices, pose, betas)
    # Both compute in float32; the toy hand measures 0.2 m.
    np.testing.assert_allclose(mesh.vertices, vertices, atol=1e-6)
    order = [0, 13, 14, 15, 1, 2, 3, 4, 5, 6, 10, 11, 12, 7, 8, 9]
    ours = np.delete(np.asarray(mesh.joints), [4, 8, 12, 16, 20], axis=1)
    np.testing.assert_allclose(ours, skeleton[:, :, :3, 3][:, order], atol=1e-6)
