import json

import numpy as np

import mano_jax
from dir_jax.evaluation import command as evaluate_command
from dir_jax.evaluation import ground_truth
from dir_jax.evaluation.array_archive import ArrayArchive
from tests.dir_jax.evaluation.test_evaluation import prepared


def test_ground_truth_against_itself_has_no_error(tmp_path, capsys):
    rows = prepared(tmp_path / "data", 5)
    truth = tmp_path / "truth.npz"
    arguments = ["--data", str(tmp_path / "data"), "--split", "train", "--output", str(truth)]
    assert ground_truth.main(arguments) == 0
    assert "5 samples with open hand" in capsys.readouterr().out
    archive = ArrayArchive(truth)
    names = archive["sample_ids"].tolist()
    assert names == [row.file_name for row in rows]
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


def test_no_data_is_one_line(tmp_path, capsys):
    output = tmp_path / "truth.npz"
    assert ground_truth.main(["--data", str(tmp_path), "--output", str(output)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
