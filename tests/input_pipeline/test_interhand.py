"""The reader of the official layout: geometry against definitions, and every kind of damage."""

import json

import numpy as np
import pytest

from input_pipeline import crop
from input_pipeline.camera_space import hands_in_camera
from input_pipeline.shards import plan_records
from input_pipeline.sources.frames import HandFit
from input_pipeline.sources.interhand import InterhandSplit
from input_pipeline.troubles import SourceError, Trouble
from tests.input_pipeline.raw_data import camera_view, toy_pair, write_raw


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
    hands = hands_in_camera(frames, toy_pair())
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


def test_pca_fits_mean_the_same_hand_as_their_axis_angles(raw):
    root, _ = raw
    pair = toy_pair()
    frame = InterhandSplit(root, "train").frame(0)
    fits = [
        HandFit(
            f.rotation,
            f.pose @ np.linalg.inv(pair[s].hands_components),
            f.betas,
            f.transl,
            pca=True,
        )
        for f, s in zip(frame.fits, ("left", "right"), strict=True)
    ]
    both = [frame, type(frame)(**{**vars(frame), "fits": tuple(fits)})]
    hands = hands_in_camera(both, pair)
    np.testing.assert_allclose(hands.vertices_xyz[1], hands.vertices_xyz[0], atol=1e-9)
    np.testing.assert_allclose(hands.hand_pose[1], hands.hand_pose[0], atol=1e-9)


def test_what_each_configuration_keeps(raw):
    root, _ = raw
    split = InterhandSplit(root, "train")
    kept = {c: split.select(c) for c in ("interacting", "single", "all")}
    assert [len(kept[c].kept) for c in kept] == [4, 2, 6]
    assert [kept[c].other_type for c in kept] == [2, 4, 0]
    assert not any(kept[c].dropped for c in kept)


def test_joints_stand_in_for_a_hand_without_mesh_in_the_crop(raw, monkeypatch):
    root, _ = raw
    split = InterhandSplit(root, "train")
    frame = split.frame(0)
    half = type(frame)(**{**vars(frame), "fits": (frame.fits[0], None)})
    monkeypatch.setattr(split, "frame", lambda index: half)
    (record,), _ = plan_records(split, [0], "all", toy_pair())
    assert record.hand_valid.tolist() == [True, False] and not record.betas[1].any()
    left = hands_in_camera([half], toy_pair()).vertices_xyz[0, 0]
    points = np.concatenate([left, frame.joints_xyz[1]])
    square = crop.square_around(crop.project(frame.camera.intrinsics, points))
    np.testing.assert_allclose(record.source_square, square)


def damage(kind):
    """How the annotation files are spoilt, and the trouble this must be called."""

    def change(split, files):
        frames, entry = files["MANO_NeuralAnnot"]["3"], files["data"]["images"][0]
        if kind is Trouble.MANO_NOT_FINITE:
            frames["1000"]["left"]["pose"][7] = float("nan")
        elif kind is Trouble.MANO_HAND_NULL:
            frames["1000"]["right"] = None
        elif kind is Trouble.MANO_MISSING:
            del frames["1000"]
        elif kind is Trouble.MANO_MALFORMED:
            frames["1000"]["left"]["shape"] = [0.0] * 9
        elif kind is Trouble.CAMERA_MISSING:
            for table in files["camera"]["3"].values():
                del table[entry["camera"]]
        elif kind is Trouble.HAND_TYPE_NOT_VALID:
            files["data"]["annotations"][-1]["hand_type_valid"] = 0
        elif kind is Trouble.NO_ANNOTATION:
            files["data"]["annotations"].pop()

    return change


