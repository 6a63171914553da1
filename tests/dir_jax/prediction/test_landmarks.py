"""Hands on the landmarks that are seen of them: exact points bring back the hand they belong to."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dir_jax.prediction.detection import SeenHand
from dir_jax.prediction.landmarks import on_landmarks
from dir_jax.prediction.predictor import Predictor
from tests.dir_jax.prediction.known_hands import known_result

PIXELS_PER_METRE = 900.0


class Detector:
    """Sees the hands of a result wherever it is asked to look."""

    def __init__(self, *hands: SeenHand):
        self.hands = hands

    def sighting(self, image, points):
        nearest = [np.linalg.norm(hand.points - points) for hand in self.hands]
        return self.hands[int(np.argmin(nearest))]


@pytest.fixture(scope="module")
def truth():
    return known_result(stages=1)


def seen(result, index: int, presence: float = 0.99) -> SeenHand:
    """A hand of a result as a detector with perfect sight reports it."""
    joints = result.stages.joints_xyz[-1][index]
    scale = result.cameras[-1][index, 0] * result.photo.square[2]
    depth = scale * (joints[:, 2] - joints[:, 2].mean())
    points = result.joints_px[-1][index]
    box = (*points.min(0), *np.ptp(points, axis=0))
    return SeenHand(box, points, presence, float(index), depth, float(scale))


def guess(truth):
    """A network's answer that is wrong in everything, for the same photo."""
    other = known_result(stages=2)
    return dataclasses.replace(other, photo=truth.photo)


def distance_px(one, two, index) -> float:
    return float(
        np.linalg.norm(one.joints_px[-1][index] - two.joints_px[-1][index], axis=-1).mean()
    )


def test_hands_that_are_seen_lie_where_they_are(truth):
    hands = (seen(truth, 1), seen(truth, 0))  # in any order
    start = dataclasses.replace(guess(truth), photo=truth.photo._replace(seen=hands))
    start.stages.params[:] += 0.4
    start = dataclasses.replace(
        start, presence=np.array([0.3, 0.9]), present=np.array([False, True])
    )
    found = on_landmarks(start, Detector())
    assert found.fitted.tolist() == [True, True] == found.present.tolist()
    assert len(found.params) == len(start.params) + 1
    for index in (0, 1):
        assert distance_px(found, truth, index) < 1
        shape = found.stages.joints_xyz[-1][index] - truth.stages.joints_xyz[-1][index]
        assert np.linalg.norm(shape, axis=-1).mean() < 0.004
    assert np.abs(found.offset_xyz[-1] - truth.offset_xyz[-1]).max() < 0.01
    assert found.presence.tolist() == [0.99, 0.99]


def test_only_sure_landmarks_of_the_right_side_count(truth):
    start = guess(truth)
    unsure = on_landmarks(start, Detector(seen(truth, 0, 0.8), seen(truth, 1)._replace(right=0.1)))
    assert unsure is start
    # Without sightings, the landmark network looks where the network's own hands are.
    found = on_landmarks(start, Detector(seen(truth, 0), seen(truth, 1, 0.5)))
    assert found.fitted.tolist() == [True, False]
    np.testing.assert_array_equal(found.params[-1][1], start.params[-1][1])
    assert found.presence.tolist() == [1.0, 0.85] and found.present.all()
    doubtful = dataclasses.replace(start, presence=np.array([0.4, 0.5]))
    found = on_landmarks(doubtful, Detector(seen(truth, 0), seen(truth, 1, 0.5)))
    assert found.present.tolist() == [True, False]
    assert distance_px(found, truth, 0) < 1


@pytest.mark.parametrize("others, left", [((), 0.4), ((0.7,), 0.6)])
def test_beside_a_hand_alone_the_network_s_word_counts_less(truth, others, left):
    """A searched photo with one hand seen; a second, unsure sighting is one all the same."""
    hands = (seen(truth, 0), *(seen(truth, 1, presence) for presence in others))
    start = dataclasses.replace(
        guess(truth), photo=truth.photo._replace(seen=hands), presence=np.array([0.6, 0.6])
    )
    found = on_landmarks(start, Detector())
    assert found.fitted.tolist() == [True, False]
    assert found.presence == pytest.approx([0.99, left])
    assert found.present.tolist() == [True, bool(others)]


def test_points_that_are_no_hand_leave_it(truth):
    strange = seen(truth, 0)
    strange = strange._replace(points=strange.points[::-1].copy(), depth=strange.depth * 3)
    start = dataclasses.replace(guess(truth), photo=truth.photo._replace(seen=(strange,)))
    assert on_landmarks(start, Detector()) is start


def test_landmarks_are_the_shipped_model_s_way(truth):
    assert Predictor(truth.loaded)._detector is None
    assert Predictor(truth.loaded._replace(source="open_hands"))._detector is not None
    assert Predictor(truth.loaded._replace(source="open_hands"), landmarks=False)._detector is None
