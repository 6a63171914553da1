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
from dir_jax.models.types import Stage, one_space
from dir_jax.prediction import (
    command as predict_command,
)
from dir_jax.prediction import (
    meshes as export_mesh,
)
from dir_jax.prediction import (
    outputs as prediction_files,
)
from dir_jax.prediction import (
    predictor as prediction,
)
from dir_jax.prediction.photos import photo_from_image
from dir_jax.prediction.result import NotFiniteError, result_of
from dir_jax.prediction.video_files import open_writer
from dir_jax.weights.checkpoints import save_variables
from dir_jax.weights.loading import load_model
from tests.dir_jax.prediction_fixtures import loaded_with, posed_stage


@pytest.fixture(scope="module")
def hands():
    return mano_jax.open_hands()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, hands):
    model = create_model({"preset": "released", **TINY, "stages": 1}, hands)
    image = np.zeros((1, 256, 256, 3), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), image)
    rng = np.random.default_rng(0)  # compiling the real initialisation takes a minute
    variables = jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            np.ones(leaf.shape, np.float32)
            if "batch_stats" in jax.tree_util.keystr(path)
            else rng.normal(0, 0.05, leaf.shape).astype(np.float32)
        ),
        shapes,
    )
    folder = tmp_path_factory.mktemp("model") / "checkpoints"
    meta = {"config": {"model": dataclasses.asdict(model.config)}, "hands": hands.name}
    save_variables(folder, variables, meta)
    return str(folder)


@pytest.fixture
def known(hands):
    """Both hands posed at random over a grey photo."""
    photo = photo_from_image(np.full((200, 300, 3), 128, np.uint8), "grey", (60, 50, 160, 100))
    return prediction.Reconstruction(photo, (posed_stage(hands),))


def test_one_space_puts_the_right_wrist_at_the_offset(known):
    vertices, joints = one_space(known.stages[0])
    np.testing.assert_allclose(joints[0, 0], 0, atol=1e-7)
    np.testing.assert_allclose(joints[1, 0], 0.15 * np.array([0.6, 0.2, -0.3]), atol=1e-6)
    np.testing.assert_allclose(
        vertices[1] - joints[1, 0], known.stages[0].vertices_xyz[1], atol=1e-6
    )


