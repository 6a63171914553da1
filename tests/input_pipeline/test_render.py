import numpy as np
import pytest

from input_pipeline import render

CAMERA = np.array([[310.0, 2.0, 41.3], [0.0, 295.0, 27.8], [0.0, 0.0, 1.0]])
SIZE = (60, 80)


def brute_force(vertices, faces, values, camera, size):
    """Point-in-triangle test at every pixel centre, in float64; depth from the plane equation.

    Also returns how near each pixel centre is to some edge: there rounding decides.
    """
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    rays = np.stack([columns, rows, np.ones(size)], -1) @ np.linalg.inv(camera).T
    depth, value = np.full(size, np.inf), np.zeros((*size, values.shape[1]))
    margin = np.full(size, np.inf)
    for face in faces:
        # A ray t * r meets the plane of the corners where t * r = corners.T @ weights.
        try:
            weights = rays @ np.linalg.inv(vertices[face].T).T
        except np.linalg.LinAlgError:
            continue
        total = weights.sum(-1)
        shares = weights / total[..., None]
        margin = np.minimum(margin, np.abs(shares).min(-1))
        nearer = (shares >= 0).all(-1) & (total > 0) & (1 / total < depth)
        depth[nearer] = (1 / total)[nearer]
        value[nearer] = (shares @ values[face])[nearer]
    return value, depth, margin


def random_soup(seed, count=25):
    generator = np.random.default_rng(seed)
    vertices = generator.normal(size=(40, 3)) * [0.12, 0.1, 0.1] + [0, 0, 0.8]
    vertices[:, 2] = np.maximum(vertices[:, 2], 0.3)
    return vertices, generator.integers(0, 40, (count, 3)), generator.random((40, 3))


@pytest.mark.parametrize("seed", range(6))
def test_every_pixel_as_brute_force_says(seed):
    vertices, faces, colours = random_soup(seed)
    faces = faces[[len(set(face)) == 3 for face in faces.tolist()]]
    rgb, depth = render.render_meshes([(vertices, faces, colours)], CAMERA, SIZE)
    value, wanted, margin = brute_force(vertices, faces, colours, CAMERA, SIZE)
    clear = margin > 1e-4
    assert clear.mean() > 0.95
    np.testing.assert_array_equal(np.isfinite(depth)[clear], np.isfinite(wanted)[clear])
    drawn = clear & np.isfinite(wanted)
    assert drawn.sum() > 500
    np.testing.assert_allclose(depth[drawn], wanted[drawn], atol=2e-5)
    assert np.quantile(np.abs(rgb - value)[drawn], 0.999) < 2e-3
    assert not rgb[~np.isfinite(depth)].any()


def test_the_nearer_of_two_meshes_hides_the_other_in_either_order():
    def square(z):
        corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * 0.05
        return corners + [0, 0, z], np.array([[0, 1, 2], [0, 2, 3]])

    red, blue = np.tile([1.0, 0, 0], (4, 1)), np.tile([0, 0, 1.0], (4, 1))
    meshes = [(*square(0.6), red), (*square(0.9), blue)]
    for order in (meshes, meshes[::-1]):
        rgb, depth = render.render_meshes(order, CAMERA, SIZE)
        np.testing.assert_allclose(rgb[28, 41], [1, 0, 0], atol=1e-6)
        np.testing.assert_allclose(depth[28, 41], 0.6, rtol=1e-5)


def test_both_windings_are_drawn():
    away = np.array([[-0.05, -0.05, 1], [0.05, -0.05, 1], [0, 0.08, 1]])
    ones = np.ones((3, 3))

    for face in ([0, 1, 2], [0, 2, 1]):
        mesh = (away, np.array([face]), ones)
        assert np.isfinite(render.render_meshes([mesh], CAMERA, SIZE)[1]).any()
    normal = render.vertex_normals(away, np.array([[0, 2, 1]]))
    np.testing.assert_allclose(normal, np.tile([0, 0, -1.0], (3, 1)), atol=1e-12)


def test_supersampling_averages_and_keeps_the_place():
    vertices, faces, colours = random_soup(3)
    fine, fine_depth = render.render_meshes(
        [(vertices, faces, colours)], np.diag([4, 4, 1]) @ CAMERA, (240, 320)
    )
    rgb, depth = render.render_meshes([(vertices, faces, colours)], CAMERA, SIZE, supersample=4)
    mean = fine.reshape(60, 4, 80, 4, 3).mean((1, 3))
    np.testing.assert_allclose(rgb, mean, atol=1e-5)
    np.testing.assert_array_equal(depth, fine_depth.reshape(60, 4, 80, 4).min((1, 3)))


def test_background_shows_where_nothing_is_drawn():
    vertices, faces, colours = random_soup(5, count=4)
    background = np.random.default_rng(0).random((*SIZE, 3)).astype(np.float32)
    rgb, depth = render.render_meshes(
        [(vertices, faces, colours)], CAMERA, SIZE, background=background
    )
    empty = ~np.isfinite(depth)
    assert 0 < empty.sum() < empty.size
    np.testing.assert_array_equal(rgb[empty], background[empty])
    rgb, depth = render.render_meshes([], CAMERA, SIZE, background=background)
    np.testing.assert_array_equal(rgb, background)
    assert np.isinf(depth).all()


def test_more_than_three_values_at_a_vertex():
    vertices, faces, _ = random_soup(7)
    values = np.random.default_rng(1).random((40, 7))
    picture, depth = render.render_meshes([(vertices, faces, values)], CAMERA, SIZE)
    assert picture.shape == (*SIZE, 7)
    again, _ = render.render_meshes([(vertices, faces, values[:, 5:])], CAMERA, SIZE)
    np.testing.assert_array_equal(picture[..., 5:], again)
    assert not picture[np.isinf(depth)].any()
    nothing, same = render.render_meshes([(vertices, faces, values[:, :0])], CAMERA, SIZE)
    assert nothing.shape == (*SIZE, 0)
    np.testing.assert_array_equal(same, depth)


def test_shading_is_lambert():
    corners = np.array([[0, 0, 1.0], [0, 1, 1], [1, 0, 1]])  # looks to -z
    colours = render.shade(corners, np.array([[0, 1, 2]]), (0.5, 0.4, 0.2))
    strength = render.AMBIENT + render.DIFFUSE / np.sqrt(0.4**2 + 0.7**2 + 1)
    np.testing.assert_allclose(colours, np.tile([0.5, 0.4, 0.2], (3, 1)) * strength, rtol=1e-6)


@pytest.mark.parametrize(
    ("mesh", "word"),
    [
        ((np.zeros((4, 2)), np.zeros((1, 3), int), np.zeros((4, 3))), "vertices"),
        ((np.zeros((4, 3)), np.zeros((1, 4), int), np.zeros((4, 3))), "faces"),
        ((np.zeros((4, 3)), np.zeros((1, 3), int), np.zeros((3, 3))), "values"),
    ],
)
def test_wrong_shapes_are_named(mesh, word):
    with pytest.raises(ValueError, match=word):
        render.render_meshes([mesh], CAMERA, SIZE)
