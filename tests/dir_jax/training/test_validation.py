"""Pictures of training: labels lie where the hands are, and are not drawn where there is none."""

import numpy as np
import pytest

from dir_jax.evaluation.examples import examples_of
from dir_jax.losses.targets import pose_batch
from dir_jax.models.types import Stage
from dir_jax.pictures.drawing import comparison_picture
from dir_jax.training.validation import label_sheet
from input_pipeline.batches import TrainBatches
from tests.dir_jax.training_fixtures import random_batch
from tests.hands import toy_hands
from tests.input_pipeline.examples import random_record, write_dataset


def covered(photo, overlay):
    """Share of pixels that something is drawn over."""
    return (np.abs(photo.astype(int) - overlay).max(-1) > 8).mean()


@pytest.mark.slow
def test_labels_lie_on_augmented_photographs(tmp_path):
    write_dataset(tmp_path, {"train": [random_record(i) for i in range(3)]})
    batch = next(TrainBatches(tmp_path, batch_size=3, seed=0))
    batch["hand_valid"][1] = False
    sheet = label_sheet(batch, toy_hands())
    height, width = batch["image"].shape[1:3]
    assert sheet.shape[0] >= 2 * height and sheet.shape[1] >= 4 * width
    gap = (sheet.shape[1] - 4 * width) // 3
    cells = [sheet[:height, i * (width + gap) :][:, :width] for i in range(4)]
    for index in (0, 1):
        np.testing.assert_array_equal(cells[2 * index], batch["image"][index])
    assert 0.02 < covered(cells[0], cells[1]) < 0.9
    assert covered(cells[2], cells[3]) == 0


def test_a_right_prediction_looks_like_its_label():
    hands, batch = toy_hands(), random_batch(2)
    truth = pose_batch(batch, hands)
    vertices, joints = np.asarray(truth.vertices), np.asarray(truth.joints)
    roots = joints[:, :, :1]
    homogeneous = np.einsum("bij,bhvj->bhvi", batch["camera"], vertices)
    uv = homogeneous[..., :2] / homogeneous[..., 2:] / 128 - 1
    offset = (joints[:, 1, 0] - joints[:, 0, 0]) / 0.15
    empty = np.zeros((2, 2, 21, 2))
    stage = Stage(np.zeros((2, 2, 64)), offset, joints - roots, vertices - roots, empty, uv)
    picture = comparison_picture(examples_of(batch, (stage,), hands, 2)[1])
    gap = (picture.shape[1] - 5 * 256) // 4
    cells = [picture[30:256, i * (256 + gap) :][:, :256] for i in range(5)]
    photo, label, prediction, side, predicted_side = cells
    assert covered(photo, label) > 0.02
    assert covered(label, prediction) < 0.02
    assert covered(side, predicted_side) < 0.02
