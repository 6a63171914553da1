"""Distances of found from annotated joints, where they are known."""

import numpy as np
import pytest

from input_pipeline.sources.frames import Camera, Frame
from tests.dir_jax.prediction.known_hands import known_result
from tools.joint_score import distances_percent


def test_distances_are_shares_of_the_box_and_of_annotated_joints_only():
    result = known_result(stages=2)
    intrinsics = np.array([[500.0, 0, 80], [0, 480, 60], [0, 0, 1]])
    pixels = result.joints_px[-1] + np.array([[[6.0, 8.0]], [[0.0, 0.0]]])
    pixels[1, 4:] += 100  # of joints without annotation
    rays = np.concatenate([pixels, np.ones((2, 21, 1))], -1) @ np.linalg.inv(intrinsics).T
    valid = np.ones((2, 21), bool)
    valid[1, 4:] = False
    camera = Camera(np.eye(3), np.zeros(3), intrinsics)
    frame = Frame("a.jpg", "interacting", camera, joints_xyz=2.0 * rays, joint_valid=valid)
    assert distances_percent(result, frame, 200.0) == pytest.approx([5.0, 0.0], abs=1e-6)
    valid[0] = False
    assert np.isnan(distances_percent(result, frame, 200.0)[0])
