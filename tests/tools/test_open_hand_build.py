"""The shipped hand: a proper mesh, MANO's conventions, natural shapes and poses, honest papers."""

import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest
import trimesh

import mano_jax
from dir_jax.evaluation.interpenetration import close_mesh
from mano_jax import constants
from tools.open_hand.build import mirrored
from tools.open_hand.contact import winding_numbers
from tools.open_hand.surface import vertex_normals

FOLDER = pathlib.Path(mano_jax.__file__).parent / "open_hand"
SIDES = pytest.mark.parametrize("side", constants.SIDES)
MIRROR = np.array([-1.0, 1.0, 1.0])
_pose_hand = jax.jit(mano_jax.pose_hand)
LAST_JOINTS = (15, 3, 6, 12, 9)  # of thumb, index, middle, ring, pinky


@pytest.fixture(scope="module")
def pair():
    return mano_jax.open_hands()


@pytest.fixture(scope="module")
def arrays():
    with np.load(FOLDER / "open_hand.npz", allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def natural(arrays):
    """Some of the shipped natural poses (20, 15, 3), right hand, mean included."""
    chosen = np.random.RandomState(0).choice(len(arrays["right/hands_coeffs"]), 20, replace=False)
    coefficients = arrays["right/hands_coeffs"][chosen]
    poses = arrays["right/hands_mean"] + coefficients @ arrays["right/hands_components"]
    return poses.reshape(-1, 15, 3)


def _posed(hand, pose=None, betas=None):
    pose = np.zeros((15, 3)) if pose is None else pose
    betas = np.zeros(pose.shape[:-2] + (10,)) if betas is None else betas
    turn = np.broadcast_to(np.eye(3), (*pose.shape[:-2], 3, 3))
    return _pose_hand(hand, turn, pose, betas)


def _volume(vertices, faces):
    """Of the hand, closed at the wrist."""
    return trimesh.Trimesh(*close_mesh(np.asarray(vertices, float), faces), process=False).volume


@SIDES
def test_mesh_is_a_disc_open_at_the_wrist(pair, side):
    faces = pair[side].faces
    assert faces.shape == (constants.FACES, 3) and set(faces.ravel()) == set(range(778))
    mesh = trimesh.Trimesh(pair[side].v_template, faces, process=False)
    times = np.bincount(mesh.edges_unique_inverse)
    boundary = mesh.edges_unique[times == 1]
    assert times.max() == 2 and len(boundary) == 16 and mesh.euler_number == 1
    assert len(mesh.outline().entities) == 1  # one loop, not several
    assert mesh.is_winding_consistent
    # One fan of faces around each vertex: as many neighbours as faces, one more on the boundary.
    neighbours, fans = np.bincount(mesh.edges_unique.ravel()), np.bincount(faces.ravel())
    np.testing.assert_array_equal(neighbours - fans, np.isin(np.arange(778), boundary))
    assert trimesh.Trimesh(*close_mesh(mesh.vertices, faces), process=False).is_watertight


@SIDES
def test_no_degenerate_faces_and_faces_point_outward(pair, side):
    hand = pair[side]
    corners = hand.v_template[hand.faces]
    sides = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=-1)
    area = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    assert (area / sides.max(1) ** 2).min() > 0.1  # 0.87 for an equilateral triangle
    assert 2.5e-4 < _volume(hand.v_template, hand.faces) < 4.5e-4


def test_right_hand_lies_in_manos_frame_with_a_humans_size(pair):
    joints, vertices = (
        np.asarray(mano_jax.rest_joints(pair.right, np.zeros(10))),
        pair.right.v_template,
    )
    wrist, middle = joints[0], joints[4]
    assert 0.09 < np.linalg.norm(wrist - middle) < 0.1
    assert 0.17 < wrist[0] - vertices[:, 0].min() < 0.19
    assert (joints[[3, 6, 9, 12], 0] < joints[[1, 4, 7, 10], 0] - 0.03).all()  # fingers along -x
    assert joints[1, 2] > joints[4, 2] > joints[10, 2] > joints[7, 2]  # thumb's side is +z
    assert joints[15, 2] > joints[1, 2] and joints[15, 1] < joints[1, 1]  # palm faces -y