def test_one_space_does_not_depend_on_the_models_root(known):
    stage = known.stages[0]
    knuckle = stage.joints_xyz[:, 9:10]
    other = dataclasses.replace(
        stage, joints_xyz=stage.joints_xyz - knuckle, vertices_xyz=stage.vertices_xyz - knuckle
    )
    for a, b in zip(one_space(stage), prediction.one_space(other), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_result_says_the_same_as_its_stages(known, hands):
    result = result_of("x", known, loaded_with(hands))
    assert result.vertices_xyz.shape == (1, 2, 778, 3) and result.cameras.shape == (1, 2, 3)
    relative = result.joints_xyz[0] - result.joints_xyz[0][:, :1]
    uv = result.cameras[0, :, None, :1] * relative[..., :2] + result.cameras[0, :, None, 1:]
    x, y, half_side = result.photo.square
    np.testing.assert_allclose(result.joints_px[0], [x, y] + uv * half_side, atol=1e-3)


def test_an_answer_that_is_not_finite_is_no_result(known, hands):
    stage = dataclasses.replace(known.stages[0], vertices_uv=np.full((2, 778, 2), np.nan))
    with pytest.raises(NotFiniteError, match="grey: the network's answer is not finite"):
        result_of("x", known._replace(stages=(stage,)), loaded_with(hands))


def test_overlay_covers_the_projected_hands(known, hands):
    faces = [hands.left.faces, hands.right.faces]
    drawn = prediction.draw_overlay(known, faces, opacity=1.0)
    rows, columns = np.nonzero((drawn != 128).any(-1))
    flat = known.vertices_px().reshape(-1, 2)
    low, high = flat.min(0).clip(0), flat.max(0).clip(None, [299, 199])
    np.testing.assert_allclose(
        [columns.min(), rows.min(), columns.max(), rows.max()], [*low, *high], atol=1.5
    )
    # The network's camera, by hand: uv on the crop, whose square is centred on the box.
    s, t = 4.0, np.array([0.3, 0.1])
    uv = s * known.stages[0].vertices_xyz[0, :, :2] + t
    expected = np.array([140, 100]) + uv * 100
    np.testing.assert_allclose(known.vertices_px()[0], expected, atol=1e-3)


def test_files_agree_with_each_other(known, hands, tmp_path):
    result = result_of("x", known, loaded_with(hands))
    paths = prediction_files.write_result(tmp_path, result)
    assert sorted(p.name for p in paths) == sorted(p.name for p in tmp_path.iterdir())
    vertices, joints = one_space(known.stages[0])
    scene = trimesh.load(tmp_path / "x.glb")
    for index, side in enumerate(("left", "right")):
        mesh = scene.geometry[f"{side}_hand"]
        np.testing.assert_allclose(mesh.vertices, vertices[index], atol=1e-6)
        np.testing.assert_array_equal(mesh.faces, hands[side].faces)
        turned = mesh.copy().apply_transform(scene.graph[f"{side}_hand"][0])
        np.testing.assert_allclose(turned.vertices, vertices[index] * [1, -1, -1], atol=1e-6)
    obj = trimesh.load(tmp_path / "x.obj", split_object=True, group_material=False, process=False)
    points = np.concatenate([g.vertices for g in getattr(obj, "geometry", {"": obj}).values()])
    assert points.shape == (2 * 778, 3)
    np.testing.assert_allclose(np.sort(points[:, 0]), np.sort(vertices[..., 0].ravel()), atol=1e-6)
    content = json.loads((tmp_path / "x.json").read_text())
    assert content["hand_model"]["name"] == hands.name and "metres" in content["units"]["offset"]
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
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (300, 500, 3)).astype(np.uint8)
    (tmp_path / "a").mkdir()
    cv2.imwrite(str(tmp_path / "hand.png"), noise[..., 0])
    cv2.imwrite(str(tmp_path / "a" / "hand.jpg"), noise)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 nothing")
    files = [str(tmp_path / n) for n in ("hand.png", "none.png", "a/hand.jpg", "broken.jpg")]
    status = predict_command.main(
        ["--image", *files, "--output", str(tmp_path / "out"), "--checkpoint", checkpoint]
        + ["--batch_size", "2"]
    )
    captured = capsys.readouterr()
    assert status == 2
    assert captured.err.count("error: ") == 3  # two photos and the sum of them
    assert "none.png" in captured.err and "broken.jpg" in captured.err
    assert "open hand" in captured.out and "\n2 photos or videos in" in captured.out
    assert "compiling" in captured.out and "per image reading" in captured.out
    names = {p.name for p in (tmp_path / "out").iterdir()}
    kinds = ("_overlay.png", "_joints.png", "_side.png", "_top.png", ".glb", ".obj", ".json")
    assert names == {stem + kind for stem in ("hand", "hand_2") for kind in kinds}
    overlay = cv2.imread(str(tmp_path / "out" / "hand_2_overlay.png"))
    assert overlay.shape == noise.shape