@pytest.mark.parametrize(
    "kind",
    [
        Trouble.MANO_NOT_FINITE,
        Trouble.MANO_HAND_NULL,
        Trouble.MANO_MISSING,
        Trouble.MANO_MALFORMED,
        Trouble.CAMERA_MISSING,
        Trouble.HAND_TYPE_NOT_VALID,
        Trouble.NO_ANNOTATION,
    ],
)
def test_spoilt_annotations_drop_frames_by_name(tmp_path, kind):
    write_raw(tmp_path, splits=("train",), frames=2, cameras=1, change=damage(kind))
    split = InterhandSplit(tmp_path, "train")
    chosen = split.select("interacting")
    if kind is Trouble.CAMERA_MISSING:  # the only camera
        assert [reason for _, reason in chosen.dropped] == [kind] * 2
    else:
        assert [reason for _, reason in chosen.dropped] == [kind]
        assert len(chosen.kept) == 1
    frame = split.frame(0)  # a spoilt frame can still be looked at
    assert frame.file_name.endswith("image1000.jpg")
    # "all" makes do with one good hand.
    one_hand_left = kind in (
        Trouble.MANO_NOT_FINITE, Trouble.MANO_HAND_NULL, Trouble.MANO_MALFORMED
    )  # fmt: skip
    if one_hand_left:
        assert len(split.select("all").kept) == 2


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
    counts = InterhandSplit(tmp_path, "train").tally.counts
    assert counts[Trouble.NO_IMAGE_ENTRY] == 1
    assert counts[Trouble.NO_ANNOTATION] == 1
    assert counts[Trouble.DUPLICATE_ANNOTATION] == 1
    assert counts[Trouble.DUPLICATE_IMAGE_ID] == 1
    assert counts[Trouble.MALFORMED_IMAGE_ENTRY] == 1
    assert counts[Trouble.MALFORMED_ANNOTATION] == 2


def test_the_obsolete_joint_file_is_recognised(tmp_path):
    def change(split, files):
        table = files["joint_3d"]["3"]
        files["joint_3d"]["3"] = {f: entry["world_coord"] for f, entry in table.items()}

    write_raw(tmp_path, splits=("train",), frames=2, cameras=1, change=change)
    split = InterhandSplit(tmp_path, "train")
    assert split.tally.counts == {Trouble.JOINTS_V0: 2}
    assert not split.frame(0).joint_valid.any()
    assert len(split.select("interacting").kept) == 2  # MANO does not depend on it


@pytest.mark.parametrize("kind", ["data", "camera"])
@pytest.mark.parametrize("damage", ["missing", "cut", "list", "empty", "binary"])
def test_a_damaged_required_file_is_named(tmp_path, kind, damage):
    write_raw(tmp_path, splits=("train",), frames=2)
    path = tmp_path / "annotations" / "train" / f"InterHand2.6M_train_{kind}.json"
    text = path.read_bytes()
    spoilt = {"cut": text[: len(text) // 2], "list": b"[1, 2]", "empty": b"", "binary": b"\xff\x00"}
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(spoilt[damage])
    with pytest.raises(SourceError, match=path.name) as caught:
        InterhandSplit(tmp_path, "train")
    assert ("missing" if damage == "missing" else "damaged") in str(caught.value)


@pytest.mark.parametrize("kind", ["joint_3d", "MANO_NeuralAnnot"])
def test_a_damaged_optional_file_leaves_the_rest(tmp_path, kind):
    write_raw(tmp_path, splits=("train",), frames=2)
    path = tmp_path / "annotations" / "train" / f"InterHand2.6M_train_{kind}.json"
    path.write_text(path.read_text()[:-100])
    split = InterhandSplit(tmp_path, "train")
    assert list(split.missing) == [kind] and "damaged" in split.missing[kind]
    assert split.frame(0).camera is not None
    if kind == "MANO_NeuralAnnot":
        assert {reason for _, reason in split.select("all").dropped} == {Trouble.MANO_MISSING}


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


def test_entries_are_decoded_across_chunk_borders(tmp_path, monkeypatch):
    from input_pipeline import json_files

    write_raw(tmp_path, splits=("train",))
    path = tmp_path / "annotations" / "train" / "InterHand2.6M_train_data.json"
    want = json.loads(path.read_text())
    for chunk in (1, 7, 300, 1 << 20):
        monkeypatch.setattr(json_files, "_CHUNK", chunk)
        got = {"images": [], "annotations": []}
        for key, entry in json_files.iterate_arrays(path):
            got[key].append(entry)
        assert got == want
    path.write_text('{"a": 12345, "n": [1, 23, 456], "o": {"x": [1]}, "e": []}')
    monkeypatch.setattr(json_files, "_CHUNK", 2)
    assert list(json_files.iterate_arrays(path)) == [("n", 1), ("n", 23), ("n", 456)]
