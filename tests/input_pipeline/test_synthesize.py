import hashlib
import json
import pathlib

import cv2
import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

import mano_jax
from input_pipeline import render, synthesize
from input_pipeline.synthetic import frame, interaction, plan

COUNTS = {"train": 12, "val": 2, "test": 3}
VARIETY = plan.Variety(single_share=0.3)
OURS_FROM_FILE = (20, 3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12, 19, 18, 17, 16)
"""Our joint order (wrist, thumb to pinky from the base) by place in a hand of the files."""


@pytest.fixture(scope="module")
def data_set(tmp_path_factory) -> pathlib.Path:
    output = tmp_path_factory.mktemp("synthetic") / "raw"
    synthesize.synthesize(output, COUNTS, seed=3, workers=1, variety=VARIETY, progress=False)
    return output


def files(root: pathlib.Path, split: str) -> dict:
    return {
        name: json.loads(
            (root / "annotations" / split / f"InterHand2.6M_{split}_{name}.json").read_text()
        )
        for name in ("data", "camera", "joint_3d", "MANO_NeuralAnnot")
    }


def digest(root: pathlib.Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("split", COUNTS)
def test_files_have_the_official_fields(data_set, split):
    content = files(data_set, split)
    data = content["data"]
    assert list(data) == ["images", "annotations"]
    assert len(data["images"]) == len(data["annotations"]) == COUNTS[split]
    for image, annotation in zip(data["images"], data["annotations"], strict=True):
        assert list(image) == [
            "id", "file_name", "width", "height", "capture", "subject", "seq_name", "camera",
            "frame_idx",
        ]  # fmt: skip
        assert isinstance(image["camera"], str)
        assert isinstance(image["capture"], int) and isinstance(image["frame_idx"], int)
        assert list(annotation) == [
            "id", "image_id", "bbox", "joint_valid", "hand_type", "hand_type_valid",
        ]  # fmt: skip
        assert annotation["image_id"] == image["id"]
        assert np.shape(annotation["joint_valid"]) == (42, 1)
        assert {value for (value,) in annotation["joint_valid"]} <= {0, 1}
        assert annotation["hand_type"] in ("interacting", "left", "right")
        assert annotation["hand_type_valid"] == 1

        capture, number, camera = str(image["capture"]), str(image["frame_idx"]), image["camera"]
        cameras = content["camera"][capture]
        assert list(cameras) == ["campos", "camrot", "focal", "princpt"]
        shapes = {name: np.shape(values[camera]) for name, values in cameras.items()}
        assert shapes == {"campos": (3,), "camrot": (3, 3), "focal": (2,), "princpt": (2,)}
        joints = content["joint_3d"][capture][number]
        assert list(joints) == [
            "world_coord", "joint_valid", "hand_type", "hand_type_valid", "seq",
        ]  # fmt: skip
        assert np.shape(joints["world_coord"]) == (42, 3)
        assert joints["joint_valid"][0][0] in (True, False)
        assert joints["hand_type_valid"] is True and joints["seq"] == image["seq_name"]
        hands = content["MANO_NeuralAnnot"][capture][number]
        assert list(hands) == ["right", "left"]
        present = (
            ["right", "left"] if joints["hand_type"] == "interacting" else [joints["hand_type"]]
        )
        assert [side for side in hands if hands[side] is not None] == present
        for side in present:
            sizes = {name: len(values) for name, values in hands[side].items()}
            assert sizes == {"pose": 48, "shape": 10, "trans": 3}


@pytest.mark.parametrize("split", COUNTS)
def test_pictures_are_there_in_the_stated_size_and_bright_enough(data_set, split):
    images = files(data_set, split)["data"]["images"]
    named = {image["file_name"] for image in images}
    folder = data_set / "images" / split
    assert named == {str(path.relative_to(folder)) for path in folder.rglob("*.jpg")}
    for image in images:
        assert image["file_name"] == (
            f"Capture{image['capture']}/{image['seq_name']}/cam{image['camera']}/"
            f"image{image['frame_idx']}.jpg"
        )
        picture = cv2.imread(str(folder / image["file_name"]))
        assert picture.shape[:2] == (image["height"], image["width"])
        assert (image["width"], image["height"]) in ((334, 512), (512, 334))
        assert picture.mean() >= 10
        grey = (picture.max(axis=2) == picture.min(axis=2)).all()
        assert grey == image["camera"].startswith("410")


def test_variety(data_set):
    content = files(data_set, "train")
    assert len({image["capture"] for image in content["data"]["images"]}) >= 2
    assert all(len(entry["campos"]) >= 8 for entry in content["camera"].values())
    types = [annotation["hand_type"] for annotation in content["data"]["annotations"]]
    assert types.count("interacting") > len(types) / 2
    subjects = [{i["subject"] for i in files(data_set, s)["data"]["images"]} for s in COUNTS]
    assert not set.intersection(*subjects)


def posed(side: str, entry: dict) -> mano_jax.HandMesh:
    """One hand of MANO_NeuralAnnot.json by MANO's own function, world axes, metres."""
    hand = mano_jax.open_hands()[side]
    pose = np.array(entry["pose"], np.float32)
    return mano_jax.pose_hand(
        hand,
        np.float32(Rotation.from_rotvec(pose[:3]).as_matrix()),
        np.float32(hand.hands_mean + pose[3:]).reshape(15, 3),
        np.float32(entry["shape"]),
        np.float32(entry["trans"]),
        tips="intaghand",
    )


def test_parameters_give_the_annotated_joints(data_set):
    content, checked = files(data_set, "train"), 0
    for capture, frames in content["MANO_NeuralAnnot"].items():
        for number, entry in frames.items():
            joints = content["joint_3d"][capture][number]
            world = np.array(joints["world_coord"])
            valid = np.array(joints["joint_valid"])[:, 0]
            for start, side in ((0, "right"), (21, "left")):
                here = world[start : start + 21][list(OURS_FROM_FILE)]
                assert (valid[start : start + 21] == (entry[side] is not None)).all()
                if entry[side] is None:
                    np.testing.assert_array_equal(here, 1.0)
                    continue
                wanted = 1000 * np.asarray(posed(side, entry[side]).joints)
                np.testing.assert_allclose(wanted, here, atol=0.05)
                checked += 1
    assert checked >= 5


def annotated_meshes(content: dict, image: dict) -> tuple[list, np.ndarray]:
    """The meshes of one picture from its parameters, in camera axes, and the intrinsics."""
    capture, number = str(image["capture"]), str(image["frame_idx"])
    camera = {k: np.array(v[image["camera"]]) for k, v in content["camera"][capture].items()}
    matrix = np.diag([*camera["focal"], 1.0])
    matrix[:2, 2] = camera["princpt"] + 0.5  # to pixel centres at one half, as drawn here
    meshes = []
    for side, entry in content["MANO_NeuralAnnot"][capture][number].items():
        if entry is not None:
            vertices = np.asarray(posed(side, entry).vertices) - camera["campos"] / 1000
            faces = mano_jax.open_hands()[side].faces
            meshes.append((vertices @ camera["camrot"].T, faces, np.ones((778, 3))))
    return meshes, matrix


def test_joints_project_onto_the_hands(data_set):
    content = files(data_set, "train")
    for image in content["data"]["images"][::3]:
        capture, number = str(image["capture"]), str(image["frame_idx"])
        meshes, matrix = annotated_meshes(content, image)
        size = (image["height"], image["width"])
        _, depth = render.render_meshes(meshes, matrix, size)
        camera = {k: np.array(v[image["camera"]]) for k, v in content["camera"][capture].items()}
        joints = content["joint_3d"][capture][number]
        valid = np.array(joints["joint_valid"])[:, 0]
        seen = (np.array(joints["world_coord"])[valid] - camera["campos"]) @ camera["camrot"].T
        pixels = seen[:, :2] / seen[:, 2:] * camera["focal"] + camera["princpt"]
        column, row = pixels[((pixels >= 0) & (pixels < size[::-1])).all(axis=1)].astype(int).T
        assert np.isfinite(depth[row, column]).mean() > 0.8
        x, y, width, height = content["data"]["annotations"][image["id"]]["bbox"]
        np.testing.assert_allclose((x + width / 2, y + height / 2), np.ptp(pixels, axis=0) / 2
                                   + pixels.min(axis=0), atol=1e-2)  # fmt: skip
        np.testing.assert_allclose((width, height), 1.2 * np.ptp(pixels, axis=0), atol=1e-2)


def test_outlines_in_the_photographs_lie_where_the_parameters_put_them(data_set):
    """The photograph changes more along the annotated outline than along shifted copies of it."""
    content, ratios = files(data_set, "train"), []
    square = np.ones((3, 3), np.uint8)
    for image in content["data"]["images"]:
        meshes, matrix = annotated_meshes(content, image)
        size = (image["height"], image["width"])
        drawn = np.isfinite(render.render_meshes(meshes, matrix, size)[1]).astype(np.uint8)
        outline = cv2.morphologyEx(drawn, cv2.MORPH_GRADIENT, square) > 0
        picture = cv2.imread(str(data_set / "images" / "train" / image["file_name"]), 0)
        edges = cv2.morphologyEx(picture, cv2.MORPH_GRADIENT, square).astype(float)
        shifts = [(9, 0), (-9, 0), (0, 9), (0, -9), (6, 6), (-6, 6), (6, -6), (-6, -6)]
        others = [edges[np.roll(outline, shift, axis=(0, 1))].mean() for shift in shifts]
        ratios.append(edges[outline].mean() / np.mean(others))
    assert np.mean(ratios) > 1.3
    assert np.mean(np.array(ratios) > 1.0) > 0.9


def test_same_bytes_for_any_number_of_processes(data_set, tmp_path):
    again = tmp_path / "again"
    synthesize.synthesize(again, COUNTS, seed=3, workers=2, variety=VARIETY, progress=False)
    assert digest(again) == digest(data_set)
    other = tmp_path / "other"
    synthesize.synthesize(other, {"test": 1}, seed=4, workers=1, progress=False)
    assert not set(digest(other).values()) & set(digest(data_set).values())


def test_hands_meet_without_running_into_each_other():
    models = plan.hand_models(mano_jax.open_hands())
    plans = list(plan.plan_split("train", 26, 5, plan.Variety(views=1, single_share=0.0)))
    near, deep = 0, []
    for task in plan.posed_tasks(plans, mano_jax.open_hands(), models, "unused"):
        placed = frame.place(task, models)
        right, left = placed["right"], placed["left"]
        distance, _ = cKDTree(right.vertices).query(left.vertices)
        near += distance.min() < 0.02
        for one, other, side in ((left, right, "right"), (right, left, "left")):
            normals = render.vertex_normals(other.vertices, models[side].faces)
            deep.append(interaction.Solid(other.vertices, normals).depths(one.vertices).max())
    assert near > 0.5 * len(plans)
    assert np.quantile(deep, 0.9) < 0.006


def test_depth_inside_a_ball():
    generator = np.random.default_rng(0)
    directions = generator.normal(size=(800, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    radii = generator.uniform(0.01, 0.04, 800)
    others = generator.normal(size=(800, 3))
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    depth = interaction.Solid(0.02 * others, others).depths(directions * radii[:, None])
    expected = np.clip(0.02 - radii, 0, None)
    np.testing.assert_allclose(depth, expected, atol=1.5e-3)


def test_refuses_a_folder_that_is_in_use(tmp_path, capsys):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "mine.txt").write_text("keep")
    status = synthesize.main(["--output", str(tmp_path / "raw"), "--train", "1"])
    error = capsys.readouterr().err
    assert status == 2
    assert error.startswith("error: ") and error.count("\n") == 1 and "exists already" in error
    assert [path.name for path in tmp_path.rglob("*")] == ["raw", "mine.txt"]


def test_only_the_wanted_meetings_and_cameras():
    variety = plan.Variety(single_share=0.0, meetings=("side", "tent"), yaw=20, pitch=5)
    plans = list(plan.plan_split("train", 60, 3, variety))
    assert {one.meeting for one in plans} == {"side", "tent"}
    for one in plans:
        for camera in one.capture.cameras:
            ahead = camera.rotation[2]  # world x right, y down, z away from the cameras
            # Up to 5 degrees beside the ring, and aimed a little beside the hands.
            assert abs(np.degrees(np.arctan2(ahead[0], ahead[2]))) < 20 + 5 + 5
            assert abs(np.degrees(np.arcsin(ahead[1]))) < 5 + 5


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--train", "-1"],
        ["--train", "1", "--views", "0"],
        ["--train", "1", "--meetings", "wave"],
        ["--train", "1", "--yaw", "nan"],
    ],
)
def test_refuses_numbers_that_make_no_sense(tmp_path, capsys, flags):
    assert synthesize.main(["--output", str(tmp_path / "raw"), *flags]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not list(tmp_path.iterdir())
