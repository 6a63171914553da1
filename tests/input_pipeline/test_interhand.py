"""The reader of the official layout: geometry against definitions, and every kind of damage."""

import json

import numpy as np
import pytest

from input_pipeline import crop
from input_pipeline.camera_space import hands_in_camera
from input_pipeline.json_files import iterate_arrays
from input_pipeline.shards import plan_records
from input_pipeline.sources.interhand import InterhandSplit
from input_pipeline.troubles import Trouble
from tests.hands import toy_hands
from tests.input_pipeline.raw_data import camera_view, write_raw


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    root = tmp_path_factory.mktemp("raw")
    return root, write_raw(root, hand_types=("interacting", "left", "interacting"))


def camera_of(made, frame):
    return made["cameras"][frame.camera_name]


def test_frames_join_on_the_image_id(raw):
    root, made = raw
    split = InterhandSplit(root, "train")
    assert len(split) == 6
    assert not split.tally.counts and not split.missing
    for i in range(6):
        frame = split.frame(i)
        assert frame.hand_type == made["train"]["frames"][frame.frame].hand_type
        assert (
            frame.file_name == f"Capture3/0001_test/cam{frame.camera_name}/image{frame.frame}.jpg"
        )
        assert (frame.capture, frame.sequence) == ("3", "0001_test")
    assert split.frame(0).size == (334, 512) and split.frame(1).size == (512, 334)


def test_joints_arrive_in_our_order_and_the_camera_axes(raw):
    root, made = raw
    split = InterhandSplit(root, "test")
    for i in range(len(split)):
        frame = split.frame(i)
        truth = made["test"]["frames"][frame.frame]
        for side, name in enumerate(("left", "right")):
            present = truth.hand_type in ("interacting", name)
            assert frame.joint_valid[side].all() == present
            want = camera_view(camera_of(made["test"], frame), truth.joints[name])
            want = want if present else np.zeros((21, 3))
            np.testing.assert_allclose(frame.joints_xyz[side], want, atol=1e-6)


def test_mano_in_camera_axes_gives_the_world_mesh_seen_by_the_camera(raw):
    root, made = raw
    split = InterhandSplit(root, "train")
    frames = [split.frame(i) for i in range(len(split))]
    hands = hands_in_camera(frames, toy_hands())
    for i, frame in enumerate(frames):
        truth = made["train"]["frames"][frame.frame]
        for side, name in enumerate(("left", "right")):
            assert hands.valid[i, side] == (truth.hand_type in ("interacting", name))
            if not hands.valid[i, side]:
                assert not hands.global_orient[i, side].any()
                continue
            want = camera_view(camera_of(made["train"], frame), truth.vertices[name])
            # The oracle posed in float32.
            np.testing.assert_allclose(hands.vertices_xyz[i, side], want, atol=2e-6)


def test_joints_stand_in_for_a_hand_without_mesh_in_the_crop(raw, monkeypatch):
    root, _ = raw
    split = InterhandSplit(root, "train")
    frame = split.frame(0)
    half = type(frame)(**{**vars(frame), "fits": (frame.fits[0], None)})
    monkeypatch.setattr(split, "frame", lambda index: half)
    (record,), _ = plan_records(split, [0], "all", toy_hands())
    assert record.hand_valid.tolist() == [True, False] and not record.betas[1].any()
    left = hands_in_camera([half], toy_hands()).vertices_xyz[0, 0]
    points = np.concatenate([left, frame.joints_xyz[1]])
    square = crop.square_around(crop.project(frame.camera.intrinsics, points))
    np.testing.assert_allclose(record.source_square, square)


# How data.json's annotations and MANO_NeuralAnnot.json's frames are spoilt, the trouble this must
# be called, and whether a good hand is left for "all".
SPOILT = [
    (Trouble.MANO_NOT_FINITE, True, lambda _, m: m["1000"]["left"].update(pose=[np.nan] * 48)),
    (Trouble.MANO_HAND_NULL, True, lambda _, m: m["1000"].update(right=None)),
    (Trouble.MANO_MALFORMED, True, lambda _, m: m["1000"]["left"].update(shape=[0.0] * 9)),
    (Trouble.MANO_MISSING, False, lambda _, m: m.pop("1000")),
    (Trouble.HAND_TYPE_NOT_VALID, False, lambda a, _: a[-1].update(hand_type_valid=0)),
    (Trouble.NO_ANNOTATION, False, lambda a, _: a.pop()),
]


