import types

import numpy as np
import pytest

from dir_jax.prediction.boxes import NoHandError
from dir_jax.prediction.detection import SeenHand
from dir_jax.prediction.inputs import Source
from dir_jax.prediction.photos import intersection_over_union
from dir_jax.prediction.tracking import (
    CONFIRM,
    LOOK_AGAIN,
    LOOK_FOR_LOST,
    OneEuro,
    Smoother,
    Tracker,
)
from tests.dir_jax.prediction.known_hands import known_result

SOURCE = Source("clip.mp4", "clip", True, 0)
IMAGE = np.zeros((200, 300, 3), np.uint8)
HERE, THERE = (50.0, 50.0, 60.0, 40.0), (200.0, 20.0, 50.0, 50.0)


@pytest.fixture(scope="module")
def known():
    return known_result(stages=2)


class Detector:
    """Sees boxes, and remembers how it was asked."""

    def __init__(self, *boxes):
        self.boxes = boxes
        self.sure = 0.9
        self.asked = []

    def hands(self, image, thorough=True):
        self.asked.append("thorough" if thorough else "quick")
        return [SeenHand(box, None, 0.9, i) for i, box in enumerate(self.boxes)]

    def sighting(self, image, points):
        return SeenHand((0.0, 0.0, 1.0, 1.0), points, self.sure, 0.5)


def saw(tracker, photo, box, fitted=(False, False)):
    """Tells a tracker that the network saw the hands in a box."""
    joints_px = np.arange(2.0)[None, :, None, None] + np.zeros((1, 2, 21, 2))
    there = {"present": np.ones(2, bool), "fitted": np.array(fitted)}
    result = types.SimpleNamespace(photo=photo, box=box, joints_px=joints_px, **there)
    return tracker.saw(result)


def test_the_last_frames_hands_give_the_next_crop():
    """The detector is asked at the beginning and after LOOK_AGAIN frames only."""
    detector = Detector(HERE)
    tracker = Tracker(detector, 25, 0.0)
    box, origins = HERE, []
    for number in range(LOOK_AGAIN + 2):
        (photo,) = tracker(SOURCE, IMAGE)
        origins.append(photo.box_from)
        np.testing.assert_allclose(photo.box, box, atol=1e-6)
        box = (HERE[0] + 0.5 * number, HERE[1], *HERE[2:])
        assert saw(tracker, photo, box)
    assert origins == ["detected"] + ["tracked"] * (LOOK_AGAIN + 1)
    assert detector.asked == ["thorough", "quick"]


@pytest.mark.parametrize(
    ("seen", "origin"),
    [
        ((THERE,), "detected"),
        (((60.0, 55.0, 30.0, 30.0),), "tracked"),  # one of the two
        ((HERE, (115.0, 40.0, 60.0, 50.0)), "detected"),  # the other one has come
        ((THERE, HERE), "tracked"),  # another person's
        ((), "tracked"),
    ],
)
def test_the_detector_corrects_a_track_that_went_astray(seen, origin):
    detector = Detector(HERE)
    tracker = Tracker(detector, 25, 1.0)
    (photo,) = tracker(SOURCE, IMAGE)
    detector.boxes = seen
    saw(tracker, photo, HERE)
    for _ in range(LOOK_AGAIN - 1):
        (photo,) = tracker(SOURCE, IMAGE)
        assert intersection_over_union(photo.box, HERE) > 0.99
        saw(tracker, photo, HERE)
    assert tracker(SOURCE, IMAGE)[0].box_from == origin
    assert detector.asked == ["thorough", "quick"]


def test_hands_that_leap_are_looked_for_at_once():
    detector = Detector(HERE)
    tracker = Tracker(detector, 25, 1.0)
    assert saw(tracker, *tracker(SOURCE, IMAGE), THERE)  # detected: there are hands
    detector.boxes = (THERE,)
    assert tracker(SOURCE, IMAGE)[0][3:5] == (THERE, "detected")
    assert not tracker.saw(None)
    detector.boxes = ()
    with pytest.raises(NoHandError):
        tracker(SOURCE, IMAGE)


