"""A folder of photographs with boxes and joints, prepared for evaluation."""

import json

import cv2
import numpy as np
import pytest

from input_pipeline import crop, dataset, prepare
from input_pipeline.image_files import decode_photo
from input_pipeline.sources.folder import FolderSplit
from input_pipeline.troubles import Trouble
from mano_jax import save_npz
from tests.hands import toy_hands


def entry(number, **changes):
    rng = np.random.default_rng(number)
    joints = (rng.normal(size=(2, 21, 3)) * 0.05 + [0, 0, 0.6]).tolist()
    joints[1][5] = None
    values = dict(
        file_name=f"a/{number}.png",
        box=[40, 30, 160, 120],
        camera=[[500.0, 0, 160], [0, 505.0, 120], [0, 0, 1]],
        joints_xyz=joints,
        sequence="walking",
        frame=number,
    )
    return {**values, **changes}


def write_folder(root, entries):
    (root / "images" / "a").mkdir(parents=True)
    for number in range(len(entries)):
        image = np.random.default_rng(number).integers(40, 255, (12, 16, 3), np.uint8)
        image = cv2.resize(image, (320, 240))
        cv2.imwrite(str(root / "images" / "a" / f"{number}.png"), image)
    (root / "annotations.json").write_text(json.dumps({"images": entries}))


def test_photographs_become_records(tmp_path):
    plain = {"file_name": "a/1.png", "box": [10, 10, 50, 80]}
    single = entry(2, hand_type="left", joints_xyz=[entry(2)["joints_xyz"][0], None])
    write_folder(tmp_path / "raw", [entry(0), plain, single])
    save_npz(toy_hands(), tmp_path)
    for config, count in (("interacting", 2), ("all", 3)):
        arguments = ["--source", tmp_path / "raw", "--output", tmp_path / "out"]
        arguments += ["--mano", tmp_path, "--workers", 1, "--config", config]
        assert prepare.main([str(a) for a in arguments]) == 0
        stored = dataset.open_split(tmp_path / "out", "test", config)
        assert len(stored) == count
    square = crop.square_around_box([40, 30, 160, 120])
    want = np.array([[p or [0, 0, 0] for p in hand] for hand in entry(0)["joints_xyz"]])
    np.testing.assert_allclose(stored[0].joints_xyz, want, atol=1e-7)
    assert stored[0].joint_valid.sum() == 41 and not stored[0].joint_valid[1, 5]
    np.testing.assert_allclose(
        stored[0].camera, crop.crop_camera(entry(0)["camera"], square), rtol=1e-6
    )
    assert stored[0].sequence == "walking" and not stored[0].hand_valid.any()
    photo = cv2.imread(str(tmp_path / "raw/images/a/0.png"))[..., ::-1]
    window = crop.crop_image(np.ascontiguousarray(photo), square, margin=crop.MARGIN)
    assert np.abs(decode_photo(stored[0].image).astype(int) - window).mean() < 3
    assert not stored[1].joint_valid.any()
    np.testing.assert_allclose(stored[1].camera[:2, 2], 128, atol=1e-3)
    assert stored[2].hand_type == "left" and stored[2].joint_valid[0].all()


@pytest.mark.parametrize(
    "bad",
    [
        {"box": None},
        {"box": [0, 0, -1, 5]},
        {"box": [0, 0, float("nan"), 5]},
        {"file_name": 3},
        {"hand_type": "both"},
        {"camera": [1, 2]},
        {"joints_xyz": [[[0, 0, 1]], None]},
        {"frame": "x"},
    ],
)
def test_bad_entries_are_counted_and_passed_over(tmp_path, bad):
    write_folder(tmp_path, [entry(0), entry(1, **bad)])
    split = FolderSplit(tmp_path)
    assert len(split) == 1
    assert split.tally.counts == {Trouble.MALFORMED_IMAGE_ENTRY: 1}
