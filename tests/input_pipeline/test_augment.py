"""Augmentation against the reference's numbers, and its promises about randomness."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from input_pipeline import augment
from input_pipeline.augment import AugmentConfig
from input_pipeline.crop import MARGIN, STORED_SIZE

STILL = AugmentConfig(
    rotation_degrees=0, scale=0, translation_px=0, flip=0, blur=0, gain=0, brightness=0, noise=0
)


@pytest.fixture(scope="module")
def golden(golden_dir):
    return dict(np.load(golden_dir / "augmentation.npz"))


def project(camera, points_xyz):
    homogeneous = points_xyz @ np.asarray(camera, np.float64).T
    return homogeneous[..., :2] / homogeneous[..., 2:]


def golden_geometry(golden, case):
    rotation, scale, tx, ty, flip = golden["params_rotdeg_scale_tx_ty_flip"][case]
    return augment.geometry(rotation, scale, (tx, ty), bool(flip), golden["camera"]), bool(flip)


@pytest.mark.parametrize("case", range(6))
def test_geometry_meets_the_reference(golden, case):
    (affine, motion, camera), flip = golden_geometry(golden, case)
    moved_xyz = golden["joints_xyz_left_right"] @ np.asarray(motion).T
    moved_px = np.pad(golden["joints_px_left_right"], ((0, 0), (0, 0), (0, 1)), constant_values=1)
    moved_px = (moved_px @ np.asarray(affine).T)[..., :2]
    if flip:
        moved_xyz, moved_px = moved_xyz[::-1], moved_px[::-1]
    # The reference keeps its matrices in float32: 3e-5 px.
    np.testing.assert_allclose(moved_px, golden[f"{case}/joints_px_left_right"], atol=1e-4)
    # Points and pixels agree after the mirror too, which the reference's do not.
    np.testing.assert_allclose(project(camera, moved_xyz), moved_px, atol=1e-9)
    if not flip:
        np.testing.assert_allclose(moved_xyz, golden[f"{case}/joints_xyz_left_right"], atol=1e-7)
    np.testing.assert_array_equal(np.asarray(motion)[2], [0, 0, 1])


@pytest.mark.parametrize("case", range(6))
def test_image_meets_the_reference(golden, case):
    (affine, _, _), _ = golden_geometry(golden, case)
    image = tf.constant(golden["image"])
    data = tf.data.Dataset.from_tensors(affine).map(lambda a: augment.warp(image, a))
    result = next(data.as_numpy_iterator())
    difference = np.abs(np.round(result) - golden[f"{case}/image"])
    # cv2 rounds positions to 1/32 pixel; the image is smooth but for its black border.
    assert difference.mean() < 0.5


def test_margin_fills_the_corners():
    stored = tf.constant(np.full((STORED_SIZE, STORED_SIZE, 3), 200, np.uint8))
    for rotation in range(0, 360, 15):
        affine, _, _ = augment.geometry(rotation, 0.9, (10, -10), True, np.eye(3))
        assert augment.warp(stored, affine).numpy().min() > 199


def test_nothing_drawn_changes_nothing():
    image = np.random.default_rng(0).integers(0, 255, (STORED_SIZE, STORED_SIZE, 3), np.uint8)
    camera = np.array([[900, 0, 131], [0, 890, 122], [0, 0, 1.0]], np.float32)
    draws = augment.draw(augment.example_seed(1, 2, 3), STILL)
    result = augment.augment_example(tf.constant(image), tf.constant(camera), draws, STILL)
    np.testing.assert_array_equal(result["image"], image[MARGIN:-MARGIN, MARGIN:-MARGIN])
    np.testing.assert_allclose(result["motion"], np.eye(3), atol=1e-6)
    np.testing.assert_allclose(result["camera"], camera, rtol=1e-6)
    plain = augment.central_crop(tf.constant(image), tf.constant(camera))
    np.testing.assert_array_equal(plain["image"], result["image"])
    assert set(plain) == set(result)


def test_draws_depend_on_seed_epoch_and_example_only():
    config = AugmentConfig()

    def values(seed, epoch, index):
        draws = augment.draw(augment.example_seed(seed, epoch, index), config)
        return np.concatenate([np.ravel(v).astype(np.float64) for v in draws.values()])

    first = values(5, 1, 7)
    np.testing.assert_array_equal(first, values(5, 1, 7))
    for other in [(6, 1, 7), (5, 2, 7), (5, 1, 8), (1, 5, 7)]:
        assert np.abs(values(*other) - first).max() > 1e-3


def test_draws_cover_the_ranges():
    config = AugmentConfig()
    drawn = tf.data.Dataset.range(4000).map(
        lambda i: augment.draw(augment.example_seed(3, 0, i), config)
    )
    drawn = next(drawn.batch(4000).as_numpy_iterator())
    ranges = {
        "rotation_degrees": (-180, 180), "scale": (0.9, 1.1), "translation_px": (-10, 10),
        "gain": (0.7, 1.3), "brightness": (-12.75, 12.75), "blur_angle": (-np.pi, np.pi),
    }  # fmt: skip
    for name, (low, high) in ranges.items():
        width = high - low
        assert low <= drawn[name].min() < low + width / 100, name
        assert high >= drawn[name].max() > high - width / 100, name
        # Uniform: the mean of 4000 draws strays by 0.29 * width / 63.
        np.testing.assert_allclose(drawn[name].mean(0), (low + high) / 2, atol=0.02 * width)
    assert abs(drawn["flip"].mean() - 0.5) < 0.03
    assert abs(drawn["blur"].mean() - 0.3) < 0.03
    lengths, counts = np.unique(drawn["blur_length"], return_counts=True)
    assert list(lengths) == list(range(3, 10)) and counts.min() > 450
    correlation = np.corrcoef(
        np.stack([drawn["rotation_degrees"], drawn["scale"], drawn["flip"], drawn["brightness"]])
    )
    assert np.abs(correlation - np.eye(4)).max() < 0.06


def test_blur_is_filtering():
    image = np.random.default_rng(1).uniform(0, 255, (40, 50, 3)).astype(np.float32)
    kernel = augment.blur_kernel(8, 0.7).numpy()
    expected = cv2.filter2D(image, -1, kernel)[4:-4, 4:-4]
    np.testing.assert_allclose(augment.blur(tf.constant(image), 8, 0.7), expected, atol=1e-3)


def test_colour_and_noise():
    image = tf.fill((256, 256, 3), 100.0)
    result = augment.recolour(image, tf.constant([0.8, 1.0, 1.2]), 5.0, 2.55, (1, 2)).numpy()
    np.testing.assert_allclose(result.mean((0, 1)), [85, 105, 125], atol=0.05)
    # Rounding to whole levels adds a variance of 1/12.
    np.testing.assert_allclose(result.std((0, 1)), np.sqrt(2.55**2 + 1 / 12), atol=0.05)
    values = result[..., 0].ravel().astype(float)
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.02
    kurtosis = ((values - values.mean()) ** 4).mean() / values.var() ** 2
    assert abs(kurtosis - 3) < 0.2
    bright = augment.recolour(image, tf.constant([9.0, 9.0, 9.0]), 0.0, 0.0, (1, 2)).numpy()
    dark = augment.recolour(image, tf.constant([0.0, 0.0, 0.0]), -20.0, 0.0, (1, 2)).numpy()
    assert bright.min() == 255 and dark.max() == 0


def test_a_patch_of_one_colour_hides_a_part():
    image = tf.fill([256, 256, 3], 300.0)  # no patch has this level
    shares = []
    for number in range(30):
        seed = augment.example_seed(1, 0, number)
        hidden = augment.occlude(image, 1.0, seed).numpy()
        inside = (hidden != 300).all(-1)
        assert len(np.unique(hidden[inside], axis=0)) == 1
        shares.append(inside.mean())
        np.testing.assert_array_equal(augment.occlude(image, 0.0, seed), image)
    assert 0.001 < min(shares) and max(shares) < 0.25 and np.ptp(shares) > 0.05


def test_recompression_loses_little_and_only_sometimes():
    y, x = np.mgrid[:256, :256]
    levels = np.stack([x, y, (x + y) // 2], -1) + np.random.default_rng(0).integers(
        -9, 9, (256, 256, 1)
    )
    image = tf.constant(np.clip(levels, 0, 255).astype(np.uint8))
    changed = 0
    for number in range(20):
        seed = augment.example_seed(1, 0, number)
        again = augment.recompress(image, 0.5, seed).numpy().astype(int)
        difference = np.abs(again - image.numpy())
        changed += bool(difference.any())
        assert difference.mean() < 8
    assert 4 < changed < 16


def test_a_pipeline_with_everything_keeps_shape_and_type(golden):
    config = AugmentConfig(jpeg=1.0, occlusion=1.0)
    image = tf.zeros([STORED_SIZE, STORED_SIZE, 3], tf.uint8)
    draws = augment.draw(augment.example_seed(0, 0, 0), config)
    result = tf.function(augment.augment_example)(image, golden["camera"], draws, config)
    assert result["image"].shape == (256, 256, 3) and result["image"].dtype == tf.uint8
    assert result["image"].numpy().any()
