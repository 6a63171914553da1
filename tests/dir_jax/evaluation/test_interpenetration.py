import time

import numpy as np
import pytest
import trimesh

from dir_jax.evaluation import interpenetration


def box(low, high):
    mesh = trimesh.creation.box(bounds=np.array([low, high]))
    return np.asarray(mesh.vertices), np.asarray(mesh.faces)


def sphere(centre, radius=0.03, subdivisions=3):
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return np.asarray(mesh.vertices) + centre, np.asarray(mesh.faces)


def volume(first, second, **kwargs):
    vertices = [first[0][None], second[0][None]]
    return interpenetration.intersection_volume_cm3(vertices, [first[1], second[1]], **kwargs)[0]


def test_boxes_overlap_by_whole_voxels():
    # 4 x 3 x 2 cm shared: exactly 8 x 6 x 4 voxels of 0.125 cubic centimetres.
    first = box([0.0, 0.0, 0.0], [0.06, 0.05, 0.04])
    second = box([0.02, 0.02, 0.02], [0.08, 0.08, 0.08])
    assert volume(first, second) == pytest.approx(24.0)


def test_apart_and_touching_share_nothing():
    first = box([0.0, 0.0, 0.0], [0.05, 0.05, 0.05])
    assert volume(first, box([0.2, 0.2, 0.2], [0.3, 0.3, 0.3])) == 0
    assert volume(first, box([0.05, 0.0, 0.0], [0.1, 0.05, 0.05])) == 0


def test_box_inside_a_box_counts_whole():
    outer = box([-0.05, -0.05, 0.9], [0.05, 0.05, 1.1])
    assert volume(box([-0.01, -0.01, 0.95], [0.01, 0.01, 0.99]), outer) == pytest.approx(16.0)


@pytest.mark.parametrize("distance", [0.0, 0.02, 0.045])
def test_spheres_against_the_lens_formula(distance):
    radius = 0.03
    lens = np.pi * (4 * radius + distance) * (2 * radius - distance) ** 2 / 12 * 1e6
    first = sphere([0.0011, -0.0023, 0.7017])
    direction = np.array([0.36, 0.48, 0.8])
    second = sphere(first[0].mean(0) + distance * direction)
    # A 642-vertex sphere lacks about 1 % of its volume, 2 mm voxels about as much.
    assert volume(first, second, voxel=0.002) == pytest.approx(lens, rel=0.03)
    assert volume(first, second) == pytest.approx(lens, rel=0.12, abs=0.5)


def test_open_tube_is_capped():
    mesh = trimesh.creation.cylinder(radius=0.02, height=0.1, sections=16)
    vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces)
    top = (vertices[faces][:, :, 2] > 0.0499).all(1)
    closed, all_faces = interpenetration.close_mesh(vertices, faces[~top])
    capped = trimesh.Trimesh(closed, all_faces, process=False)
    assert capped.is_watertight and capped.is_winding_consistent
    assert capped.volume == pytest.approx(mesh.volume)
    # The first cylinder has no lid: without the cap, columns through it would read as outside.
    wide = box([-0.03, -0.03, 0.0], [0.03, 0.03, 0.1])
    expected = volume((vertices, faces), wide)
    assert expected > 50
    assert volume((vertices, faces[~top]), wide) == expected


def test_random_shapes_agree_with_a_point_in_mesh_oracle():
    rng = np.random.default_rng(3)
    meshes = []
    for centre in ([0.0, 0.0, 0.5], [0.02, 0.013, 0.51]):  # bumpy ellipsoids that fold a little
        points, faces = sphere([0.0, 0.0, 0.0], 0.03, 2)
        turn = trimesh.transformations.random_rotation_matrix(rng.uniform(size=3))[:3, :3]
        points = points * rng.uniform(0.7, 1.3, 3) + 0.003 * rng.normal(size=points.shape)
        meshes.append((points @ turn + centre, faces))
    shift = interpenetration._SHIFT * interpenetration.VOXEL
    index = np.stack(np.meshgrid(*[np.arange(-10, 13)] * 3, indexing="ij"), -1).reshape(-1, 3)
    index[:, 2] += 100
    centres = index * interpenetration.VOXEL + shift
    inside = [winding(v, f, centres) for v, f in meshes]
    expected = np.sum((np.abs(inside[0]) > 0.5) & (np.abs(inside[1]) > 0.5)) * 0.125
    assert expected > 10
    assert volume(*meshes) == pytest.approx(expected)


def winding(vertices, faces, points):
    """Sum of solid angles over 4 pi, the textbook way."""
    a, b, c = (vertices[faces[:, i]][None] - points[:, None] for i in range(3))
    la, lb, lc = (np.linalg.norm(x, axis=-1) for x in (a, b, c))
    top = np.einsum("pfi,pfi->pf", a, np.cross(b, c))
    dot = [(x * y).sum(-1) for x, y in ((a, b), (b, c), (c, a))]
    bottom = la * lb * lc + dot[0] * lc + dot[1] * la + dot[2] * lb
    return np.arctan2(top, bottom).sum(1) / (2 * np.pi)


def test_batch_equals_single_samples_and_nan_is_told():
    first, second = sphere([0, 0, 0.5]), sphere([0, 0, 0.5])
    moves = np.linspace(0, 0.08, 70)[:, None, None] * np.array([1.0, 0.2, 0.1])
    batch = [np.repeat(first[0][None], 70, 0), second[0][None] + moves]
    faces = [first[1], second[1]]
    volumes = interpenetration.intersection_volume_cm3(batch, faces)
    alone = [
        interpenetration.intersection_volume_cm3([b[i : i + 1] for b in batch], faces)[0]
        for i in range(70)
    ]
    np.testing.assert_array_equal(volumes, alone)
    assert (np.diff(volumes) <= 0.5).all() and volumes[0] > 100 and volumes[-1] == 0
    batch[0][3, 5] = np.nan
    again = interpenetration.intersection_volume_cm3(batch, faces)
    assert np.isnan(again[3])
    np.testing.assert_array_equal(np.delete(again, 3), np.delete(volumes, 3))


@pytest.mark.slow
def test_a_thousand_pairs_of_hand_sized_meshes_are_quick():
    first, second = sphere([0, 0, 0.5], 0.06), sphere([0.03, 0, 0.5], 0.06)
    batch = [np.repeat(mesh[0][None], 1000, 0) for mesh in (first, second)]
    begin = time.perf_counter()
    interpenetration.intersection_volume_cm3(batch, [first[1], second[1]])
    assert time.perf_counter() - begin < 30
