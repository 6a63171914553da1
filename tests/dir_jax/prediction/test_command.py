import dataclasses
import json
import subprocess
import sys

import cv2
import jax
import numpy as np
import pytest
import trimesh

import mano_jax
from dir_jax import create_model
from dir_jax.models.config import TINY
from dir_jax.models.network import estimate_all, initial_variables
from dir_jax.models.types import one_space
from dir_jax.prediction import command, outputs
from dir_jax.prediction.detection import SeenHand
from dir_jax.prediction.photos import photo_from_image
from dir_jax.prediction.predictor import Predictor
from dir_jax.prediction.video import open_writer
from dir_jax.weights.checkpoints import save_variables
from dir_jax.weights.loading import OPEN_HAND_NOTE, load_model
from tests.dir_jax.prediction.known_hands import OFFSET, known_result
from tests.hands import toy_hands

KINDS = ("overlay.png", "joints.png", "side.png", "top.png", "glb", "obj", "json")


@pytest.fixture(scope="module")
def hands():
    return mano_jax.open_hands()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, hands):
    model = create_model({"preset": "released", **TINY}, hands)
    variables = jax.device_get(initial_variables(model, 0))
    # Cells are surely the left hand's or the right one's: both are there.
    head = variables["params"]["segmentation"]
    head["conv2"] = jax.tree.map(
        lambda leaf: 1000 * leaf if leaf.ndim > 1 else np.float32([-1e6, 0, 0]), head["conv2"]
    )
    folder = tmp_path_factory.mktemp("model") / "checkpoints"
    meta = {"config": {"model": dataclasses.asdict(model.config)}, "hands": hands.name}
    save_variables(folder, variables, meta)
    return str(folder)


@pytest.fixture(scope="module")
def known():
    return known_result(stages=1)


def predict(folder, *options, image=(), output="out"):
    """Runs the command on files of a folder."""
    files = [str(folder / name) for name in image] or [str(folder)]
    return command.main(["--image", *files, "--output", str(folder / output), *options])


