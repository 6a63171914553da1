"""The crop equals the reference's, and the stored window holds it in its middle."""

import subprocess
import sys

import numpy as np
import pytest

from input_pipeline import crop
from input_pipeline.crop import CROP_SIZE, STORED_SIZE


@pytest.fixture(params=["0", "1"])
def case(request, golden_dir):
    with np.load(golden_dir / "crop.npz") as golden:
        prefix = request.param + "/"
        return {k.removeprefix(prefix): golden[k] for k in golden.files if k.startswith(prefix)}


def test_positions_and_camera_equal_the_reference(case):
    square = crop.square_around(case["vertices_px_left_right"])
    points = crop.crop_points(case["vertices_px_left_right"], square)
    np.testing.assert_allclose(points, case["crop_vertices_px_left_right"], rtol=1e-6)
    np.testing.assert_allclose(
        crop.crop_camera(case["camera"], square), case["crop_camera"], rtol=1e-6
    )
    # By definition the hands fill 0.8 of the side and sit in the middle.
    low, high = points.reshape(-1, 2).min(0), points.reshape(-1, 2).max(0)
    assert (high - low).max() == pytest.approx(0.8 * CROP_SIZE)
    np.testing.assert_allclose((low + high) / 2, CROP_SIZE / 2)


def test_image_equals_the_reference(case):
    square = crop.square_around(case["vertices_px_left_right"])
    image = crop.crop_image(case["image"], square)
    difference = np.abs(image.astype(int) - case["crop"])
    assert difference.mean() < 1  # OpenCV's resampling changed between versions
    # A wrong sub-pixel convention would show: half a pixel of the photo moves more than that.
    moved = crop.crop_image(case["image"], square + [0.5, 0.5, 0])
    assert np.abs(moved.astype(int) - case["crop"]).mean() > 5 * max(difference.mean(), 0.1)


def test_the_margin_covers_every_rotation():
    corner = (CROP_SIZE / 2 + 10) * np.sqrt(2) / 0.9
    assert STORED_SIZE / 2 >= corner > STORED_SIZE / 2 - 4


def test_a_box_gives_the_square_of_its_corners():
    square = crop.square_around_box([10, 20, 100, 60])
    np.testing.assert_allclose(square, [60, 50, 100 / 2 / 0.8])
    with pytest.raises(ValueError, match="positive width"):
        crop.square_around_box([0, 0, 0, 5])


@pytest.mark.parametrize("points", [[[1.0, 2.0], [1.0, 2.0]], [[np.nan, 0], [1, 1]]])
def test_points_without_extent_are_refused(points):
    with pytest.raises(ValueError, match="square"):
        crop.square_around(np.array(points))


def test_prediction_and_reading_raw_data_need_no_tensorflow():
    """Only what writes or reads prepared data does: everything else imports in a second."""
    code = "import sys\nfor name in ('tensorflow', 'tensorflow_datasets', 'array_record'):\n"
    code += "    sys.modules[name] = None\n"
    code += "import dir_jax.prediction.command\n"
    code += "from input_pipeline import check, crop, dataset, prepare, render, shards\n"
    subprocess.run([sys.executable, "-c", code], check=True)
