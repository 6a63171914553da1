"""The IntagHand-processed form: same hands as the official form, and no pickle is trusted."""

import json
import pickle

import cv2
import numpy as np
import pytest

from input_pipeline import check, crop, dataset, prepare
from input_pipeline.image_files import decode_photo
from input_pipeline.sources.intaghand import IntaghandSplit
from input_pipeline.sources.interhand import InterhandSplit
from input_pipeline.troubles import FrameTrouble, Trouble
from mano_jax import save_npz
from tests.hands import toy_hands
from tests.input_pipeline.raw_data import write_raw


def write_processed(root, official, split="train", protocol=4):
    """What IntagHand's preparation makes of an official split, from its format's description."""
    pair = toy_hands()
    reader = InterhandSplit(official, split)
    (root / split / "img").mkdir(parents=True)
    (root / split / "anno").mkdir(parents=True)
    table = json.loads(
        (official / f"annotations/{split}/InterHand2.6M_{split}_data.json").read_text()
    )
    for i in range(len(reader)):
        frame = reader.frame(i)
        square = np.array([frame.size[0] / 2, frame.size[1] / 2, 180.0])
        photo = cv2.imread(str(official / "images" / split / frame.file_name))
        cv2.imwrite(str(root / split / "img" / f"{i}.jpg"), crop.crop_image(photo, square))
        params = {}
        for fit, side in zip(frame.fits, ("left", "right"), strict=True):
            pca = fit.pose @ np.linalg.inv(pair[side].hands_components)
            values = dict(R=fit.rotation, pose=pca, shape=fit.betas, trans=fit.transl)
            values = {k: np.asarray(v, np.float32)[None] for k, v in values.items()}
            params[side] = values
        content = {
            "inter_idx": i,
            "image": table["images"][i],
            "annotation": table["annotations"][i],
            "mano_params": params,
            "camera": {
                "R": np.float32(frame.camera.rotation),
                "t": np.float32(frame.camera.translation),
                "camera": crop.crop_camera(frame.camera.intrinsics, square),
            },
        }
        with open(root / split / "anno" / f"{i}.pkl", "wb") as file:
            pickle.dump(content, file, protocol=protocol)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    root = tmp_path_factory.mktemp("raw")
    write_raw(root / "official", splits=("train", "test"), frames=6)
    for split in ("train", "test"):
        write_processed(root / "processed", root / "official", split)
    save_npz(toy_hands(), root)
    return root


def prepared(source, output, mano, split="train"):
    arguments = ["--source", source, "--output", output, "--mano", mano, "--workers", 1]
    assert prepare.main([str(a) for a in arguments]) == 0
    return list(dataset.open_split(output, split))


def test_both_layouts_give_the_same_hands(both, tmp_path):
    official = prepared(both / "official", tmp_path / "a", both)
    processed = prepared(both / "processed", tmp_path / "b", both)
    assert len(official) == len(processed) == 12
    for want, got in zip(official, processed, strict=True):
        for name in ("global_orient", "hand_pose", "betas", "transl"):
            np.testing.assert_allclose(getattr(got, name), getattr(want, name), atol=2e-5)
        assert (got.capture, got.sequence, got.camera_name, got.frame) == (
            *(want.capture, want.sequence, want.camera_name, want.frame),
        )
        assert got.hand_valid.all() and not got.joint_valid.any()
        np.testing.assert_array_equal(got.source_square, [128, 128, 128])


def test_the_image_is_the_middle_and_the_margin_black(both, tmp_path):
    for i, record in enumerate(prepared(both / "processed", tmp_path, both)):
        assert record.file_name == f"{i}.jpg"
        image = decode_photo(record.image).astype(int)
        inside = slice(crop.MARGIN, -crop.MARGIN)
        source = cv2.imread(str(both / "processed/train/img" / record.file_name))[..., ::-1]
        assert np.abs(image[inside, inside] - source).mean() < 2
        assert image[: crop.MARGIN - 8].max() < 8 and image[:, : crop.MARGIN - 8].max() < 8


def test_frames_sort_by_number(both):
    split = IntaghandSplit(both / "processed", "train")
    assert [split.file_names[i] for i in (0, 1, 2, 10)] == ["0.jpg", "1.jpg", "2.jpg", "10.jpg"]
    assert len(split.select("all").kept) == 12
    assert split.select("single").other_type == 12


class Hostile:
    """Runs a command when unpickled carelessly."""

    def __init__(self, marker):
        self._marker = marker

    def __reduce__(self):
        import os

        return os.system, (f"touch {self._marker}",)


def content_of(path):
    with open(path, "rb") as file:
        return pickle.load(file)


def test_hostile_and_damaged_pickles_are_dropped_and_nothing_runs(both, tmp_path):
    root = tmp_path / "processed"
    write_processed(root, both / "official", protocol=2)
    anno = root / "train" / "anno"
    marker = tmp_path / "ran"

    def put(number, value):
        (anno / f"{number}.pkl").write_bytes(pickle.dumps(value))

    put(0, Hostile(marker))
    (anno / "1.pkl").write_bytes((anno / "1.pkl").read_bytes()[:300])
    put(2, np.array([Hostile(marker)], dtype=object))
    put(3, ["no", "dict"])
    for number, (path, value, _) in enumerate(BAD_VALUES, start=4):
        content = content_of(anno / f"{number}.pkl")
        place = content
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        put(number, content)
    split = IntaghandSplit(root, "train")
    wanted = [Trouble.ANNOTATION_UNREADABLE] * 4 + [reason for _, _, reason in BAD_VALUES]
    for index, reason in enumerate(wanted):
        with pytest.raises(FrameTrouble) as caught:
            split.frame(index)
        assert caught.value.reason is reason
    stored = prepared(root, tmp_path / "out", both)
    assert [record.file_name for record in stored] == ["9.jpg", "10.jpg", "11.jpg"]
    assert not marker.exists()


BAD_VALUES = [
    (("mano_params", "left", "pose"), np.full((1, 45), np.nan), Trouble.MANO_NOT_FINITE),
    (("mano_params", "right", "shape"), np.zeros((1, 9)), Trouble.MANO_MALFORMED),
    (("mano_params", "right"), None, Trouble.MANO_HAND_NULL),
    (("camera", "R"), np.zeros((3, 3)), Trouble.CAMERA_MALFORMED),
    (("camera",), "none", Trouble.CAMERA_MALFORMED),
]


def test_check_reads_the_layout(both, tmp_path, capsys):
    arguments = ["--source", str(both / "processed"), "--workers", "1", "--json", "-"]
    assert check.main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["layout"] == "IntagHand-processed"
    assert found["splits"]["train"]["usable"] == 12
    assert found["splits"]["train"]["official"]["usable"] == 366_358
