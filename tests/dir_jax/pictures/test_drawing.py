import numpy as np
import pytest
import trimesh

import mano_jax
from dir_jax.pictures import drawing as pictures
from mano_jax.constants import BONES


def square_hand(x, y, size):
    """Two triangles that fill a square of pixels (centres at whole numbers)."""
    corners = np.array([[x, y], [x + size, y], [x + size, y + size], [x, y + size]], float) - 0.5
    return corners, np.array([[0, 1, 2], [0, 2, 3]])


def is_left(picture):
    return picture[..., 2] > picture[..., 0] + 20.0


def is_right(picture):
    return picture[..., 0] > picture[..., 2] + 20.0


@pytest.mark.parametrize("nearer", [0, 1])
def test_meshes_fill_their_pixels_and_the_nearer_hides_the_other(nearer):
    (left, faces), (right, _) = square_hand(10, 20, 30), square_hand(25, 30, 40)
    points_px = np.stack([left, right])
    depth = np.full((2, 4), 0.1)
    depth[nearer] -= 0.03
    xyz = np.concatenate([points_px, depth[..., None]], -1)
    ground = np.full((90, 120, 3), 128, np.uint8)
    drawn = pictures.draw_meshes(ground, points_px, xyz, [faces, faces]).astype(float)
    wanted = np.zeros((2, 90, 120), bool)
    wanted[0, 20:50, 10:40] = True
    wanted[1, 30:70, 25:65] = True
    wanted[1 - nearer] &= ~wanted[nearer]
    np.testing.assert_array_equal(is_left(drawn), wanted[0])
    np.testing.assert_array_equal(is_right(drawn), wanted[1])
    np.testing.assert_array_equal(drawn[~wanted.any(0)], 128)
    assert (ground == 128).all()


@pytest.mark.parametrize("place", [np.nan, -500.0, 1e7])
def test_nothing_to_see_leaves_the_photo_alone(place):
    corners, faces = square_hand(2, 2, 10)
    points_px = np.stack([corners, corners]) + place
    xyz = np.pad(points_px, ((0, 0), (0, 0), (0, 1)))
    ground = np.full((20, 20, 3), 200, np.uint8)
    drawn = pictures.draw_meshes(ground, points_px, xyz, [faces] * 2)
    np.testing.assert_array_equal(drawn, ground)


def test_opacity_lets_the_photo_through():
    corners, faces = square_hand(2, 2, 10)
    points_px = np.stack([corners, corners])
    xyz = np.pad(points_px, ((0, 0), (0, 0), (0, 1)))
    ground = np.full((20, 20, 3), 200, np.uint8)
    solid = pictures.draw_meshes(ground, points_px, xyz, [faces] * 2).astype(float)
    half = pictures.draw_meshes(ground, points_px, xyz, [faces] * 2, 0.5)
    np.testing.assert_allclose(half, (solid + 200) / 2, atol=1)


@pytest.mark.parametrize(
    ("view", "right", "down", "nearer"),
    [
        # The direction that appears right, that appears down, and the one that looks nearer.
        ("front", [1, 0, 0], [0, 1, 0], [0, 0, -1]),
        ("side", [0, 0, 1], [0, 1, 0], [1, 0, 0]),
        ("top", [1, 0, 0], [0, 0, -1], [0, -1, 0]),
    ],
)
def test_views_show_what_they_say(view, right, down, nearer):
    assert np.linalg.det(pictures.VIEWS[view]) == pytest.approx(1)  # a turn, never a mirror
    ball = trimesh.creation.icosphere(subdivisions=2, radius=0.02)
    vertices, faces = np.asarray(ball.vertices), [np.asarray(ball.faces)] * 2

    def middles(offset):
        pair = np.stack([vertices, vertices + np.array(offset)])
        picture = pictures.draw_view(pair, faces, view, 200).astype(float)
        found = [np.argwhere(mask(picture)) for mask in (is_left, is_right)]
        return [points.mean(0) if len(points) else None for points in found]

    left, moved = middles(0.08 * np.array(right))
    assert moved[1] > left[1] + 50 and abs(moved[0] - left[0]) < 2
    left, moved = middles(0.08 * np.array(down))
    assert moved[0] > left[0] + 50 and abs(moved[1] - left[1]) < 2
    left, moved = middles(0.08 * np.array(nearer))
    assert left is None and moved is not None


