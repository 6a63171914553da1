"""Labels made on the device against slow, plain computations of the same things."""

import functools

import jax
import numpy as np
import pytest

import mano_jax
from dir_jax.losses import targets
from dir_jax.models.network import normalise_images
from dir_jax.models.types import IMAGENET_MEAN, IMAGENET_STD, SEGMENTATION_CLASSES
from mano_jax.constants import SIDES
from tests.hands import toy_hands

BATCH = 4
nearest_faces = jax.jit(targets.nearest_faces, static_argnums=4)


@pytest.fixture(scope="module")
def hands():
    return toy_hands()


def make_batch(seed=0):
    """Two hands that cover much of the picture and partly each other; every second one mirrored."""
    rng = np.random.default_rng(seed)
    orient = mano_jax.matrix_from_axis_angle(rng.normal(size=(BATCH, 2, 3)).astype(np.float32))
    centre = np.array([[-0.03, 0.0, 0.6], [0.03, 0.0, 0.6]])
    flip = np.arange(BATCH) % 2 == 1
    camera = np.tile(np.array([[600.0, 0, 131], [0, 590, 122], [0, 0, 1]]), (BATCH, 1, 1))
    camera[flip, 0, 2] = 255 - camera[flip, 0, 2]
    angle = rng.uniform(-np.pi, np.pi, BATCH)
    motion = np.tile(np.eye(3), (BATCH, 1, 1))
    motion[:, 0, 0], motion[:, 0, 1] = np.cos(angle), -np.sin(angle)
    motion[:, 1, 0], motion[:, 1, 1] = np.sin(angle), np.cos(angle)
    motion[flip] = motion[flip] @ np.diag([-1, 1, 1])
    batch = {
        "global_orient": np.asarray(orient),
        "hand_pose": 0.4 * rng.normal(size=(BATCH, 2, 15, 3)),
        "betas": rng.normal(size=(BATCH, 2, 10)),
        "transl": centre + 0.02 * rng.normal(size=(BATCH, 2, 3)),
        "motion": motion,
        "camera": camera,
    }
    batch = {name: value.astype(np.float32) for name, value in batch.items()}
    return batch | {"flip": flip, "hand_valid": np.ones((BATCH, 2), bool)}


@pytest.fixture(scope="module")
def make_targets(hands):
    return jax.jit(functools.partial(targets.targets_from_batch, hands=hands))


def by_rays(vertices_xyz, faces, camera, size=32):
    """First triangle that the ray through each cell's centre meets (Moller and Trumbore, 1997)."""
    pixels = (np.arange(size) + 0.5) * 256 / size
    x, y = np.meshgrid(pixels, pixels)
    rays = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3) @ np.linalg.inv(camera).T
    corners = vertices_xyz.astype(np.float64)[faces]
    edge1, edge2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    numbers, weights = np.full(len(rays), -1), np.zeros((len(rays), 3))
    for i, ray in enumerate(rays):
        normal = np.cross(ray, edge2)
        determinant = (edge1 * normal).sum(-1)
        determinant = np.where(np.abs(determinant) < 1e-18, np.inf, determinant)
        u = (-corners[:, 0] * normal).sum(-1) / determinant
        q = np.cross(-corners[:, 0], edge1)
        v = (ray * q).sum(-1) / determinant
        distance = (edge2 * q).sum(-1) / determinant
        hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (distance > 0)
        if hit.any():
            numbers[i] = np.where(hit, distance, np.inf).argmin()
            u, v = u[numbers[i]], v[numbers[i]]
            weights[i] = 1 - u - v, u, v
    return numbers.reshape(size, size), weights.reshape(size, size, 3)


def test_meshes_are_posed_moved_and_swapped(hands, make_targets):
    batch = make_batch()
    made = make_targets(batch)
    names = ("global_orient", "hand_pose", "betas", "transl")
    for i in range(BATCH):
        for h, side in enumerate(SIDES):
            mesh = mano_jax.pose_hand(
                hands[side], *(batch[name][i, h] for name in names), tips="intaghand"
            )
            row = 1 - h if batch["flip"][i] else h
            for name in ("vertices", "joints"):
                wanted_xyz = np.asarray(getattr(mesh, name), np.float64) @ batch["motion"][i].T
                found_xyz = getattr(made, f"{name}_xyz")[i, row]
                np.testing.assert_allclose(found_xyz, wanted_xyz, atol=1e-6)
                pixels = wanted_xyz @ batch["camera"][i].T
                wanted_uv = pixels[:, :2] / pixels[:, 2:] / 128 - 1
                np.testing.assert_allclose(
                    getattr(made, f"{name}_uv")[i, row], wanted_uv, atol=1e-5
                )