@SIDES
def test_weights_and_regressor(pair, side, arrays):
    hand = pair[side]
    assert (hand.lbs_weights >= 0).all() and (hand.J_regressor >= 0).all()
    np.testing.assert_allclose(hand.lbs_weights.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(hand.J_regressor.sum(1), 1, atol=1e-6)
    assert ((hand.J_regressor > 0).sum(1) <= 30).all()
    assert (hand.lbs_weights.max(0) > 0.7).all()  # every joint owns some skin
    np.testing.assert_allclose(
        hand.J_regressor @ hand.v_template, arrays[f"{side}/J"], rtol=0, atol=1e-7
    )
    np.testing.assert_array_equal(arrays[f"{side}/kintree_table"][0, 1:], constants.PARENTS[1:])


@SIDES
@pytest.mark.parametrize("convention", constants.TIPS)
def test_every_conventions_tips_end_the_right_fingers(pair, side, convention):
    hand = pair[side]
    joints = np.asarray(mano_jax.rest_joints(hand, np.zeros(10)))
    for last, tip in zip(LAST_JOINTS, constants.TIPS[convention][side], strict=True):
        owned = hand.lbs_weights[:, last] > 0.5
        assert owned[tip]
        bone = (joints[last] - joints[last - 1]) / np.linalg.norm(joints[last] - joints[last - 1])
        reach = (hand.v_template[owned] - joints[last]) @ bone
        assert (hand.v_template[tip] - joints[last]) @ bone > reach.max() - 0.005


def test_left_is_the_mirrored_right_in_every_pose(pair, natural):
    betas = np.random.RandomState(1).normal(size=(len(natural), 10))
    right = _posed(pair.right, natural, betas)
    left = _posed(pair.left, natural * [1.0, -1.0, -1.0], betas)
    np.testing.assert_allclose(left.vertices, right.vertices * MIRROR, rtol=0, atol=1e-6)
    # The middle tip differs between the sides in the convention of `manopth`.
    keep = [k for k in range(21) if k != 12]
    np.testing.assert_allclose(left.joints[:, keep], (right.joints * MIRROR)[:, keep], atol=1e-6)


def test_left_hands_shapes_need_no_repair_and_get_none(pair, arrays):
    left, right = arrays["left/shapedirs"], arrays["right/shapedirs"]
    assert np.abs(left[:, 0] - right[:, 0]).sum() > 5  # the repair acts below 1
    np.testing.assert_array_equal(pair.left.shapedirs[:, 0], -pair.right.shapedirs[:, 0])
    twice = mirrored(mirrored({k[6:]: v for k, v in arrays.items() if k.startswith("right/")}))
    np.testing.assert_array_equal(twice["posedirs"], arrays["right/posedirs"])


def test_shapes_are_plausible_hands(pair):
    hand = pair.right
    spread = np.sqrt((hand.shapedirs**2).sum((0, 1)) / 778)
    assert (np.diff(spread) <= 1e-9).all() and 0.004 < spread[0] < 0.01
    shapes = [_posed(hand, betas=np.eye(10)[0] * s).vertices for s in (-2, 0, 2)]
    small, mean, large = (_volume(shape, hand.faces) for shape in shapes)
    assert small < 0.8 * mean < 0.7 * large
    for betas in np.random.RandomState(2).normal(size=(10, 10)).clip(-2, 2):
        vertices = np.asarray(_posed(hand, betas=betas).vertices, float)
        joints = hand.J_regressor @ vertices
        inside = winding_numbers(joints, *close_mesh(vertices, hand.faces))
        np.testing.assert_allclose(inside, 1, atol=1e-3)  # joints stay under the skin
        assert 0.14 < joints[0, 0] - vertices[:, 0].min() < 0.23


def test_pose_components_are_an_orthonormal_basis_by_falling_variance(arrays):
    for side in constants.SIDES:
        rows, coefficients = arrays[f"{side}/hands_components"], arrays[f"{side}/hands_coeffs"]
        np.testing.assert_allclose(rows @ rows.T, np.eye(45), atol=1e-5)
        assert (np.diff(coefficients.std(0)) < 1e-4).all()
        np.testing.assert_allclose(coefficients.mean(0), 0, atol=1e-4)


def test_natural_poses_curl_towards_the_palm_and_stay_out_of_the_hand(pair, arrays, natural):
    mean = arrays["right/hands_mean"].reshape(15, 3)
    assert (mean[[0, 1, 3, 4, 6, 7, 9, 10], 2] > 0.3).all()  # about +z: from -x towards -y
    assert np.linalg.norm(natural, axis=-1).max() < np.deg2rad(110)
    for vertices in np.asarray(_posed(pair.right, natural).vertices, float):
        normals = vertex_normals(vertices, pair.right.faces)
        closed = close_mesh(vertices, pair.right.faces)
        deep = winding_numbers((vertices - 0.003 * normals)[::3], *closed) > 1.5
        assert deep.mean() < 0.02  # at most a touch, nothing through the palm


def test_correctives_lessen_the_collapse_of_bent_joints(pair):
    """Linear blending loses volume at every bent joint; with the correctives less is lost."""
    plain = dataclasses.replace(pair.right, posedirs=np.zeros_like(pair.right.posedirs))
    bends = np.zeros((15, 15, 3))
    bends[range(12), range(12), 2] = np.deg2rad(80)
    bends[range(12, 15), range(12, 15)] = [0.3, -0.6, 0.0]  # the thumb flexes across the palm
    faces = pair.right.faces
    rest = _volume(pair.right.v_template, faces)
    lost, lost_plain = (
        np.array([rest - _volume(v, faces) for v in _posed(hand, bends).vertices])
        for hand in (pair.right, plain)
    )
    assert (lost_plain > 0).all()
    assert (np.abs(lost) < 0.85 * lost_plain).all()
    assert np.median(np.abs(lost) / lost_plain) < 0.5


def test_papers_say_what_it_is(arrays):
    meta = json.loads(str(arrays["meta"]))
    assert "NOT MANO" in meta["not_mano"] and "CC0" in meta["licence"]
    assert "not MANO" in (FOLDER / "README.md").read_text()
    licence = (FOLDER / "LICENSE.txt").read_text()
    assert "CC0 1.0 Universal" in licence and "MakeHuman" in licence
    assert (FOLDER / "open_hand.npz").stat().st_size < 3e6
