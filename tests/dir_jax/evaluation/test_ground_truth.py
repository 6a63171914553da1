"""Prepared data as ground truth for anyone, and as samples to look at."""

import json

import numpy as np
import pytest

import mano_jax
from dir_jax.evaluation import command as evaluate_command
from dir_jax.evaluation import ground_truth
from dir_jax.evaluation.array_archive import ArrayArchive
from dir_jax.evaluation.examples import chosen_samples, read_examples
from input_pipeline.crop import CROP_SIZE


def test_ground_truth_against_itself_has_no_error(prepared, tmp_path, capsys):
    rows = prepared
    truth = tmp_path / "truth.npz"
    arguments = ["--data", str(tmp_path / "data"), "--split", "train", "--output", str(truth)]
    assert ground_truth.main(arguments) == 0
    assert "5 samples with open hand" in capsys.readouterr().out
    archive = ArrayArchive(truth)
    names = archive["sample_ids"].tolist()
    assert names == [row.file_name for row in rows] and len(set(names)) == 5
    hand = mano_jax.open_hands().right
    row = rows[2]
    expected = mano_jax.pose_hand(
        hand,
        mano_jax.matrix_from_axis_angle(row.global_orient[1]),
        row.hand_pose[1].reshape(15, 3),
        row.betas[1],
        row.transl[1],
    )
    np.testing.assert_allclose(archive["gt_vertices_xyz"][2, 1], expected.vertices, atol=1e-5)
    np.testing.assert_array_equal(archive["camera"][2], row.camera)

    order = [3, 1, 0, 4, 2]
    predictions = {
        "vertices_xyz": archive["gt_vertices_xyz"][order],
        "sample_ids": np.array(names)[order],
    }
    np.savez(tmp_path / "p.npz", **predictions)
    output = tmp_path / "evaluation.json"
    command = ["--predictions", str(tmp_path / "p.npz"), "--ground_truth", str(truth)]
    assert evaluate_command.main([*command, "--output", str(output)]) == 0
    result = json.loads(output.read_text())
    assert result["samples"] == 5
    assert result["wrist_scaled"]["mpjpe_mm"] < 1e-3
    assert result["wrist_scaled"]["mrrpe_mm"] < 1e-3


def test_worst_median_and_best():
    indices = np.array([7, 3, 9, 1, 5, 2])
    errors = np.array([5.0, 1.0, np.nan, 4.0, 2.0, 3.0])
    chosen = chosen_samples(indices, errors, 1)
    assert list(chosen.items()) == [(3, "best"), (2, "median"), (7, "worst")]
    chosen = chosen_samples(indices, errors, 2)
    assert list(chosen.items()) == [
        *((3, "best"), (5, "best"), (2, "median"), (7, "worst"), (1, "worst"))
    ]
    assert chosen_samples(indices[:1], errors[:1], 4) == {7: "best"}


def test_examples_are_what_the_pipeline_gives(prepared, tmp_path):
    batches = pytest.importorskip("input_pipeline.batches")
    data = tmp_path / "data"
    batch = read_examples(data, "train", [3, 1], "interacting")
    expected = next(batches.eval_batches(data, "train", batch_size=5))
    for name, value in batch.items():
        assert value.dtype == expected[name].dtype, name
        # Two JPEG decoders may differ by a grey level or two.
        tolerance = 3 if name == "image" else 1e-6
        wanted = expected[name][[3, 1]].astype(float)
        np.testing.assert_allclose(value.astype(float), wanted, atol=tolerance, err_msg=name)
    assert batch["image"].shape[1:] == (CROP_SIZE, CROP_SIZE, 3)
    np.testing.assert_array_equal(batch["betas"][0], prepared[3].betas)
