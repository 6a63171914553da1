"""True hands of a synthesised photograph, drawn as a reconstruction would be, cover its hands.

The mask comes from the photograph's own brightness: another camera, another projection, another
renderer path than the drawing's.
"""

import dataclasses

import cv2
import numpy as np
import pytest

import mano_jax
from dir_jax.models.types import LENGTH_SCALE, Stage
from dir_jax.prediction.outputs import joints_and_boxes, overlay
from dir_jax.prediction.photos import photo_from_image
from input_pipeline.crop import crop_points, square_around
from input_pipeline.synthetic import photograph, studio
from mano_jax.constants import SIDES
from tests.dir_jax.prediction.known_hands import result_with


@pytest.fixture(scope="module")
def hands():
    return mano_jax.open_hands()


def posed(hands, camera, rng):
    """Vertices (2, 778, 3) and joints (2, 21, 3) 1.4 m away, crossed, in the picture's middle."""
    middle = (np.array(camera.size[::-1]) / 2 - camera.princpt) / camera.focal * 1.4
    vertices, joints = [], []
    for index, side in enumerate(SIDES):
        orient = mano_jax.matrix_from_axis_angle(rng.normal(0, 0.6, 3))
        mesh = mano_jax.pose_hand(
            hands[side], orient, rng.normal(0, 0.15, (15, 3)), np.zeros(10), root_joint=9
        )
        place = np.array([*middle + [0.05 * index - 0.02, 0.02 * index], 1.4 + 0.05 * index])
        vertices.append(np.asarray(mesh.vertices) + place)
        joints.append(np.asarray(mesh.joints) + place)
    return np.stack(vertices).astype(np.float64), np.stack(joints).astype(np.float64)


def take(hands, seed):
    """A photograph of nothing but the two hands, evenly bright before a black ground."""
    capture = studio.capture(1, 1, (seed,), studio.Variety())
    capture = dataclasses.replace(capture, backdrop="dark")
    camera = capture.cameras[seed]
    vertices, joints = posed(hands, camera, np.random.default_rng(seed))
    faces = [hands[side].faces for side in SIDES]
    parts = [
        photograph.Lit(
            vertices=hand @ camera.rotation + camera.position,
            faces=np.concatenate([part, part[:, ::-1]]),  # one can look into the wrist
            normals=np.tile(-camera.rotation[2], (len(hand), 1)),
            light=np.full((len(hand), 3), 0.7),
            shares=np.zeros((len(capture.lights), len(hand))),
            shine=np.zeros(len(hand)),
            sharpness=np.ones(len(hand)),
            cloth=None,
        )
        for hand, part in zip(vertices, faces, strict=True)
    ]
    image = photograph.photograph(parts, capture, camera, np.random.default_rng(seed))
    return image, camera, vertices, joints


def answer(vertices, joints, camera, square):
    """What a network that is always right would say."""
    wrists = joints[:, :1]

    def uv(points):
        pixels = points[..., :2] / points[..., 2:] * camera.focal + camera.princpt
        return 2 * crop_points(pixels, square) / 256 - 1

    return Stage(
        np.zeros((2, 64), np.float32),
        (wrists[1, 0] - wrists[0, 0]) / LENGTH_SCALE,
        joints - wrists,
        vertices - wrists,
        uv(joints),
        uv(vertices),
    )


def coverage(result):
    """(h, w) how much of each pixel the drawing hides: what black and white photos differ by."""
    on = [
        overlay(dataclasses.replace(result, photo=photo))
        for photo in (
            result.photo._replace(image=np.full_like(result.photo.image, value))
            for value in (0, 255)
        )
    ]
    return 1 - (on[1].astype(float) - on[0])[..., 0] / 255


@pytest.mark.parametrize("seed", range(3))
def test_the_drawn_silhouette_is_the_hands(hands, seed):
    image, camera, vertices, joints = take(hands, seed)
    flat = vertices.reshape(-1, 3)
    pixels = flat[:, :2] / flat[:, 2:] * camera.focal + camera.princpt
    low, high = pixels.min(0), pixels.max(0)
    photo = photo_from_image(image, "synthetic", (*low, *(high - low)))
    np.testing.assert_allclose(photo.square, square_around(pixels))
    result = result_with(photo, [answer(vertices, joints, camera, photo.square)], hands)

    grey = cv2.GaussianBlur(image.astype(np.float32).mean(-1), (0, 0), 0.6)
    inside = grey[tuple(np.rint(pixels[:, ::-1]).astype(int).T)]
    mask = grey > np.median(inside) / 2
    drawn = coverage(result) > 0.5 * 0.9
    shared, both = (mask & drawn).sum(), (mask | drawn).sum()
    assert mask.sum() > 2000
    assert shared / both > 0.95, f"{shared / both:.3f}"

    # The joints lie on the hands, and the box drawn around them touches them on all sides.
    thick = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    at = np.rint(result.joints_px[-1].reshape(-1, 2)).astype(int)
    assert thick[at[:, 1], at[:, 0]].mean() > 0.95
    assert joints_and_boxes(result).shape == image.shape
