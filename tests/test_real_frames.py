"""Four real frames of InterHand2.6M, where they are at hand.

Set INTERHAND_SAMPLE to a folder in the official layout: a few test images with data, camera and
joint_3d annotations, as the public mmpose repository has them for its own tests.
"""

from __future__ import annotations

import json
import os
import pathlib

import numpy as np
import pytest

from input_pipeline.sources.interhand import InterhandSplit

pytestmark = pytest.mark.skipif(
    "INTERHAND_SAMPLE" not in os.environ, reason="INTERHAND_SAMPLE names no real frames"
)


@pytest.fixture(scope="module")
def split() -> InterhandSplit:
    return InterhandSplit(pathlib.Path(os.environ["INTERHAND_SAMPLE"]), "test")


def test_frames_cameras_and_joints_are_read(split):
    assert len(split) > 0
    for index in range(len(split)):
        frame = split.frame(index)
        assert frame.camera is not None
        points = frame.joints_xyz[frame.joint_valid]
        assert len(points) >= 20
        assert 0.3 < points[:, 2].min() < points[:, 2].max() < 3  # metres before the camera


def test_projected_joints_lie_in_the_annotated_box(split):
    """The box was drawn around the annotated joints, with a margin."""
    path = pathlib.Path(os.environ["INTERHAND_SAMPLE"]) / "annotations/test"
    data = json.loads((path / "InterHand2.6M_test_data.json").read_text())
    names = {image["id"]: image["file_name"] for image in data["images"]}
    boxes = {names[entry["image_id"]]: entry["bbox"] for entry in data["annotations"]}
    for index in range(len(split)):
        frame = split.frame(index)
        points = frame.joints_xyz[frame.joint_valid]
        pixels = points @ frame.camera.intrinsics.T
        pixels = pixels[:, :2] / pixels[:, 2:]
        x, y, width, height = boxes[frame.file_name]
        inside = (pixels >= [x, y]) & (pixels <= [x + width, y + height])
        assert inside.all(axis=1).mean() > 0.95
        assert np.ptp(pixels, axis=0).max() > 0.4 * max(width, height)


def test_the_missing_mano_file_is_said(split):
    assert "MANO_NeuralAnnot.json is missing" in split.missing["MANO_NeuralAnnot"]
    selection = split.select("interacting")
    assert not selection.kept