def test_hands_that_nobody_confirms_are_gone():
    detector = Detector(HERE)
    tracker = Tracker(detector, 25, 1.0)
    saw(tracker, *tracker(SOURCE, IMAGE), HERE)
    detector.boxes, detector.sure = (), 0.01
    believed = [saw(tracker, *tracker(SOURCE, IMAGE), HERE) for _ in range(CONFIRM)]
    assert believed == [True] * (CONFIRM - 1) + [False]
    with pytest.raises(NoHandError):
        tracker(SOURCE, IMAGE)


def test_landmarks_are_looked_for_where_they_were():
    tracker = Tracker(Detector(HERE), 25, 1.0)
    saw(tracker, *tracker(SOURCE, IMAGE), HERE, fitted=(False, True))
    (photo,) = tracker(SOURCE, IMAGE)
    assert photo.box_from == "tracked" and len(photo.seen) == 1
    np.testing.assert_array_equal(photo.seen[0].points, np.ones((21, 2)))  # the right hand's
    saw(tracker, photo, HERE)
    assert tracker(SOURCE, IMAGE)[0].seen == ()


def test_lost_hands_are_looked_for_now_and_then():
    detector = Detector()
    tracker = Tracker(detector, 25, 1.0)
    for _ in range(LOOK_AGAIN + 2):
        with pytest.raises(NoHandError):
            tracker(SOURCE, IMAGE)
    looks = detector.asked
    assert looks.count("thorough") == 2 and looks[0] == "thorough"
    assert len(looks) == (LOOK_AGAIN + 1) // LOOK_FOR_LOST + 1
    detector.boxes = (HERE,)
    with pytest.raises(NoHandError):
        tracker(SOURCE, IMAGE)
    assert tracker(SOURCE, IMAGE)[0].box == HERE


def test_the_filter_stills_noise_and_follows_motion():
    rng = np.random.default_rng(0)
    times = np.arange(100) / 25
    noise = rng.normal(0, 0.01, 100)
    still, fast = OneEuro(1.0), OneEuro(1.0)
    held = np.array([still(noise[i : i + 1], t)[0] for i, t in enumerate(times)])
    assert held[20:].std() < 0.6 * noise[20:].std()
    ramp = np.array([fast(np.array([5 * t]), t)[0] for t in times])
    lag = (5 * times - ramp)[50:] / 5
    assert lag.max() < 1.2 / 25  # about one frame
    strong, off = OneEuro(4.0), OneEuro(0.0)
    held_strongly = np.array([strong(noise[i : i + 1], t)[0] for i, t in enumerate(times)])
    assert held_strongly[20:].std() < held[20:].std()
    assert [off(noise[i : i + 1], t)[0] for i, t in enumerate(times)] == noise.tolist()


def test_smoothed_hands_are_posed_from_smoothed_parameters(known):
    """The first frame and constant hands come out as they are; the crop may move meanwhile."""
    smoother = Smoother(1.0)
    for number, shift in enumerate((0.0, 3.0, 6.0)):
        square = known.photo.square + [shift, 0, 2 * shift]
        photo = known.photo._replace(square=square)
        # The same hands on the photo, seen from another crop.
        uv = (known.vertices_px - square[:2]) / square[2]
        params = known.params.copy()
        params[..., 61] *= known.photo.square[2] / square[2]
        centre = known.photo.square[:2] + params[..., 62:] * known.photo.square[2]
        params[..., 62:] = (centre - square[:2]) / square[2]
        result = known.__class__(
            photo, known.stages.replace(vertices_uv=uv, params=params), known.loaded
        )
        smooth = smoother(result, number / 25)
        assert smooth.vertices_xyz.shape == (1, 2, 778, 3)
        np.testing.assert_allclose(smooth.vertices_xyz[-1], known.vertices_xyz[-1], atol=1e-4)
        np.testing.assert_allclose(smooth.vertices_px[-1], known.vertices_px[-1], atol=0.05)
    assert smoother(None, 4 / 25) is None
    assert Smoother(0.0)(known, 0.0) is known