@pytest.mark.parametrize(("kind", "hand_left", "spoil"), SPOILT)
def test_spoilt_annotations_drop_frames_by_name(tmp_path, kind, hand_left, spoil):
    def change(split, files):
        spoil(files["data"]["annotations"], files["MANO_NeuralAnnot"]["3"])

    write_raw(tmp_path, splits=("train",), frames=2, cameras=1, change=change)
    split = InterhandSplit(tmp_path, "train")
    chosen = split.select("interacting")
    assert [reason for _, reason in chosen.dropped] == [kind] and len(chosen.kept) == 1
    assert split.frame(0).file_name.endswith("image1000.jpg")  # can still be looked at
    assert len(split.select("all").kept) == 1 + hand_left


def test_ids_that_do_not_match_are_counted(tmp_path):
    def change(split, files):
        images, annotations = files["data"]["images"], files["data"]["annotations"]
        annotations[0]["image_id"] = 999
        annotations.append(dict(annotations[1]))
        images.append(dict(images[2]))
        images.append({"id": "none"})
        annotations.append({"image_id": 3})
        annotations.append("text")

    write_raw(tmp_path, splits=("train",), change=change)
    assert InterhandSplit(tmp_path, "train").tally.counts == {
        Trouble.NO_IMAGE_ENTRY: 1,
        Trouble.NO_ANNOTATION: 1,
        Trouble.DUPLICATE_ANNOTATION: 1,
        Trouble.DUPLICATE_IMAGE_ID: 1,
        Trouble.MALFORMED_IMAGE_ENTRY: 1,
        Trouble.MALFORMED_ANNOTATION: 2,
    }


def test_the_obsolete_joint_file_is_recognised(tmp_path):
    def change(split, files):
        table = files["joint_3d"]["3"]
        files["joint_3d"]["3"] = {f: entry["world_coord"] for f, entry in table.items()}

    write_raw(tmp_path, splits=("train",), frames=2, cameras=1, change=change)
    split = InterhandSplit(tmp_path, "train")
    assert split.tally.counts == {Trouble.JOINTS_V0: 2}
    assert not split.frame(0).joint_valid.any()
    assert len(split.select("interacting").kept) == 2  # MANO does not depend on it


def test_a_spoilt_camera_is_left_out(tmp_path):
    def change(split, files):
        rig = files["camera"]["3"]
        first, second = rig["campos"]
        rig["camrot"][first] = (np.eye(3) * 2).tolist()
        rig["focal"][second] = [float("nan"), 1.0]
        files["camera"]["4"] = None

    write_raw(tmp_path, splits=("train",), frames=1, change=change)
    split = InterhandSplit(tmp_path, "train")
    assert split.tally.counts[Trouble.CAMERA_MALFORMED] == 3
    assert {r for _, r in split.select("interacting").dropped} == {Trouble.CAMERA_MISSING}


def test_joints_that_are_not_finite_are_not_valid(tmp_path):
    def change(split, files):
        files["joint_3d"]["3"]["1000"]["world_coord"][20][0] = float("inf")  # right wrist
        files["data"]["annotations"][0]["joint_valid"][21] = [0]  # left thumb tip

    write_raw(tmp_path, splits=("train",), frames=1, cameras=1, change=change)
    frame = InterhandSplit(tmp_path, "train").frame(0)
    assert np.isfinite(frame.joints_xyz).all()
    invalid = np.argwhere(~frame.joint_valid).tolist()
    assert invalid == [[0, 4], [1, 0]]


def test_every_entry_of_every_array_is_decoded(tmp_path):
    write_raw(tmp_path, splits=("train",))
    path = tmp_path / "annotations" / "train" / "InterHand2.6M_train_data.json"
    got = {"images": [], "annotations": []}
    for key, entry in iterate_arrays(path):
        got[key].append(entry)
    assert got == json.loads(path.read_text())
    path.write_text(' {"a": 12345,\n"n": [1, 23, 456], "o": {"x": [1]}, "e": []}')
    assert list(iterate_arrays(path)) == [("n", 1), ("n", 23), ("n", 456)]
