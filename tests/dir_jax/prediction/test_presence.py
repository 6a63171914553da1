import dataclasses
import json

import numpy as np
import pytest
import trimesh

from dir_jax.losses.targets import SEGMENTATION_CLASSES
from dir_jax.prediction import outputs
from dir_jax.prediction.detection import SeenHand
from dir_jax.prediction.presence import CELLS, Steady, seen, with_detector
from tests.dir_jax.prediction.known_hands import known_result

RIGHT_ONLY = np.array([False, True])


@pytest.fixture(scope="module")
def known():
    return known_result(stages=2)


def alone(result, presence=(0.1, 0.5)):
    return dataclasses.replace(result, presence=np.array(presence), present=RIGHT_ONLY)


def test_a_hand_is_seen_where_enough_cells_are_surely_its_own():
    logits = np.full((3, 32, 32, 3), -20, np.float32)
    background, left = (SEGMENTATION_CLASSES.index(name) for name in ("background", "left"))
    logits[..., background] = 0
    logits[1, :2, : CELLS // 2] = np.eye(3)[left] * 20  # as many as are looked at
    logits[2, :2, : CELLS // 4] = np.eye(3)[left] * 20
    np.testing.assert_allclose(seen(logits), [[0, 0], [1, 0], [0.5, 0]], atol=1e-3)


def test_a_detector_is_believed_in_what_it_saw():
    network = np.array([0.9, 0.1])
    one, two = (SeenHand((0, 0, 1, 1), None, sure, 0.9) for sure in (0.95, 0.8))
    np.testing.assert_allclose(with_detector(network, (one, two)), [0.9, 0.8])
    np.testing.assert_allclose(with_detector(network, (two,)), [0.9, 0.72])
    np.testing.assert_allclose(with_detector(network[::-1], (two,)), [0.1, 0.9])
    np.testing.assert_allclose(with_detector(network, ()), network)


def test_a_hand_that_is_not_there_is_in_no_output(known, tmp_path):
    result = alone(known)
    assert np.isnan(result.vertices_px[:, 0]).all() and np.isnan(result.joints_xyz[:, 0]).all()
    np.testing.assert_allclose(result.joints_xyz[:, 1, 0], 0, atol=1e-6)  # its own wrist
    kinds = [kind for kind in outputs.USUAL if kind != "top"]
    outputs.write_result(tmp_path, "x", result, kinds, number=2)
    numbers = json.loads((tmp_path / "x.hands.2.json").read_text())
    assert numbers["left"] is None and numbers["offset"] is None
    assert np.shape(numbers["right"]["joints_xyz"]) == (21, 3)
    assert numbers["presence"] == {"left": 0.1, "right": 0.5}
    assert numbers["warnings"] == ["unsure whether the right hand is there (0.50)"]
    scene = trimesh.load(tmp_path / "x.hands.2.glb")
    assert list(scene.geometry) == ["right_hand"]
    assert scene.metadata["hand_model"]["licence"].startswith("CC0")  # what licence it has
    text = (tmp_path / "x.hands.2.obj").read_text()
    assert "left_hand" not in text and text.count("\nv ") == 778 and "Hand model: " in text
    drawn = outputs.overlay(result, opacity=1.0).astype(int) - 128
    warm = (drawn[..., 0] > drawn[..., 2] + 20).sum()  # the right hand is orange
    cold = (drawn[..., 2] > drawn[..., 0] + 20).sum()
    assert cold == 0 and warm > 100
    assert (outputs.overlay(known)[..., 2] > outputs.overlay(known)[..., 0] + 20).any()


def test_hands_of_a_video_neither_flicker_nor_change_sides(known):
    def shown(*presences):
        steady = Steady()
        results = (
            steady(dataclasses.replace(known, presence=np.array(value))) for value in presences
        )
        return [None if result is None else result.present.tolist() for result in results]

    left, right, both = [True, False], [False, True], [True, True]
    here, there = (0.9, 0.1), (0.1, 0.9)
    assert shown(here, there, here, here) == [left] * 4
    assert shown(here, *[there] * 6) == [left, left, left, both, right, right, right]
    assert shown((0.9, 0.9), (0.9, 0.2), (0.9, 0.9)) == [both] * 3
    assert shown((0.9, 0.41), *[(0.9, 0.49)] * 9) == [left] * 10
    assert shown((0.1, 0.2), (0.2, 0.1)) == [None, None]
    assert shown(here, *[(0.1, 0.1)] * 6)[-1] is None
    steady = Steady()
    steady(dataclasses.replace(known, presence=np.array(here)))
    assert steady(None) is None  # forgets
    again = steady(dataclasses.replace(known, presence=np.array(there)))
    assert again.present.tolist() == right
