"""The hand model against the reference's numbers and against a plain numpy implementation."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import mano_jax
from mano_jax import constants

SIDES = pytest.mark.parametrize("side", ["left", "right"])
# float64: the reference adds 1e-8 to every axis-angle; float32: rounding of 0.2 m hands.
DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-7), (np.float32, 1e-5)])


@pytest.fixture(scope="module")
def golden(golden_dir):
    with np.load(golden_dir / "mano.npz") as arrays:
        return dict(arrays)


def _sixd_pca(hand, pose, betas, **options):
    rotation = mano_jax.matrix_from_6d_robust(pose[:, :6])
    return mano_jax.pose_hand(
        hand, rotation, mano_jax.pca_to_axis_angle(hand, pose[:, 6:]), betas, **options
    )


def _compare(mesh, golden, key, dtype, tolerance):
    assert mesh.vertices.dtype == dtype and mesh.joints.dtype == dtype
    np.testing.assert_allclose(mesh.vertices, golden[f"{key}/vertices"], rtol=0, atol=tolerance)
    np.testing.assert_allclose(mesh.joints, golden[f"{key}/joints"], rtol=0, atol=tolerance)


@SIDES
@DTYPES
@pytest.mark.parametrize("root_joint", [None, 0, 9])
@pytest.mark.usefixtures("x64")
def test_reference_numbers(pair, golden, side, dtype, tolerance, root_joint):
    hand, betas = pair[side], golden["betas"].astype(dtype)
    mesh = _sixd_pca(hand, golden["pose6d_pca45"].astype(dtype), betas, root_joint=root_joint)
    _compare(mesh, golden, f"sixd_pca/{side}/center_{root_joint}", dtype, tolerance)

    pose = golden["axisang48"].astype(dtype)
    mesh = mano_jax.pose_hand(
        hand, mano_jax.matrix_from_axis_angle(pose[:, :3]), pose[:, 3:].reshape(-1, 15, 3), betas,
        root_joint=root_joint,
    )  # fmt: skip
    _compare(mesh, golden, f"axisang_flatmean/{side}/center_{root_joint}", dtype, tolerance)


@SIDES
@DTYPES
@pytest.mark.usefixtures("x64")
def test_reference_numbers_of_the_intaghand_layer(pair, golden, side, dtype, tolerance):
    hand = pair[side]
    coefficients = golden[f"intag/{side}/pca_from_axisang_plus_mean"]
    # The reference inverted its components in float32.
    pose = (golden["axisang48"][:, 3:] + hand.hands_mean).reshape(-1, 15, 3)
    np.testing.assert_allclose(mano_jax.axis_angle_to_pca(hand, pose), coefficients, atol=1e-5)
    mesh = mano_jax.pose_hand(
        hand, golden[f"intag/{side}/root_rotation"].astype(dtype),
        mano_jax.pca_to_axis_angle(hand, coefficients.astype(dtype)),
        golden["betas"].astype(dtype), golden["transl"].astype(dtype), tips="intaghand",
    )  # fmt: skip
    _compare(mesh, golden, f"intag/{side}", dtype, tolerance)


@SIDES
@DTYPES
@pytest.mark.usefixtures("x64")
def test_reference_gradients(pair, golden, side, dtype, tolerance):
    def loss(pose, betas):
        return jnp.sum(_sixd_pca(pair[side], pose, betas, root_joint=0).vertices ** 2)

    inputs = golden["pose6d_pca45"].astype(dtype), golden["betas"].astype(dtype)
    for name, found in zip(
        ("pose", "betas"), jax.jit(jax.grad(loss, (0, 1)))(*inputs), strict=True
    ):
        wanted = golden[f"sixd_pca/{side}/center_0/grad_{name}_of_sum_sq_vertices"]
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * scale)


def _plain_numpy(hand, global_orient, hand_pose, betas):
    """Romero et al. 2017, one joint after the other with 4x4 matrices, one hand."""
    rotations = [global_orient, *Rotation.from_rotvec(hand_pose).as_matrix()]
    shaped = hand.v_template + np.einsum("vck,k->vc", hand.shapedirs, betas)
    rest = hand.J_regressor @ shaped
    corrective = np.concatenate([(r - np.eye(3)).ravel() for r in rotations[1:]])
    shaped = shaped + np.einsum("vck,k->vc", hand.posedirs, corrective)
    world = []
    for joint, parent in enumerate(constants.PARENTS):
        local = np.eye(4)
        local[:3, :3] = rotations[joint]
        local[:3, 3] = rest[joint] - (rest[parent] if parent >= 0 else 0)
        world.append(world[parent] @ local if parent >= 0 else local)
    joints = np.array([transform[:3, 3] for transform in world])
    for joint in range(16):
        world[joint][:3, 3] -= world[joint][:3, :3] @ rest[joint]
    blended = np.einsum("vj,jrc->vrc", hand.lbs_weights, np.array(world))
    homogeneous = np.concatenate([shaped, np.ones((778, 1))], axis=1)
    return np.einsum("vrc,vc->vr", blended, homogeneous)[:, :3], joints


def _random(rng, *batch):
    matrices = Rotation.random(int(np.prod(batch)), random_state=rng).as_matrix()
    pose, betas = rng.normal(size=(*batch, 15, 3)), rng.normal(size=(*batch, 10))
    return matrices.reshape(*batch, 3, 3), pose, betas, rng.normal(size=(*batch, 3))


@SIDES
@pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 3), (0,)])
@pytest.mark.usefixtures("x64")
def test_plain_numpy_and_batch_shapes(pair, side, batch):
    orient, pose, betas, transl = _random(np.random.RandomState(3), *batch)
    mesh = mano_jax.pose_hand(pair[side], orient, pose, betas, transl, tips="smplx")
    assert mesh.vertices.shape == (*batch, 778, 3) and mesh.joints.shape == (*batch, 21, 3)
    for index in np.ndindex(*batch):
        vertices, joints = _plain_numpy(pair[side], orient[index], pose[index], betas[index])
        np.testing.assert_allclose(mesh.vertices[index], vertices + transl[index], atol=1e-13)
        found = np.array(mesh.joints[index]) - transl[index]
        wrist_index_thumb = found[[0, 5, 6, 7, 1, 2, 3]]
        np.testing.assert_allclose(wrist_index_thumb, joints[[0, 1, 2, 3, 13, 14, 15]], atol=1e-13)
        np.testing.assert_allclose(found[[13, 17]], joints[[10, 7]], atol=1e-13)
        np.testing.assert_allclose(
            found[[4, 8, 12, 16, 20]], vertices[[744, 320, 443, 554, 671]], atol=1e-13
        )
    assert mano_jax.rest_joints(pair[side], betas).shape == (*batch, 16, 3)


@SIDES
@pytest.mark.parametrize("tips", ["manopth", "intaghand", "smplx", (0, 1, 2, 3, 4)])
def test_tip_conventions(pair, side, tips):
    mesh = mano_jax.pose_hand(pair[side], np.eye(3), np.ones((15, 3)), np.ones(10), tips=tips)
    numbers = {
        "manopth": (745, 317, 445 if side == "left" else 444, 556, 673),
        "intaghand": (745, 317, 444, 556, 673), "smplx": (744, 320, 443, 554, 671),
    }.get(tips, tips)  # fmt: skip
    np.testing.assert_array_equal(mesh.joints[4::4], mesh.vertices[np.array(numbers)])


def test_stacked_pair_under_vmap_equals_each_hand(pair):
    orient, pose, betas, transl = _random(np.random.RandomState(5), 2, 3)
    inputs = [np.float32(value) for value in (orient, pose, betas, transl)]

    def pose_side(hand, tips, *values):
        return mano_jax.pose_hand(hand, *values, tips=tips, root_joint=9)

    tips = mano_jax.tip_indices("both", "manopth")
    both = jax.jit(jax.vmap(pose_side))(pair.stacked(), tips, *inputs)
    for index, side in enumerate(constants.SIDES):
        alone = mano_jax.pose_hand(pair[side], *[v[index] for v in inputs], root_joint=9)
        np.testing.assert_allclose(both.vertices[index], alone.vertices, atol=1e-6)
        np.testing.assert_allclose(both.joints[index], alone.joints, atol=1e-6)
    with pytest.raises(mano_jax.HandError, match="tip_indices"):
        jax.vmap(lambda hand, *v: mano_jax.pose_hand(hand, *v))(pair.stacked(), *inputs)


@pytest.mark.usefixtures("x64")
def test_many_hands_are_posed_as_few_are(pair, batch=150):
    """A CPU takes more than 128 in parts, which must show neither in the hands nor in gradients."""
    rng = np.random.default_rng(batch)
    pose, betas = rng.normal(size=(batch, 16, 3)), rng.normal(size=(batch, 10))
    probe = jnp.asarray(rng.normal(size=(batch, 778, 3)))

    @jax.jit
    def run(pose, betas, probe):
        def measure(pose, betas):
            rotation = mano_jax.matrix_from_axis_angle(pose[:, 0])
            mesh = mano_jax.pose_hand(pair.left, rotation, pose[:, 1:], betas)
            return jnp.sum(mesh.vertices * probe), mesh

        gradients, mesh = jax.grad(measure, argnums=(0, 1), has_aux=True)(pose, betas)
        return gradients, mesh

    at_once = run(pose, betas, probe)
    parts = [run(pose[s], betas[s], probe[s]) for s in (slice(0, 75), slice(75, None))]
    together = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
    chex.assert_trees_all_close(at_once, together, rtol=0, atol=1e-12)


@SIDES
@pytest.mark.usefixtures("x64")
def test_derivatives_at_zero_and_at_half_turns(pair, side):
    axes = np.random.RandomState(6).normal(size=(16, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)

    @jax.jit
    def posed(inputs):
        orient, pose, betas = inputs[:3], inputs[3:48].reshape(15, 3), inputs[48:]
        matrix = mano_jax.matrix_from_axis_angle(orient)
        mesh = mano_jax.pose_hand(pair[side], matrix, pose, betas)
        return jnp.concatenate([mesh.vertices[::100], mesh.joints])

    forward_mode, reverse_mode = jax.jit(jax.jacfwd(posed)), jax.jit(jax.jacrev(posed))
    for angle in (0.0, np.pi):
        inputs = np.concatenate([angle * axes.ravel(), np.zeros(10)])
        forward, reverse = forward_mode(inputs), reverse_mode(inputs)
        np.testing.assert_allclose(forward, reverse, atol=1e-12)
        for index, step in enumerate(1e-6 * np.eye(58)):
            numerical = (posed(inputs + step) - posed(inputs - step)) / 2e-6
            np.testing.assert_allclose(forward[..., index], numerical, atol=1e-8)


@SIDES
@pytest.mark.usefixtures("x64")
def test_principal_components_round_trip(pair, side):
    hand, rng = pair[side], np.random.RandomState(7)
    for batch in ((), (3,), (2, 3)):
        for count in (45, 12):
            coefficients = rng.normal(size=(*batch, count))
            pose = mano_jax.pca_to_axis_angle(hand, coefficients)
            assert pose.shape == (*batch, 15, 3)
            back = mano_jax.axis_angle_to_pca(hand, pose, count)
            # The toy hand's components are orthonormal to float32.
            np.testing.assert_allclose(back, coefficients, atol=1e-12)
    zero = mano_jax.pca_to_axis_angle(hand, np.zeros(45))
    np.testing.assert_allclose(zero.reshape(45), hand.hands_mean, atol=1e-15)
    pose = rng.normal(size=(15, 3))
    back = mano_jax.pca_to_axis_angle(hand, mano_jax.axis_angle_to_pca(hand, pose))
    np.testing.assert_allclose(back, pose, atol=1e-12)


@SIDES
def test_joints_from_vertices(pair, side):
    vertices = np.random.RandomState(8).normal(size=(2, 3, 778, 3)).astype(np.float32)
    joints = mano_jax.joints_from_vertices(pair[side], vertices)
    assert joints.shape == (2, 3, 21, 3) and joints.dtype == np.float32
    regressed = np.einsum("jv,abvc->abjc", pair[side].J_regressor, vertices)
    np.testing.assert_allclose(joints[..., 0, :], regressed[..., 0, :], atol=1e-6)
    np.testing.assert_allclose(joints[..., 9, :], regressed[..., 4, :], atol=1e-6)
    np.testing.assert_array_equal(joints[..., 12, :], vertices[..., 444, :])


def test_float32_programs_hold_no_float64(pair):
    inputs = [np.float32(v) for v in _random(np.random.RandomState(9), 2)]
    text = jax.jit(lambda *v: mano_jax.pose_hand(pair.left, *v)).lower(*inputs).as_text()
    assert "f64" not in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"betas": np.zeros(9)}, r"betas has shape \(9,\); wanted \(\.\.\., 10\)"),
        ({"hand_pose": np.zeros(45)}, r"hand_pose has shape \(45,\); wanted \(\.\.\., 15, 3\)"),
        ({"global_orient": np.zeros(3)}, r"global_orient .* wanted \(\.\.\., 3, 3\)"),
        ({"transl": np.zeros((2, 3)), "betas": np.zeros((3, 10))}, "do not fit together"),
        ({"tips": "mano"}, "tips is 'mano'; wanted one of manopth, intaghand, smplx"),
        ({"root_joint": 21}, "root_joint is 21; wanted None or 0 to 20"),
    ],
)
def test_wrong_inputs_are_named(pair, changes, message):
    inputs = {"global_orient": np.eye(3), "hand_pose": np.zeros((15, 3)), "betas": np.zeros(10)}
    with pytest.raises(mano_jax.HandError, match=message):
        mano_jax.pose_hand(pair.left, **{**inputs, **changes})