def test_maps_are_what_rays_meet(hands, make_targets):
    batch = make_batch(1)
    made = make_targets(batch)
    colours = targets.dense_colours(hands)
    for i in range(BATCH):
        flip = batch["flip"][i]
        # A mirrored right hand is drawn with the right model's triangles, as a left hand.
        models = ("right", "left") if flip else ("left", "right")
        faces = np.concatenate([hands[side].faces + 778 * h for h, side in enumerate(models)])
        vertices = np.asarray(made.vertices_xyz[i]).reshape(-1, 3)
        face, weights = by_rays(vertices, faces, batch["camera"][i])
        label = np.array(
            [0, SEGMENTATION_CLASSES.index("left"), SEGMENTATION_CLASSES.index("right")]
        )[np.where(face < 0, 0, 1 + face // 1538)]
        assert min((label == k).sum() for k in range(3)) > 20
        # A cell whose centre lies on an edge to rounding may fall either way.
        assert (label != np.asarray(made.segmentation[i])).sum() <= 1
        dense = np.einsum("yxk,yxkc->yxc", weights, np.tile(colours, (2, 1))[faces[face]])
        difference = np.abs(dense - np.asarray(made.dense[i])).max(-1)
        assert (difference > 1e-4).sum() <= 1


def test_hidden_and_impossible_hands_are_not_drawn(make_targets):
    batch = make_batch(2)
    batch["hand_valid"] = np.array([[True, False], [False, True], [False, False], [True, True]])
    batch["transl"][3, :, 2] = -0.6  # behind the camera
    made = make_targets(batch)
    left = SEGMENTATION_CLASSES.index("left")
    seen = [set(np.unique(s)) for s in made.segmentation]
    # The second example is mirrored: its right hand shows as a left one.
    assert seen == [{0, left}, {0, left}, {0}, {0}]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(made))


def test_nearer_triangle_wins_however_it_winds():
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float32) * 0.5
    vertices = np.concatenate([square, square * 0.5, [[0, 0]] * 3])[None]
    depth = np.array([0.5] * 4 + [0.4] * 4 + [0.1] * 3, np.float32)[None]
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 6, 5], [7, 6, 4], [8, 9, 10]])
    shown = np.ones((1, 5), bool)
    face = np.asarray(nearest_faces(vertices, depth, faces, shown, 8).face[0])
    assert set(face[3:5, 3:5].ravel()) <= {2, 3}
    assert set(face[2, 2:6]) <= {0, 1}
    assert (face[:2] == -1).all() and (face[:, 6:] == -1).all()
    shown[:, 2:] = False
    face = np.asarray(nearest_faces(vertices, depth, faces, shown, 8).face[0])
    assert set(face[2:6, 2:6].ravel()) == {0, 1}


def test_triangles_of_every_size_meet_in_one_map():
    """Against a loop over cells and triangles: from a tenth of a cell to far beyond the map."""
    generator = np.random.default_rng(0)
    count, size = 300, 16
    extent = np.exp(generator.uniform(np.log(0.01), np.log(0.4), (count, 1, 1)))
    extent[:3] = 4
    corners = generator.uniform(-1.2, 1.2, (count, 1, 2))
    corners = (corners + extent * generator.uniform(-1, 1, (count, 3, 2))).astype(np.float32)
    depth = generator.uniform(0.3, 3, (count, 3)).astype(np.float32)
    depth[:3] = [[5.0], [5.1], [5.2]]
    faces = np.arange(3 * count).reshape(count, 3)
    shown = np.ones((1, count), bool)
    found = nearest_faces(corners.reshape(1, -1, 2), depth.reshape(1, -1), faces, shown, size)
    centres = (2 * np.arange(size) + 1) / size - 1
    cells = np.stack(np.meshgrid(centres, centres), -1)
    edges = np.concatenate([corners.astype(float), np.ones((count, 3, 1))], -1)
    weights = np.einsum("yxk,fkc->yxfc", np.insert(cells, 2, 1, -1), np.linalg.inv(edges))
    nearness = np.where((weights >= 0).all(-1), (weights / depth).sum(-1), 0)
    wanted = np.where(nearness.max(-1) > 0, nearness.argmax(-1), -1)
    assert 50 < len(np.unique(wanted)) and (wanted < 0).sum() > 5
    np.testing.assert_array_equal(found.face[0], wanted)


def test_images_are_normalised():
    images = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), np.uint8)
    wanted = (images / 255.0 - IMAGENET_MEAN) / IMAGENET_STD
    found = normalise_images(images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-6)
