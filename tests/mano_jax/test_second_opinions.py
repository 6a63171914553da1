"""Second opinions: the PyPI packages body-models and smplx on the same arrays."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import mano_jax

ORDER = [0, 13, 14, 15, 1, 2, 3, 4, 5, 6, 10, 11, 12, 7, 8, 9]
"""MANO's own joints, as both give them, in our order without finger tips."""


def body_models(path, orient, pose, betas):
    """Vertices and MANO's joints."""
    package = pytest.importorskip("body_models.mano.numpy")
    # flat_hand_mean: the mean is in the pose already, as pose_hand wants it.
    model = package.MANO(model_path=path, flat_hand_mean=True)
    vertices = model.forward_vertices(pose, wrist_rotation=orient, shape=betas)
    skeleton = model.forward_skeleton(pose, wrist_rotation=orient, shape=betas)
    return vertices, skeleton[:, :, :3, 3]


def smplx(path, orient, pose, betas):
    """Likewise."""
    torch = pytest.importorskip("torch")
    package = pytest.importorskip("smplx")
    model = package.MANO(str(path), ext="npz", use_pca=False, flat_hand_mean=True, batch_size=6)
    orient, pose, betas = (torch.as_tensor(x.reshape(6, -1)) for x in (orient, pose, betas))
    found = model(global_orient=orient, hand_pose=pose, betas=betas)
    return found.vertices.detach().numpy(), found.joints.detach().numpy()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("opinion", [body_models, smplx])
def test_others_agree(pair, tmp_path, opinion, side):
    mano_jax.save_npz(pair, tmp_path)
    rng = np.random.RandomState(11)
    orient = rng.normal(size=(6, 3)).astype(np.float32)
    pose = (0.7 * rng.normal(size=(6, 15, 3))).astype(np.float32)
    betas = rng.normal(size=(6, 10)).astype(np.float32)
    vertices, joints = opinion(tmp_path / f"MANO_{side.upper()}.npz", orient, pose, betas)
    matrices = Rotation.from_rotvec(orient).as_matrix().astype(np.float32)
    mesh = mano_jax.pose_hand(pair[side], matrices, pose, betas)
    # All compute in float32; the toy hand measures 0.2 m.
    np.testing.assert_allclose(mesh.vertices, vertices, atol=1e-6)
    ours = np.delete(np.asarray(mesh.joints), [4, 8, 12, 16, 20], axis=1)
    np.testing.assert_allclose(ours, joints[:, ORDER], atol=1e-6)
