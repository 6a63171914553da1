"""Fits recover hands from their joints, whatever is missing, and say how well they did."""

import time

import cv2
import jax
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt
from scipy.spatial.transform import Rotation

import mano_jax
from mano_jax import fitting, fitting_mask, fitting_terms

CAMERA = np.array([[1500.0, 0, 256], [0, 1490.0, 167], [0, 0, 1]])


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


def _pixels(xyz):
    px = xyz @ CAMERA.T.astype(xyz.dtype)
    return px[..., :2] / px[..., 2:]


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
    assert np.isnan(found.error_px).all()


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
    single = mano_jax.fit(hands.right, joints[4])
    empty = mano_jax.fit(hands.right, joints[:0])
    trailing = {"global_orient": (3, 3), "hand_pose": (15, 3), "betas": (10,), "error_mm": ()}
    for name, shape in trailing.items():
        values = getattr(whole, name)
        assert values.shape == (6, *shape) and getattr(empty, name).shape == (0, *shape)
        np.testing.assert_array_equal(getattr(shaped, name), values.reshape(2, 3, *shape))
        np.testing.assert_allclose(getattr(single, name), values[4], atol=1e-5)


def test_rigid_start_is_exact_and_never_mirrors(hands):
    tuning = mano_jax.FitTuning()
    model = fitting._model(hands.left, tuning, False, np.dtype(np.float32))
    _, mean_joints = jax.jit(fitting._mean_hand)(model)
    rotation = Rotation.from_rotvec([1.0, -2.0, 0.5]).as_matrix().astype(np.float32)
    wanted = mean_joints @ rotation.T + np.float32([0.1, -0.2, 0.9])
    observed = fitting_terms.Observed(xyz=wanted, xyz_weight=np.ones(21, np.float32))
    align = jax.jit(fitting._aligned)
    start = align(model, observed)
    np.testing.assert_allclose(start.rotation, rotation, atol=1e-5)
    _, joints = jax.jit(fitting_terms.points_and_joints)(model, start)
    np.testing.assert_allclose(joints, wanted, atol=1e-6)
    mirrored = observed._replace(xyz=wanted * np.float32([-1, 1, 1]))
    start = align(model, mirrored)
    assert np.linalg.det(start.rotation) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_points_in_the_image_alone(hands):
    joints, _ = _synthesised(hands.left, 8, seed=5)
    found = mano_jax.fit(hands.left, joints_px=_pixels(joints), camera=CAMERA)
    assert np.median(found.error_px) < 1 and np.isnan(found.error_mm).all()
    apart = np.linalg.norm(_pixels(found.joints_xyz) - _pixels(joints), axis=-1)
    np.testing.assert_allclose(found.error_px, apart.mean(-1), atol=1e-2)
    # Seen from a metre away, depth is guessed from the hand's size.
    relative = found.joints_xyz - found.joints_xyz[:, :1], joints - joints[:, :1]
    assert np.median(_apart_mm(*relative)) < 25


@pytest.mark.slow
def test_a_mask_helps_where_joints_are_missing_or_shifted(hands):
    joints, vertices = _synthesised(hands.left, 8, seed=6)
    middle = np.float32([0, 0, 0.7]) - vertices.mean(axis=1, keepdims=True)
    joints, vertices = joints + middle, vertices + middle
    masks = np.zeros((8, 334, 512), np.uint8)
    for mask, corners in zip(masks, _pixels(vertices).round().astype(np.int32), strict=True):
        for triangle in corners[hands.left.faces]:
            cv2.fillConvexPoly(mask, triangle, 1)
    palm = np.broadcast_to(np.isin(np.arange(21), [0, 1, 5, 9, 13, 17]), (8, 21))
    cases = ((joints + np.float32([0.02, 0, 0]), np.ones((8, 21), bool)), (joints, palm))
    for seen, valid in cases:
        blind = mano_jax.fit(hands.left, seen, valid)
        found = mano_jax.fit(hands.left, seen, valid, camera=CAMERA, mask=masks > 0)
        before, after = (_apart_mm(f.joints_xyz, joints).mean() for f in (blind, found))
        assert after < before - 1


def test_mask_distances():
    mask = np.random.RandomState(7).uniform(size=(64, 64)) > 0.995
    maps = fitting_mask.mask_maps(mask)
    np.testing.assert_allclose(maps.outside, distance_transform_edt(~mask), atol=1e-12)
    wide = fitting_mask.mask_maps(np.repeat(mask, 4, axis=1))
    np.testing.assert_array_equal(wide.cell, [4, 1])
    wanted = distance_transform_edt(~mask, sampling=[1, 4])
    np.testing.assert_allclose(wide.outside, wanted, atol=1e-12)
    column, row = wide.places.astype(int).T
    assert mask[row, column // 4].all()
    # Bilinear between cells' centres, and the edge's value beyond the image.
    ramp = np.float32(np.tile(np.arange(64.0), (64, 1)))
    places, cell = np.zeros((128, 2), np.float32), np.ones(2, np.float32)
    maps = fitting_mask.MaskMaps(ramp, cell, places, np.float32(3))
    px = np.float32([[0.5, 3.0], [1.0, 3.0], [10.75, 60.0], [-9.5, 3.0], [3.0, 4.0]])
    found = fitting_mask.compare_with_mask(maps, px)
    np.testing.assert_allclose(found["outside"][:, 0], [0, 0.5, 10.25, 0, 2.5], atol=1e-5)
    # Every place is at the corner; the nearest point is 3.04 px away and covers 3 of them.
    length = np.linalg.norm(px[0])
    np.testing.assert_allclose(found["uncovered"][0], px[0] * (1 - 3 / length), atol=1e-5)


def test_an_empty_mask_pulls_at_nothing(hands):
    maps = fitting_mask.mask_maps(np.zeros((20, 30), bool))
    found = fitting_mask.compare_with_mask(maps, np.float32([[3.0, 4.0], [100.0, 7.0]]))
    assert not found["outside"].any() and not found["uncovered"].any()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "neither joints_xyz nor joints_px"),
        ({"joints_xyz": np.zeros((4, 42, 3))}, r"shape \(4, 42, 3\); wanted"),
        (
            {"joints_xyz": np.eye(3)[np.arange(21) % 3] * 180},
            "spans 180 m .* wanted metres, not mm",
        ),
        ({"joints_px": np.zeros((21, 2))}, "without camera"),
        (
            {"joints_xyz": np.zeros((5, 21, 3)), "joint_valid": np.ones((4, 21))},
            "validity of joints",
        ),
        (
            {"joints_xyz": np.full((21, 3), np.nan), "joint_valid": np.ones(21)},
            "21 valid joints that are not finite",
        ),
        ({"joints_xyz": np.zeros((21, 3)), "tuning": mano_jax.FitTuning(components=46)}, "1 to 45"),
        ({"joints_xyz": np.zeros((21, 3)), "tuning": mano_jax.FitTuning(tips="x")}, "tips is 'x'"),
    ],
)
def test_wrong_inputs_are_named(hands, inputs, message):
    with pytest.raises(mano_jax.HandError, match=message):
        mano_jax.fit(hands.left, **inputs)


@pytest.mark.slow
def test_256_hands_in_under_a_minute(hands):
    joints, _ = _synthesised(hands.left, 256, seed=8)
    start = time.monotonic()
    found = mano_jax.fit(hands.left, joints)
    assert time.monotonic() - start < 60
    assert found.error_mm.mean() < 3
