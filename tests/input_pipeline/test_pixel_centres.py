"""Photograph, crop, augmented image: what is seen lies at its label to a tenth of a pixel.

The oracle is a small disc that faces the camera: its image's centroid (mean pixel number, weighted
by brightness) is its centre's projection exactly, if whole numbers are pixel centres.
"""

import dataclasses

import numpy as np
import pytest

from input_pipeline import crop
from input_pipeline.crop import CROP_SIZE, MARGIN
from input_pipeline.synthetic import photograph, studio

DISC_PX = 8.0
EDGE = 40
SEEDS = range(6)


def scene(seed):
    """A synthetic photograph of one bright disc; its centre (3,) in camera axes; the camera."""
    rng = np.random.default_rng(seed)
    capture = studio.capture(1, 1, (seed,), studio.Variety())
    capture = dataclasses.replace(capture, backdrop="dark")
    camera = capture.cameras[seed % len(capture.cameras)]
    pixel = rng.uniform(60, np.array(camera.size[::-1]) - 60)
    depth = rng.uniform(0.9, 1.1)
    centre = np.array([*(pixel - camera.princpt) / camera.focal, 1.0]) * depth
    angle = np.linspace(0, 2 * np.pi, EDGE, endpoint=False)
    rim = np.stack([np.cos(angle), np.sin(angle), 0 * angle], -1) * DISC_PX / camera.focal[0]
    seen = np.concatenate([centre[None], centre + rim * depth])
    first = np.arange(1, EDGE + 1)
    fan = np.stack([np.zeros(EDGE, int), first % EDGE + 1, first], -1)
    count = len(seen)
    part = photograph.Lit(
        vertices=seen @ camera.rotation + camera.position,
        faces=fan,
        normals=np.tile(-camera.rotation[2], (count, 1)),
        light=np.full((count, 3), 0.6),
        shares=np.zeros((len(capture.lights), count)),
        shine=np.zeros(count),
        sharpness=np.ones(count),
        cloth=None,
    )
    return photograph.photograph([part], capture, camera, rng), centre, camera


def centroid(picture, near):
    """Mean column and row of what is brighter than half of the brightest, around a place."""
    low = np.round(near).astype(int) - 20
    window = picture[low[1] : low[1] + 41, low[0] : low[0] + 41].astype(float).mean(-1)
    weight = np.clip(window - window.max() / 2, 0, None)
    rows, columns = np.mgrid[:41, :41]
    return low + np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()


def square_about(pixel):
    """A crop whose scale differs from one, so that a wrong half pixel cannot cancel."""
    return np.array([*pixel + [7.3, -4.8], 80.0])


@pytest.mark.parametrize("seed", SEEDS)
def test_photograph_and_crop_show_the_disc_at_its_label(seed):
    photo, centre, camera = scene(seed)
    label = crop.project(camera.matrix, centre)
    np.testing.assert_allclose(centroid(photo, label), label, atol=0.1)
    square = square_about(label)
    label = crop.project(crop.crop_camera(camera.matrix, square), centre)
    found = centroid(crop.crop_image(photo, square), label)
    np.testing.assert_allclose(found, label, atol=0.15)  # pixels of the crop are finer


@pytest.mark.parametrize("flip", [False, True])
def test_the_augmented_image_shows_the_disc_at_its_label(flip):
    from input_pipeline import augment

    for seed in SEEDS:
        photo, centre, camera = scene(seed)
        square = square_about(crop.project(camera.matrix, centre))
        window = crop.crop_image(photo, square, margin=MARGIN)
        intrinsics = crop.crop_camera(camera.matrix, square)
        affine, motion, moved_camera = augment.geometry(
            50.0 * seed, 0.9 + 0.03 * seed, [4.5, -7.2], flip, intrinsics
        )
        image = augment.warp(window, affine).numpy()
        label = crop.project(moved_camera.numpy(), motion.numpy() @ centre)
        assert (label > 25).all() and (label < CROP_SIZE - 25).all()
        np.testing.assert_allclose(centroid(image, label), label, atol=0.15)