def files_below(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_one_space_puts_the_right_wrist_at_the_offset(known):
    stage = jax.tree.map(lambda value: value[-1], known.stages)
    vertices, joints = known.vertices_xyz[-1], known.joints_xyz[-1]
    np.testing.assert_allclose(joints[0, 0], 0, atol=1e-7)
    np.testing.assert_allclose(joints[1, 0], 0.15 * OFFSET, atol=1e-6)
    np.testing.assert_allclose(vertices[1] - joints[1, 0], stage.vertices_xyz[1], atol=1e-6)
    # It does not depend on the model's root joint.
    knuckle = stage.joints_xyz[:, 9:10]
    other = dataclasses.replace(
        stage, joints_xyz=stage.joints_xyz - knuckle, vertices_xyz=stage.vertices_xyz - knuckle
    )
    for a, b in zip((vertices, joints), one_space(other), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_result_says_the_same_as_its_stages(known):
    assert known.vertices_xyz.shape == (1, 2, 778, 3) and known.cameras.shape == (1, 2, 3)
    relative = known.joints_xyz[0] - known.joints_xyz[0][:, :1]
    uv = known.cameras[0, :, None, :1] * relative[..., :2] + known.cameras[0, :, None, 1:]
    x, y, half_side = known.photo.square
    np.testing.assert_allclose(known.joints_px[0], [x, y] + uv * half_side, atol=1e-3)
    assert known.finite
    stages = known.stages.replace(vertices_uv=np.full((1, 2, 778, 2), np.nan))
    assert not dataclasses.replace(known, stages=stages).finite


def test_overlay_covers_the_projected_hands(known):
    drawn = outputs.overlay(known, opacity=1.0)
    rows, columns = np.nonzero((drawn != 128).any(-1))
    flat = known.vertices_px.reshape(-1, 2)
    low, high = flat.min(0).clip(0), flat.max(0).clip(None, [299, 199])
    np.testing.assert_allclose(
        [columns.min(), rows.min(), columns.max(), rows.max()], [*low, *high], atol=1.5
    )
    # The network's camera, by hand: uv on the crop, whose square is centred on the box.
    uv = 4.0 * known.stages.vertices_xyz[0, 0, :, :2] + [0.3, 0.1]
    np.testing.assert_allclose(known.vertices_px[0, 0], [140, 100] + uv * 100, atol=1e-3)


def test_files_agree_with_each_other(known, hands, tmp_path):
    paths = outputs.write_result(tmp_path, "x", known)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(path.name for path in paths) == sorted(f"x.hands.{k}" for k in KINDS)
    vertices, joints = known.vertices_xyz[0], known.joints_xyz[0]
    scene = trimesh.load(tmp_path / "x.hands.glb")
    for index, side in enumerate(("left", "right")):
        mesh = scene.geometry[f"{side}_hand"]
        np.testing.assert_allclose(mesh.vertices, vertices[index], atol=1e-6)
        np.testing.assert_array_equal(mesh.faces, hands[side].faces)
        turned = mesh.copy().apply_transform(scene.graph[f"{side}_hand"][0])
        np.testing.assert_allclose(turned.vertices, vertices[index] * [1, -1, -1], atol=1e-6)
    path = tmp_path / "x.hands.obj"
    obj = trimesh.load(path, split_object=True, group_material=False, process=False)
    points = np.concatenate([g.vertices for g in getattr(obj, "geometry", {"": obj}).values()])
    assert points.shape == (2 * 778, 3)
    np.testing.assert_allclose(np.sort(points[:, 0]), np.sort(vertices[..., 0].ravel()), atol=1e-6)
    content = json.loads((tmp_path / "x.hands.json").read_text())
    assert content["hand_model"] == {"name": hands.name, "licence": hands.licence}
    assert "metres" in content["units"]["offset"]
    np.testing.assert_allclose(content["offset"], joints[1, 0], atol=1e-6)
    for index, side in enumerate(("left", "right")):
        hand = {k: np.array(v, np.float32) for k, v in content[side].items() if k != "camera"}
        again = mano_jax.pose_hand(
            hands[side], hand["global_orient"], hand["hand_pose"], hand["betas"], root_joint=0
        )
        placed = np.asarray(again.vertices) + joints[index, 0]
        np.testing.assert_allclose(placed, vertices[index], atol=1e-5)
        np.testing.assert_allclose(hand["joints_xyz"], joints[index], atol=1e-6)
        np.testing.assert_allclose(
            mano_jax.matrix_from_axis_angle(hand["global_orient_axis_angle"]),
            hand["global_orient"],
            atol=1e-5,
        )
        camera = content[side]["camera"]
        uv = camera["scale"] * np.asarray(again.joints)[:, :2] + camera["translation"]
        crop = content["crop"]
        photo_px = np.array(crop["centre"]) + uv * crop["side"] / 2
        np.testing.assert_allclose(hand["joints_px"], photo_px, atol=0.01)


def test_command_on_photos_of_all_kinds(checkpoint, tmp_path, capsys):
    """The user's own files beside the photos stay; a second run takes no result for a photo."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (300, 500, 3)).astype(np.uint8)
    (tmp_path / "a").mkdir()
    cv2.imwrite(str(tmp_path / "hand.png"), noise[..., 0])
    cv2.imwrite(str(tmp_path / "a" / "hand.jpg"), noise)
    cv2.imwrite(str(tmp_path / ("long" * 60 + ".bmp")), noise[:1])
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 nothing")
    (tmp_path / "moving.gif").write_bytes(b"GIF89a nothing")
    (tmp_path / "hand.json").write_text("the user's own")
    inputs = files_below(tmp_path)
    own = {name: (tmp_path / name).read_bytes() for name in inputs}
    options = ["--checkpoint", checkpoint, "--batch_size", "2", "--whole"]
    for _ in range(2):
        assert predict(tmp_path, *options, "--html", output=".") == 2
        captured = capsys.readouterr()
        assert captured.err.count("error: ") == 3  # two photos and the sum of them
        assert "moving.gif: GIF is not read" in captured.err and "broken.jpg" in captured.err
        assert "Hand model: open hand (" in captured.out and OPEN_HAND_NOTE not in captured.out
        assert "\n3 photos in" in captured.out
        assert "compiling" in captured.out and "per image reading" in captured.out
        assert {name: (tmp_path / name).read_bytes() for name in inputs} == own
        stems = ("hand", "a/hand", ("long" * 60)[:180])
        results = {f"{stem}.hands.{kind}" for stem in stems for kind in (*KINDS, "html")}
        assert files_below(tmp_path) == inputs | results
    about = json.loads((tmp_path / "a" / "hand.hands.json").read_text())
    assert about["model"] == {"name": checkpoint, "step": 0, "trained_with": "open hand"}
    assert cv2.imread(str(tmp_path / "a" / "hand.hands.overlay.png")).shape == noise.shape


def test_command_on_a_folder_with_a_detector(checkpoint, tmp_path, capsys, monkeypatch):
    """Photos, a video, one of each damaged, one photo without hands, one with one hand."""
    folder = tmp_path / "in"
    (folder / "b").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3)).astype(np.uint8)
    cv2.imwrite(str(folder / "b" / "1.png"), noise)
    cv2.imwrite(str(folder / "b" / "dark.png"), noise // 8)
    cv2.imwrite(str(folder / "one.png"), noise // 2)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 nothing")
    (folder / "broken.mp4").write_bytes(b"nothing")
    with open_writer(folder / "clip.mp4", 25) as video:
        for number in range(3):
            video(np.roll(noise, 10 * number, 1))

    class Detector:
        def prepare(self):
            pass

        def hands(self, image, thorough=True):
            count = int(image.mean() > 30) + int(image.mean() > 80)
            boxes = [(20.0, 20, 60, 60), (70.0, 30, 50, 50)][:count]
            return [SeenHand(box, np.zeros((21, 2)), 0.875, i) for i, box in enumerate(boxes)]

        def sighting(self, image, points):
            return SeenHand((0.0, 0.0, 1.0, 1.0), points, 0.9, 0.5)

    monkeypatch.setattr(command, "HandDetector", Detector)
    options = ["--checkpoint", checkpoint, "--batch_size", "2"]
    assert predict(folder, *options, output="../out") == 2
    captured = capsys.readouterr()
    assert captured.err.count("error: ") == 4 and captured.err.count("\n") == 4
    for part in (
        "broken.jpg",
        "broken.mp4: not a video",
        "No hands found in",
        "dark.png. Give a",
        "3 of 6",
    ):
        assert part in captured.err
    assert "b/1.png: 2 hands found (confidence 0.88 and 0.88): left " in captured.out
    assert "one.png: 1 hand found (confidence 0.88): left " in captured.out
    assert "\n2 photos and 1 video (3 frames) in" in captured.out
    out = tmp_path / "out"
    content = json.loads((out / "b" / "1.hands.json").read_text())
    assert content["box"] == [20, 20, 100, 60] and content["confidence"] == [0.875, 0.875]
    assert files_below(out) == {f"{s}.hands.{k}" for s in ("b/1", "one") for k in KINDS} | {
        f"clip.hands.{kind}" for kind in ("mp4", "jsonl", "json", "npz")
    }


def test_batches_give_what_single_photos_give(checkpoint):
    loaded = load_model(checkpoint)
    rng = np.random.default_rng(1)
    photos = [
        photo_from_image(rng.integers(0, 255, (100 + i, 90, 3)).astype(np.uint8), str(i))
        for i in range(3)
    ]
    together = list(Predictor(loaded, 2).photos(photos))
    assert [result.photo.name for result in together] == ["0", "1", "2"]
    for result in together:
        images = result.photo.crop()[None]
        stages = estimate_all(loaded.model, loaded.variables, images, 2)
        single = jax.tree.map(lambda *values: np.concatenate(values), *stages)
        np.testing.assert_allclose(
            result.stages.vertices_xyz, single.vertices_xyz, rtol=1e-4, atol=1e-5
        )


def test_a_run_names_its_hands(checkpoint, tmp_path):
    mano_jax.save_npz(toy_hands(), tmp_path)
    loaded = load_model(checkpoint, mano=str(tmp_path))
    assert any("trained with 'open hand'" in note for note in loaded.notes)
    assert OPEN_HAND_NOTE not in load_model(checkpoint).notes


def test_what_cannot_be_written_leaves_nothing(known, tmp_path):
    (tmp_path / "file").write_text("")
    for kind in outputs.FORMATS:
        with pytest.raises(OSError):
            outputs.write_result(tmp_path / "file", "x", known, [kind])
    assert files_below(tmp_path) == {"file"}


def test_tensorflow_stays_out():
    code = (
        "import sys, dir_jax.prediction.command\n"
        "assert 'tensorflow' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