def test_command_on_a_folder_with_a_detector(checkpoint, tmp_path, capsys, monkeypatch):
    """Photos, a video, one of each damaged, one photo without hands."""
    folder = tmp_path / "in"
    (folder / "b").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3)).astype(np.uint8)
    cv2.imwrite(str(folder / "b" / "1.png"), noise)
    cv2.imwrite(str(folder / "b" / "dark.png"), noise // 8)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 nothing")
    (folder / "broken.mp4").write_bytes(b"nothing")
    with open_writer(folder / "clip.mp4", 25) as video:
        for number in range(3):
            video.add(np.roll(noise, 10 * number, 1))

    def detector(image):
        return [] if image.mean() < 60 else [(20.0, 20, 60, 60), (70.0, 30, 50, 50)]

    monkeypatch.setattr("dir_jax.prediction.detection.load_detector", lambda folder: detector)
    options = ["--checkpoint", checkpoint, "--batch_size", "2", "--detect"]
    out = tmp_path / "out"
    assert predict_command.main(["--image", str(folder), "--output", str(out), *options]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("error: ") == 4 and captured.err.count("\n") == 4
    for part in ("broken.jpg", "broken.mp4: not a video", "dark.png: no hand found", "3 of 5"):
        assert part in captured.err
    assert "2 photos or videos and 3 frames of videos in" in captured.out
    assert json.loads((out / "b" / "1.json").read_text())["box"] == [20, 20, 100, 60]
    names = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    kinds = ("_overlay.png", "_joints.png", "_side.png", "_top.png", ".glb", ".obj", ".json")
    assert names == {f"b/1{kind}" for kind in kinds} | {"clip.mp4", "clip.jsonl", "clip.json"}


def test_boxes_from_a_file_and_chosen_kinds(checkpoint, tmp_path, capsys):
    image = np.full((90, 120, 3), 99, np.uint8)
    for name in ("a.png", "b.png", "c.png"):
        cv2.imwrite(str(tmp_path / name), image)
    (tmp_path / "boxes.csv").write_text("a.png,10,20,40,30\nc.png,500,20,40,30\n")
    files = [str(tmp_path / name) for name in ("a.png", "b.png", "c.png")]
    options = ["--checkpoint", checkpoint, "--batch_size", "2", "--write", "json"]
    out = tmp_path / "out"
    arguments = ["--image", *files, "--output", str(out), "--boxes", str(tmp_path / "boxes.csv")]
    assert predict_command.main([*arguments, *options]) == 2
    error = capsys.readouterr().err
    assert "b.png: " in error and "boxes.csv has no box for it" in error
    assert "c.png: the box 500,20,40,30 lies outside the photo" in error
    assert [p.name for p in out.iterdir()] == ["a.json"]
    content = json.loads((out / "a.json").read_text())
    assert content["box"] == [10, 20, 40, 30] and content["box_from"] == "annotated"


def test_batches_give_what_single_photos_give(checkpoint):
    loaded = load_model(checkpoint=checkpoint)
    rng = np.random.default_rng(1)
    photos = [
        photo_from_image(rng.integers(0, 255, (100 + i, 90, 3)).astype(np.uint8), str(i))
        for i in range(3)
    ]
    together = list(prediction.Predictor(loaded, 2).photos(photos))
    assert [found.photo.name for found in together] == ["0", "1", "2"]
    alone = prediction.Predictor(loaded, 2)
    for found in together:
        single = alone.crops(found.photo.crop()[None])[-1]
        assert isinstance(found.stages[-1], Stage)
        np.testing.assert_allclose(
            found.stages[-1].vertices_xyz, single.vertices_xyz[0], rtol=1e-4, atol=1e-5
        )


def test_a_run_names_its_hands(checkpoint, tmp_path):
    from tests.golden.toy_mano import toy_mano

    pair = mano_jax.load_pair({side: toy_mano(side) for side in ("left", "right")})
    mano_jax.save_npz(pair, tmp_path)
    loaded = load_model(checkpoint=checkpoint, mano=str(tmp_path))
    assert any("trained with 'open hand'" in note for note in loaded.notes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--box", "1,2,3"], "no box"),
        (["--box", "1,2,0,3"], "empty"),
    ],
)
def test_bad_boxes(options, message, capsys):
    with pytest.raises(SystemExit) as caught:
        predict_command.main(["--image", "a.jpg", "--output", "o", "--workdir", "w", *options])
    assert caught.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "0 sources of weights"),
        (["--workdir", "a", "--checkpoint", "b"], "2 sources of weights"),
        (["--workdir", "/no/such"], "no such file or folder"),
        (["--workdir", "w", "--box", "1,2,3,4", "5,6,7,8"], "2 boxes for 1 photos"),
        (["--workdir", "w", "--batch_size", "0"], "--batch_size is 0"),
        (["--workdir", "w", "--boxes", "/no/such.json"], "/no/such.json cannot be read"),
        (
            ["--workdir", "w", "--detect", "--detector", "/no/such"],
            "dir_jax.prediction.detection --download",
        ),
    ],
)
def test_bad_commands_get_one_line(options, message, capsys):
    assert predict_command.main(["--image", "a.jpg", "--output", "o", *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error


def test_obj_and_glb_are_whole_or_absent(known, hands, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    vertices, _ = one_space(known.stages[0])
    with pytest.raises(OSError):
        export_mesh.write_obj(blocked / "x.obj", vertices, [hands.left.faces, hands.right.faces])
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_tensorflow_stays_out():
    code = (
        "import sys, predict, dir_jax.prediction.command, dir_jax.prediction.outputs\n"
        "assert 'tensorflow' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
