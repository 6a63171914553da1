"""Synthesised photographs: the files say what the pictures show, and the same each time."""

import hashlib
import json
import pathlib

import cv2
import numpy as np
import pytest
from scipy.spatial import cKDTree

import mano_jax
from input_pipeline import crop, render, synthesize
from input_pipeline.sources.interhand import InterhandSplit
from input_pipeline.synthetic import frame, interaction, plan
from input_pipeline.synthetic.studio import VARIETIES, Variety
from mano_jax.constants import SIDES

COUNTS = {"train": 12, "val": 2, "test": 3}
VARIETY = Variety(single_share=0.3)


@pytest.fixture(scope="module")
def data_set(tmp_path_factory) -> pathlib.Path:
    output = tmp_path_factory.mktemp("synthetic") / "raw"
    synthesize.synthesize(output, COUNTS, seed=3, workers=1, variety=VARIETY, progress=False)
    return output


def digest(root: pathlib.Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def frames(root: pathlib.Path, split: str) -> list:
    """As the reader of the official layout finds them, which nothing in the files troubles."""
    reader = InterhandSplit(root, split)
    assert not reader.tally.counts and not reader.missing
    return [reader.frame(index) for index in range(len(reader))]


def posed(one, side: int) -> mano_jax.HandMesh:
    """An annotated hand by MANO's own function, camera axes, metres."""
    hand, fit = mano_jax.open_hands()[SIDES[side]], one.fits[side]
    pose = np.float32(fit.pose + hand.hands_mean).reshape(15, 3)
    others = (np.float32(value) for value in (fit.betas, fit.transl))
    mesh = mano_jax.pose_hand(hand, np.float32(fit.rotation), pose, *others, tips="intaghand")
    return mano_jax.HandMesh(
        *(np.asarray(points) @ one.camera.rotation.T + one.camera.translation for points in mesh)
    )


@pytest.mark.parametrize("split", COUNTS)
def test_files_are_official_and_agree(data_set, split):
    path = data_set / "annotations" / split / f"InterHand2.6M_{split}_data.json"
    data, found = json.loads(path.read_text()), frames(data_set, split)
    assert len(found) == COUNTS[split]
    folder = data_set / "images" / split
    names = {str(path.relative_to(folder)) for path in folder.rglob("*.jpg")}
    assert names == {one.file_name for one in found}
    for one, annotation in zip(found, data["annotations"], strict=True):
        assert one.file_name == (
            f"Capture{one.capture}/{one.sequence}/cam{one.camera_name}/image{one.frame}.jpg"
        )
        present = [one.hand_type in ("interacting", side) for side in SIDES]
        assert [fit is not None for fit in one.fits] == present
        np.testing.assert_array_equal(one.joint_valid, np.tile(np.array(present)[:, None], 21))
        for side in np.flatnonzero(present):
            np.testing.assert_allclose(posed(one, side).joints, one.joints_xyz[side], atol=5e-5)
        pixels = crop.project(one.camera.intrinsics, one.joints_xyz[one.joint_valid])
        x, y, *size = annotation["bbox"]  # a fifth larger than that of the joints
        np.testing.assert_allclose(size, 1.2 * np.ptp(pixels, axis=0), atol=1e-2)
        middle = (pixels.min(axis=0) + pixels.max(axis=0)) / 2
        np.testing.assert_allclose(np.array([x, y]) + np.array(size) / 2, middle, atol=1e-2)
        picture = cv2.imread(str(folder / one.file_name))
        assert picture.shape[1::-1] == one.size and one.size in ((334, 512), (512, 334))
        assert picture.mean() >= 10
        grey = (picture.max(axis=2) == picture.min(axis=2)).all()
        assert grey == one.camera_name.startswith("410")


def test_outlines_in_the_photographs_lie_where_the_parameters_put_them(data_set):
    """The photograph changes more along the annotated outline than along shifted copies of it."""
    ratios, square = [], np.ones((3, 3), np.uint8)
    for one in frames(data_set, "train"):
        meshes = [
            (posed(one, side).vertices, mano_jax.open_hands()[SIDES[side]].faces, np.ones((778, 3)))
            for side in range(2)
            if one.fits[side] is not None
        ]
        matrix = render.whole_number_centres(one.camera.intrinsics)
        drawn = np.isfinite(render.render_meshes(meshes, matrix, one.size[::-1])[1])
        outline = cv2.morphologyEx(drawn.astype(np.uint8), cv2.MORPH_GRADIENT, square) > 0
        picture = cv2.imread(str(data_set / "images" / "train" / one.file_name), 0)
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
    plans = list(plan.plan_split("train", 26, 5, Variety(views=1, single_share=0.0)))
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


def test_a_variety_says_how_hands_meet_and_from_where_they_are_seen():
    for name, yaw, pitch in (("plain", 30, 20), ("everyday", 180, 75)):
        variety = VARIETIES[name]
        plans = list(plan.plan_split("train", 120, 3, variety))
        met = {one.meeting for one in plans}
        assert len(met) >= 5 and met <= set(variety.meetings or interaction.MEETINGS)
        ahead = np.array([c.rotation[2] for one in plans for c in one.capture.cameras])
        # Up to 5 degrees beside the ring, and aimed a little beside the hands.
        side = np.degrees(np.arctan2(ahead[:, 0], ahead[:, 2]))
        up = np.degrees(np.arcsin(ahead[:, 1]))
        assert yaw / 2 < np.abs(side).max() < yaw + 5 + 5
        assert pitch / 2 < np.abs(up).max() < pitch + 5 + 5
