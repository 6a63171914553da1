"""Photographs in the accelerator's memory: crops that change as the input pipeline's do."""

import io
import json
import time

import cv2
import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import base, smoke
from input_pipeline.crop import CROP_SIZE, MARGIN, STORED_SIZE
from tools import train_resident

CAMERA = np.array([[500, 0, 120], [0, 520, 140], [0, 0, 1]], np.float32)


def ranges(**changes) -> ConfigDict:
    nothing = dict.fromkeys(base.get_config().data.augmentation, 0.0)
    return ConfigDict(nothing | {"blur_lengths": (3, 9)} | changes)


def changed(window, seed=0, **changes):
    change = jax.jit(
        lambda window, key: train_resident.changed_crop(window, CAMERA, key, ranges(**changes))
    )
    with jax.default_matmul_precision("highest"):
        return [np.asarray(value) for value in change(window, jax.random.key(seed))]


def noise(seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (55, 55, 3), np.uint8)
    return cv2.resize(coarse, (STORED_SIZE, STORED_SIZE), interpolation=cv2.INTER_CUBIC)


def test_nothing_changes_where_nothing_may():
    window = noise()
    image, motion, camera, flip = changed(window)
    np.testing.assert_array_equal(image, window[MARGIN:-MARGIN, MARGIN:-MARGIN])
    np.testing.assert_allclose(motion, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(camera, CAMERA, atol=1e-4)
    assert not flip


@pytest.mark.parametrize("seed", range(4))
def test_pixels_and_points_move_alike(seed):
    """A dot is seen where its point in space is projected to."""
    place = np.array([100.0, 150.0])
    window = np.zeros((STORED_SIZE, STORED_SIZE, 3), np.uint8)
    centre = (place + MARGIN).astype(int).tolist()
    cv2.circle(window, centre, 6, (255, 255, 255), -1)
    flip = float(seed % 2)
    image, motion, camera, flipped = changed(
        window, seed, rotation_degrees=45.0, scale=0.25, translation_px=20.0, flip=flip
    )
    assert flipped == flip
    point = 0.7 * np.linalg.inv(CAMERA) @ [*place, 1]
    seen = camera @ motion @ point
    weights = image[..., 0].astype(float)
    grid = np.arange(CROP_SIZE)
    found = [(weights.sum(axis) * grid).sum() / weights.sum() for axis in (0, 1)]
    np.testing.assert_allclose(found, seen[:2] / seen[2], atol=0.3)


def test_compression_is_jpegs():
    crop = noise()[MARGIN:-MARGIN, MARGIN:-MARGIN]
    quality = 30
    ours = np.asarray(
        jax.jit(train_resident._compressed)(crop.astype(np.float32), True, (quality - 20) / 70)
    )
    options = [cv2.IMWRITE_JPEG_QUALITY, quality,
               cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]  # fmt: skip
    _, data = cv2.imencode(".jpg", crop[..., ::-1], options)
    theirs = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1].astype(float)
    lost = np.abs(theirs - crop).mean()
    # JPEG has a coarser table of its own for colours; brightness is what is seen.
    brightness = train_resident.TO_YCC[0]
    assert np.abs((ours - theirs) @ brightness).mean() < 0.2 * lost
    untouched = jax.jit(train_resident._compressed)(crop.astype(np.float32), False, 0.5)
    np.testing.assert_array_equal(untouched, crop)


def test_a_network_trains_on_what_was_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train_resident, "VALIDATION_PHOTOGRAPHS", 2)
    config = smoke.get_config()
    config.data.synthesize_variety = "everyday"
    config.model.update(stages=0, image_stride=2)
    monkeypatch.setattr(train_resident.recipe, "get_config", lambda: config)
    until = time.time() + 1000
    for split, seed in (("val", 0), ("train", 1000)):
        train_resident.draw(tmp_path, split, seed, 2, until)
    found = train_resident.read(tmp_path / "train_001000.npz")
    assert found["image"].shape == (2, STORED_SIZE, STORED_SIZE, 3)
    assert found["global_orient"].shape == (2, 2, 3, 3)
    output = tmp_path / "w.safetensors"
    status = train_resident.main(
        ["train", "--photographs", str(tmp_path), "--seconds", "0.1", "--output", str(output),
         "--batch", "2", "--steps", "1", "--capacity", "3"]
    )  # fmt: skip
    lines = [json.loads(line) for line in io.StringIO(capsys.readouterr().out)]
    assert status == 0 and output.is_file()
    assert lines[0]["photographs"] == 2 and np.isfinite(lines[0]["loss"])
    assert lines[-1]["mpjpe_mm"] > 0
