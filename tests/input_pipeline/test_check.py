"""check: what it reports, what it calls usable, and that it touches nothing."""

import dataclasses
import json
import os

from input_pipeline import check
from input_pipeline.check import inspect_split
from mano_jax import save_npz
from tests.hands import toy_hands
from tests.input_pipeline.raw_data import write_raw
from tests.input_pipeline.test_prepare import spoil_images


def run(source, *more):
    arguments = ["--source", source, "--workers", 1, *more]
    return check.main([str(a) for a in arguments])


def state(folder):
    return {
        path: (path.lstat().st_mtime_ns, path.lstat().st_size) for path in sorted(folder.rglob("*"))
    }


def test_a_sound_copy_is_ready_and_left_alone(tmp_path, capsys):
    write_raw(tmp_path / "raw", frames=3, hand_types=("interacting", "left", "interacting"))
    before = state(tmp_path / "raw")
    assert run(tmp_path / "raw", "--json", "-") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["training_can_start"] and found["reasons"] == []
    train = found["splits"]["train"]
    assert train["images"] == 6 and train["hand_types"] == {"interacting": 4, "left": 2}
    assert train["usable"] == 4 and train["complete"]
    assert train["selections"]["single"]["kept"] == 2
    assert train["official"]["interacting"] == 673_514
    assert state(tmp_path / "raw") == before
    assert run(tmp_path / "raw", "--json", tmp_path / "raw" / "found.json") == 2
    assert run(tmp_path / "raw", "--json", tmp_path / "found.json") == 0
    assert json.loads((tmp_path / "found.json").read_text()) == found
    assert "training can start" in capsys.readouterr().out


def test_every_trouble_is_counted(tmp_path, capsys):
    def change(split, files):
        if split != "train":
            return
        mano, data = files["MANO_NeuralAnnot"]["3"], files["data"]
        mano["1003"]["left"] = None
        del mano["1006"]
        mano["1009"]["right"]["pose"][0] = float("nan")
        data["annotations"][0]["image_id"] = 12345
        data["images"][1]["file_name"] = "../../outside.jpg"
        del files["joint_3d"]["3"]["1012"]

    write_raw(tmp_path / "raw", frames=8, cameras=2, change=change)
    spoil_images(tmp_path / "raw")
    report = inspect_split(tmp_path / "raw", "train", None, 2)
    counts = {reason: found["count"] for reason, found in report["image_troubles"].items()}
    assert counts == {
        "image_missing": 1,
        "image_truncated": 1,
        "image_unreadable": 1,
        "image_black": 1,
        "image_size_differs": 1,
        "unsafe_path": 2,
    }
    assert report["image_troubles"]["image_missing"]["examples"] == [
        "Capture3/0001_test/cam400000/image1000.jpg"
    ]
    counts = {reason: found["count"] for reason, found in report["annotation_troubles"].items()}
    assert counts == {
        "image_without_annotation": 1,
        "annotation_without_image": 1,
        "joints_missing": 2,
    }
    dropped = report["selections"]["interacting"]["dropped"]
    assert dropped == {
        "mano_hand_null": 2,
        "mano_frame_missing": 2,
        "mano_not_finite": 2,
        "image_without_annotation": 1,
    }
    # 16 images; 9 kept by annotation; of those image 1000 (both views) and 1015 of camera 0 fail,
    # those of 1003, 1006, 1009 were left out already.
    assert report["selections"]["interacting"]["kept"] == 9
    assert report["usable"] == 9 - 3
    assert run(tmp_path / "raw") == 0
    said = capsys.readouterr().out
    for reason in (*counts, *dropped, "image_black"):
        assert reason in said


def test_a_sample_stands_for_the_whole(tmp_path):
    write_raw(tmp_path / "raw", splits=("train",), frames=20, cameras=2)
    folder = tmp_path / "raw" / "images" / "train" / "Capture3" / "0001_test" / "cam400000"
    for path in folder.iterdir():
        path.unlink()
    report = inspect_split(tmp_path / "raw", "train", 20, 1)
    assert 10 <= report["looked_at"] <= 20 and not report["complete"]
    assert 10 <= report["usable"] <= 30  # 20 in truth
    (tmp_path / "raw/images/train/Capture3").rename(tmp_path / "elsewhere")
    report = inspect_split(tmp_path / "raw", "train", 2, 1)
    assert report["missing_folders"] == ["Capture3"] and report["usable"] == 0


def test_training_needs_something_to_measure_with(tmp_path, capsys):
    write_raw(tmp_path / "raw", splits=("train",), frames=1)
    assert run(tmp_path / "raw") == 1
    assert "no such split" in capsys.readouterr().out
    write_raw(tmp_path / "other", splits=("val",), frames=1)
    os.rename(tmp_path / "other/annotations/val", tmp_path / "raw/annotations/val")
    os.rename(tmp_path / "other/images/val", tmp_path / "raw/images/val")
    assert run(tmp_path / "raw") == 0


def test_fits_far_from_the_joints_are_found(tmp_path):
    def change(split, files):
        files["MANO_NeuralAnnot"]["3"]["1003"]["left"]["trans"][0] += 0.05

    write_raw(tmp_path / "raw", splits=("train",), frames=3, cameras=1, change=change)
    pair = toy_hands()
    report = inspect_split(tmp_path / "raw", "train", None, 1, pair)
    assert report["fits_compared"] == 6 and report["usable"] == 3
    (far,) = report["image_troubles"].items()
    assert far[0] == "mano_far_from_joints" and far[1]["count"] == 1
    assert "image1003.jpg left" in far[1]["examples"][0]
    swapped = dataclasses.replace(pair, left=pair.right, right=pair.left)
    report = inspect_split(tmp_path / "raw", "train", None, 1, swapped)
    assert report["image_troubles"]["mano_far_from_joints"]["count"] == 6
    assert "swapped" in check._obstacles({"train": report, "test": report})[0]
    save_npz(pair, tmp_path)
    assert run(tmp_path / "raw", "--mano", tmp_path) == 1  # no split to measure with
    assert run(tmp_path / "raw", "--mano", tmp_path / "nothing") == 2
