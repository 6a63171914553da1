from concurrent.futures import Future

import cv2
import numpy as np
import pytest

from dir_jax.models import mediapipe
from dir_jax.prediction import detection
from dir_jax.prediction.detection import (
    HandDetector,
    Landmarks,
    Palms,
    Region,
    Window,
    region_of_palm,
    region_of_points,
)

pytestmark = pytest.mark.optimised  # the networks look at many windows


def made(network):
    """As the module's own functions: a network that has been compiled."""
    future = Future()
    future.set_result(network)
    return lambda: future


def encoded(boxes):
    """The palm model's outputs for palms (cell column, row, anchor's number, logit, centre...)."""
    raw, logits = np.zeros((2016, 18), np.float32), np.full(2016, -200, np.float32)
    for anchor, logit, centre, size in boxes:
        origin = detection.anchors()[anchor] * 192
        raw[anchor, :2], raw[anchor, 2:4] = np.array(centre) - origin, size
        raw[anchor, 4:] = np.tile(np.array(centre) - origin, 7) + np.arange(14)
        logits[anchor] = logit
    return raw, logits


def test_anchors_are_the_cells_centres_layer_by_layer():
    anchors = detection.anchors()
    assert anchors.shape == (2016, 2)
    np.testing.assert_allclose(anchors[:2], 0.5 / 24)  # two in the first cell
    np.testing.assert_allclose(anchors[2], [1.5 / 24, 0.5 / 24])  # x runs first
    np.testing.assert_allclose(anchors[1152:1158], 0.5 / 12)
    np.testing.assert_allclose(anchors[-1], 11.5 / 12)


def test_decoding_adds_the_anchor_and_sorts_by_score():
    raw, logits = encoded([(0, 0.0, (30, 40), (20, 10)), (1500, 2.0, (100, 90), (50, 60))])
    found = detection.decode(raw, logits, 0.4)
    np.testing.assert_allclose(found.score, [1 / (1 + np.exp(-2)), 0.5])
    np.testing.assert_allclose(found.centre, [[100, 90], [30, 40]], atol=1e-4)
    np.testing.assert_allclose(found.size, [[50, 60], [20, 10]])
    np.testing.assert_allclose(found.points[1, 2], [34, 45], atol=1e-4)
    assert len(detection.decode(raw, logits, 0.6).score) == 1


def test_overlapping_palms_are_averaged_by_score():
    raw, logits = encoded(
        [
            (0, 1.0, (50, 50), (40, 40)),
            (1, -1.0, (54, 50), (40, 40)),
            (2, 0.5, (120, 50), (40, 40)),
        ]
    )
    merged = detection.merge(detection.decode(raw, logits, 0.1))
    one, two = 1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))
    np.testing.assert_allclose(merged.score, [one, 1 / (1 + np.exp(-0.5))])
    np.testing.assert_allclose(merged.centre[0], [(50 * one + 54 * two) / (one + two), 50])
    np.testing.assert_allclose(merged.centre[1], [120, 50], atol=1e-4)
    nothing = detection.merge(detection.decode(raw, logits, 0.99))
    assert nothing.score.shape == (0,) and nothing.points.shape == (0, 7, 2)


@pytest.mark.parametrize(("height", "width"), [(300, 600), (90, 40), (192, 192)])
def test_palms_return_to_the_pixels_of_the_photo(height, width, monkeypatch):
    """A square drawn in the photo, found in the model's input, is where it was drawn."""
    image = np.zeros((height, width, 3), np.uint8)
    low, high = np.array([width // 2, height // 3]), np.array([width * 3 // 4, height * 2 // 3])
    image[low[1] : high[1] + 1, low[0] : high[0] + 1] = 255
    canvas, scale, _ = detection.letterbox(image)
    assert canvas.shape == (192, 192, 3) and canvas.max() == 1
    rows, columns = np.nonzero(canvas[..., 0] > 0.5)
    edges = np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]])
    raw, logits = encoded([(700, 3.0, edges.mean(0), edges[1] - edges[0])])
    monkeypatch.setattr(detection, "_palm_network", made(lambda image: (raw[None], logits[None])))
    found = detection.find_palms(image, 0.5)
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
def test_a_region_is_cut_out_upright_and_its_points_return(angle, monkeypatch):
    """A dot drawn in the photo lies in the model's input where the returned point says."""
    image = np.zeros((300, 400, 3), np.uint8)
    cv2.circle(image, (230, 140), 5, (255, 255, 255), -1)
    region = Region(np.array([200.0, 150]), 160.0, angle)
    points, seen = np.zeros((1, 21, 3), np.float32), []

    def network(patch):
        seen.append(patch)
        return mediapipe.LandmarkOutput(points, np.float32([0.9]), np.float32([0.2]), points)

    monkeypatch.setattr(detection, "_landmark_network", made(network))
    marks = detection.find_landmarks(image, region)
    assert marks.presence == pytest.approx(0.9) and marks.right == pytest.approx(0.2)
    np.testing.assert_allclose(marks.points[0], region.matrix()[:, 2])  # the patch's corner
    patch = seen[0][..., 0]
    assert patch.shape == (224, 224) and patch.max() == 1
    points[0, :, :2] = np.argwhere(patch > 0.5).mean(0)[::-1] + 0.5
    placed = detection.find_landmarks(image, region).points[5]
    np.testing.assert_allclose(placed, [230, 140], atol=0.3)


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
        return Landmarks(nearest, 0.95, 0.9, np.zeros(21), 1000.0)