def test_open_hands_cover_their_projection():
    hands = mano_jax.open_hands()
    vertices = np.stack([hands.left.v_template, hands.right.v_template])
    vertices[1, :, 0] += 0.05
    points_px = vertices[..., :2] * 800 + 130
    faces = [hands.left.faces, hands.right.faces]
    ground = np.full((256, 256, 3), 128, np.uint8)
    drawn = pictures.draw_meshes(ground, points_px, vertices, faces)
    rows, columns = np.nonzero((drawn != 128).any(-1))
    flat = points_px.reshape(-1, 2)
    extent = [columns.min(), columns.max(), rows.min(), rows.max()]
    expected = [
        *flat[:, 0].min(keepdims=True),
        flat[:, 0].max(),
        flat[:, 1].min(),
        flat[:, 1].max(),
    ]
    np.testing.assert_allclose(extent, np.clip(expected, 0, 255), atol=1.5)


def test_joints_are_drawn_where_they_are_and_bad_ones_left_out():
    joints = np.random.default_rng(0).uniform(40, 160, (2, 21, 2))
    joints[1, 3] = np.nan
    joints[1, 7] = 1e12
    ground = np.zeros((200, 200, 3), np.uint8)
    drawn = pictures.draw_joints(ground, joints)
    for x, y in joints[0].round().astype(int):
        assert drawn[y, x].any()
    assert not ground.any()
    nothing = pictures.draw_joints(ground, joints, np.zeros((2, 21), bool))
    assert not nothing.any()


def test_sheet_places_pictures_in_rows():
    tiles = [np.full((4, 6, 3), value, np.uint8) for value in (10, 20, 30)]
    sheet = pictures.contact_sheet(tiles, columns=2, gap=1)
    assert sheet.shape == (9, 13, 3)
    assert (sheet[:4, :6] == 10).all() and (sheet[:4, 7:] == 20).all()
    assert (sheet[5:, :6] == 30).all() and (sheet[5:, 7:] == pictures.PAPER).all()
    with pytest.raises(ValueError, match="one shape"):
        pictures.contact_sheet([tiles[0], tiles[1][:2]], 2)


def test_png_round_trip_and_no_remains(tmp_path):
    import cv2

    picture = np.random.default_rng(0).integers(0, 255, (8, 9, 3)).astype(np.uint8)
    path = tmp_path / "new" / "folder" / "p.png"
    pictures.save_png(path, pictures.caption(picture, "x"))
    pictures.save_png(path, picture)
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], picture)
    assert [p.name for p in path.parent.iterdir()] == ["p.png"]
    with pytest.raises(OSError):
        pictures.save_png(path / "below_a_file.png", picture)


def test_a_hand_without_a_label_is_left_out():
    corners, faces = square_hand(4, 4, 10)
    vertices = np.stack([corners, corners + 3])
    vertices = np.concatenate([vertices, np.zeros((2, 4, 1))], -1)
    vertices[0] = np.nan
    ground = np.full((40, 40, 3), 200, np.uint8)
    over = pictures.draw_meshes(ground, vertices[..., :2], vertices, [faces] * 2)
    side = pictures.draw_view(vertices, [faces] * 2, "front", 40)
    for drawn, plain in ((over, ground), (side, np.full_like(ground, pictures.PAPER))):
        changed = drawn[(drawn != plain).any(-1)].astype(float).mean(0)
        assert changed[0] > changed[2]  # orange: the right hand alone


def test_skeletons_are_thin_closed_and_face_outwards():
    joints = np.random.default_rng(0).normal(0, 0.05, (3, 2, 21, 3))
    mesh = pictures.skeleton_mesh(joints)
    assert mesh.shape == (3, 2, 120, 3)
    edges = pictures.SKELETON_FACES[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    assert {tuple(e) for e in edges.tolist()} == {tuple(e) for e in edges[:, ::-1].tolist()}
    bone = mesh[0, 0].reshape(20, 6, 3)
    np.testing.assert_allclose(bone[:, :2], joints[0, 0][np.array(BONES)])
    middle = bone[:, 2:].mean(1, keepdims=True)
    np.testing.assert_allclose(
        np.linalg.norm(bone[:, 2:] - middle, axis=-1), pictures.BONE_THICKNESS
    )
    corners = mesh[0, 0][pictures.SKELETON_FACES]
    volume = np.linalg.det(corners - bone.mean(1)[np.repeat(np.arange(20), 8), None]).sum() / 6
    assert volume > 0
