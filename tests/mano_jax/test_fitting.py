"""Fits recover hands from their joints, whatever is missing, and say how well they did."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import mano_jax
from mano_jax import fitting


@pytest.fixture(scope="module")
def hands():
    return mano_jax.open_hands()


def _synthesised(hand, count, seed, spread=0.4):
    """Joints and vertices of random hands a metre from the camera."""
    rng = np.random.RandomState(seed)
    orient = Rotation.random(count, random_state=rng).as_matrix()
    pose = mano_jax.pca_to_axis_angle(hand, spread * rng.normal(size=(count, 45)))
    transl = rng.normal(size=(count, 3)) * 0.1 + [0, 0, 1]
    mesh = mano_jax.pose_hand(hand, orient, pose, rng.normal(size=(count, 10)), transl)
    return np.asarray(mesh.joints), np.asarray(mesh.vertices)


def _apart_mm(one, other):
    return 1000 * np.linalg.norm(np.asarray(one) - np.asarray(other), axis=-1)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("spread", [0.3, 0.8])
def test_joints_alone_give_the_hand(hands, side, spread):
    joints, vertices = _synthesised(hands[side], 60, seed=1, spread=spread)
    found = mano_jax.fit(hands[side], joints)
    assert found.error_mm.mean() < 1.5 and np.percentile(found.error_mm, 90) < 3
    np.testing.assert_allclose(found.error_mm, _apart_mm(found.joints_xyz, joints).mean(-1), 1e-3)
    posed = mano_jax.pose_hand(hands[side], *found[:4])
    np.testing.assert_allclose(posed.joints, found.joints_xyz, atol=2e-6)
    # The twist of fingers and part of the shape stay open: the surface is near, not equal.
    assert _apart_mm(posed.vertices, vertices).mean() < 8


def test_joints_that_are_not_valid_have_no_say(hands):
    joints, _ = _synthesised(hands.left, 8, seed=2)
    valid = np.random.RandomState(0).uniform(size=(8, 21)) > 0.3
    found = mano_jax.fit(hands.left, np.where(valid[..., None], joints, np.nan), valid)
    other = mano_jax.fit(hands.left, np.where(valid[..., None], joints, 77), valid)
    by_itself = mano_jax.fit(hands.left, np.where(valid[..., None], joints, np.nan))
    for one, two, three in zip(found, other, by_itself, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)
    apart = _apart_mm(found.joints_xyz, joints)
    assert apart[valid].mean() < 1.5 and apart[~valid].mean() < 25
    nothing = mano_jax.fit(hands.left, joints, np.zeros((8, 21), bool))
    assert np.isnan(nothing.error_mm).all() and np.isfinite(nothing.joints_xyz).all()


def test_one_joint_far_off_does_not_spoil_the_rest(hands):
    joints, _ = _synthesised(hands.right, 8, seed=3)
    wrong = joints.copy()
    wrong[:, 7] += 0.1
    found = mano_jax.fit(hands.right, wrong)
    assert np.delete(_apart_mm(found.joints_xyz, joints), 7, axis=1).mean() < 5


def test_batch_shapes_and_side_by_side_independence(hands):
    joints, _ = _synthesised(hands.right, 6, seed=4)
    whole = mano_jax.fit(hands.right, joints)
    shaped = mano_jax.fit(hands.right, joints.reshape(2, 3, 21, 3))
    among_others = mano_jax.fit(hands.right, np.concatenate([joints[4:5], 1.1 * joints[:3]]))
    single = mano_jax.fit(hands.right, joints[4])
    empty = mano_jax.fit(hands.right, joints[:0])
    trailing = {"global_orient": (3, 3), "hand_pose": (15, 3), "betas": (10,), "error_mm": ()}
    for name, shape in trailing.items():
        values = getattr(whole, name)
        assert values.shape == (6, *shape) and getattr(empty, name).shape == (0, *shape)
        np.testing.assert_array_equal(getattr(shaped, name), values.reshape(2, 3, *shape))
        np.testing.assert_array_equal(getattr(among_others, name)[0], values[4])
        assert getattr(single, name).shape == shape
    # One hand has a program of its own, whose rounding moves what joints cannot tell: the twist.
    # The search ends where the cost no longer falls, in float32: known to the square root of its
    # rounding, 3e-4 of the 3 mm that the residuals are long, 1e-6 m. Of 60 hands, the worst: 4e-6.
    np.testing.assert_allclose(single.joints_xyz, whole.joints_xyz[4], atol=1e-5)


def test_rigid_start_is_exact_and_never_mirrors(hands):
    mean = np.asarray(mano_jax.rest_joints(hands.left, np.zeros(10)))
    mean = np.concatenate([mean, mean[:5] + 0.01])
    turn, shift = Rotation.from_rotvec([1.0, -2.0, 0.5]), np.array([0.1, -0.2, 0.9])
    wanted = turn.apply(mean - mean[0]) + mean[0] + shift
    both = np.stack([wanted, wanted * [-1, 1, 1]])
    start = fitting._aligned(mean, both, np.ones((2, 21)))
    np.testing.assert_allclose(Rotation.from_rotvec(start[0, :3]).as_matrix(), turn.as_matrix(),
                               atol=1e-6)  # fmt: skip
    np.testing.assert_allclose(start[0, 3:6], shift, atol=1e-6)
    assert not start[:, 6:].any() and np.isfinite(start).all()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"joints_xyz": np.zeros((4, 42, 3))}, r"shape \(4, 42, 3\); wanted"),
        (
            {"joints_xyz": np.eye(3)[np.arange(21) % 3] * 180},
            "spans 180 m .* wanted metres, not mm",
        ),
        (
            {"joints_xyz": np.zeros((5, 21, 3)), "joint_valid": np.ones((4, 21))},
            r"joint_valid has shape \(4, 21\)",
        ),
        (
            {"joints_xyz": np.full((21, 3), np.nan), "joint_valid": np.ones(21)},
            "21 valid joints that are not finite",
        ),
        ({"joints_xyz": np.zeros((21, 3)), "tips": "x"}, "tips is 'x'"),
    ],
)
def test_wrong_inputs_are_named(hands, inputs, message):
    with pytest.raises(mano_jax.HandError, match=message):
        mano_jax.fit(hands.left, **inputs)