def scene_photo():
    columns, rows = np.meshgrid(np.arange(800) // 4, np.arange(600) // 4)
    return np.stack([columns, rows, rows], -1).astype(np.uint8)


@pytest.mark.parametrize(
    "options", [{}, {"mirrored_only": True}, {"largest_view": 400}], ids=["", "mirrored", "small"]
)
def test_hands_are_found_where_they_are_in_whatever_view(options, monkeypatch):
    monkeypatch.setattr(detection, "region_of_palm", lambda p, n: Region(p.centre[n], 1, 0))
    monkeypatch.setattr(detection, "region_of_points", lambda p: Region(p.mean(0), 1, 0))
    first = hand_points() + [220, 100]
    second = hand_points()[:, ::-1] + [200, 280]
    scene = Scene([first, second], **options)
    seen = HandDetector(scene.palms, scene.landmarks).hands(scene_photo())
    assert len(seen) == 2
    for hand, truth in zip(sorted(seen, key=lambda h: h.box[0]), (first, second), strict=True):
        np.testing.assert_allclose(hand.points, truth, atol=4)
        x, y, width, height = hand.box
        room = detection.FLESH * np.ptp(truth, axis=0).max()
        np.testing.assert_allclose([x, y], truth.min(0) - room, atol=5)
        np.testing.assert_allclose([width, height], np.ptp(truth, axis=0) + 2 * room, atol=5)


def test_no_hands_are_looked_for_everywhere_once():
    scene = Scene([])
    assert HandDetector(scene.palms, scene.landmarks).hands(scene_photo()) == []
    assert 20 < scene.views < 120
    assert HandDetector(scene.palms, scene.landmarks).hands(scene_photo()[:2, :3]) == []


def test_windows_cover_the_photo():
    covered = np.zeros((200, 700), int)
    for window in detection._windows(700, 200):
        assert isinstance(window, Window) and window.right <= 700 and window.bottom <= 200
        covered[window.top : window.bottom, window.left : window.right] += 1
    assert covered.min() >= 4


def test_the_networks_see_no_hand_in_nothing():
    detector = HandDetector()
    assert detector.hands(np.full((120, 160, 3), 127, np.uint8)) == []
    assert detector.hands(np.zeros((1, 1, 3), np.uint8)) == []


def test_a_hand_beside_another_is_found_when_that_one_is_painted_over():
    """Two palms that touch are proposed as one until the nearer hand is gone from the picture."""
    generator = np.random.default_rng(1)
    near, far = (generator.uniform(0, 60, (21, 2)) + place for place in ([40, 60], [90, 60]))
    image = np.full((200, 200, 3), 40, np.uint8)
    for x, y in near.round().astype(int):
        image[y, x] = 255

    def palms(view, least):
        there = (view == 255).all(-1).any()
        mirrored = (
            there
            and (view[near[0, 1].round().astype(int), near[0, 0].round().astype(int)] < 255).any()
        )
        middle = near.mean(0) if there else far.mean(0)
        count = 0 if mirrored or view[0, 0, 0] == 0 else 1
        return Palms(
            np.full(count, 0.9),
            middle[None][:count],
            np.full((count, 2), 30.0),
            np.zeros((count, 7, 2)),
        )

    def landmarks(view, region):
        points = near if (view == 255).all(-1).any() else far
        return Landmarks(points, 0.95, 0.9, np.zeros(21), 1000.0)

    seen = HandDetector(palms, landmarks).hands(image, thorough=False)
    assert {tuple(hand.points[0]) for hand in seen} == {tuple(near[0]), tuple(far[0])}
