import csv
import json
import types

import jax
import numpy as np
import pytest

import mano_jax
from dir_jax.evaluation import ground_truth, metrics, protocols, scores, tables
from dir_jax.evaluation import runner as evaluation
from dir_jax.evaluation.interpenetration import intersection_volume_cm3
from dir_jax.models.types import Stage
from tests.dir_jax import training_fixtures

SIZE = 8
CONTRACT = ["mrrpe_mm", "auc_0_50", "samples"] + [
    f"{name}{side}_{unit}"
    for name, unit in (("mpjpe", "mm"), ("mpvpe", "mm"), ("miaa", "px"), ("joint", "px"))
    for side in ("", "_left", "_right")
]


def random_batch(seed=0, real=SIZE):
    """Hands before the camera, as `eval_batches` gives them; samples from `real` on are padding."""
    batch = training_fixtures.random_batch(SIZE, seed) | {
        "joints_xyz": np.zeros((SIZE, 2, 21, 3), np.float32),
        "joint_valid": np.zeros((SIZE, 2, 21), bool),
        "mask": (np.arange(SIZE) < real).astype(np.float32),
    }
    batch["transl"][real:] = np.nan  # padding must not reach any figure
    return batch


class Echo:
    """A model that answers what it is given as variables, the first stage off by 10 mm in x."""

    def apply(self, variables, images, train):
        vertices, offset = variables
        size = images.shape[0]
        stages = [
            Stage(None, offset[:size], None, vertices[:size] + error, None, None)
            for error in (np.linspace(0, 0.02, 778, dtype=np.float32)[:, None], 0.0)
        ]
        return types.SimpleNamespace(stages=stages)


def truth_of(hands, batch):
    return evaluation.true_hands(hands, {k: batch[k] for k in evaluation._LABELS})


def test_perfect_model_scores_zero_and_stages_improve(toy_pair, tmp_path):
    batch = random_batch(real=6)
    truth = truth_of(toy_pair, batch)
    wrists = np.asarray(truth.joints_xyz)[:, :, 0]
    vertices = np.nan_to_num(np.asarray(truth.vertices_xyz) - wrists[:, :, None])
    offset = np.nan_to_num(wrists[:, 1] - wrists[:, 0]) / 0.15
    table = tmp_path / "samples.csv"
    measured = evaluation.Evaluation(Echo(), (vertices, offset), toy_pair)
    result = measured.run([batch]).result()
    who = [tables.identity_row(f"photo{i}") for i in range(6)]
    tables.write_samples(table, measured.scores.columns(), who)
    assert result["samples"] == 6
    for protocol in protocols.PROTOCOLS:
        assert set(CONTRACT) <= set(result[protocol])
        for key, value in result[protocol].items():
            if key != "samples" and "auc" not in key:
                assert value == pytest.approx(0, abs=1e-2), (protocol, key)
        assert result[protocol]["auc_0_50"] == pytest.approx(
            1, abs=3e-3
        )  # joint errors of 1e-5 mm at 0
    first, last = result["by_stage"]
    assert first["mpvpe_mm"] > 1 and last["mpvpe_mm"] < 1e-2
    assert result["interpenetration_cm3"] == pytest.approx(
        result["true_interpenetration_cm3"], rel=0.02, abs=0.1
    )
    path = tmp_path / "evaluation.json"
    evaluation.write_evaluation(path, result)
    assert json.loads(path.read_text())["wrist_scaled"] == result["wrist_scaled"]
    rows = list(csv.DictReader(table.open()))
    assert [row["file_name"] for row in rows] == [f"photo{i}" for i in range(6)]
    assert all(float(row["wrist_scaled_mpjpe_left_mm"]) < 1e-2 for row in rows)


def test_overlay_is_where_the_model_draws_the_joints(toy_pair):
    batch = random_batch()
    batch["hand_valid"][3, 1] = False
    truth = truth_of(toy_pair, batch)
    focal, centre = batch["camera"][:, 0, 0], batch["camera"][:, :2, 2]
    rng = np.random.default_rng(3)
    # A weak camera 0.7 m away whose pictures are off by a few pixels, another shift for each hand.
    scale, shift = focal / 0.7, rng.normal(0, 5, (SIZE, 2, 1, 2))

    def seen(points):
        weak = scale[:, None, None, None] * points[..., :2] + centre[:, None, None] + shift
        return weak.astype(np.float32)

    stage = Stage(None, np.zeros((SIZE, 3)), None, truth.vertices_xyz, None,
                  seen(truth.vertices_xyz) / 128 - 1)  # fmt: skip
    measured = evaluation.Evaluation(None, None, toy_pair, volumes=False)
    measured.add(batch, (stage, stage))
    result = measured.result()
    joints = np.asarray(truth.joints_xyz, np.float64)
    pinhole = focal[:, None, None, None] * joints[..., :2] / joints[..., 2:] + centre[:, None, None]
    error = np.linalg.norm(seen(joints) - pinhole, axis=-1).mean(-1)
    left, right = error[:, 0].mean(), np.delete(error[:, 1], 3).mean()
    assert result["overlay_left_px"] == pytest.approx(left, rel=1e-3)
    assert result["overlay_px"] == pytest.approx((left + right) / 2, rel=1e-3)
    assert evaluation.validation_figures(result)["overlay_px"] == result["overlay_px"]


def test_hands_in_one_space_follow_the_offset(toy_pair):
    truth = truth_of(toy_pair, random_batch())
    offset = np.asarray(truth.joints_xyz[:, 1, 0] - truth.joints_xyz[:, 0, 0])
    scattered = truth.replace(
        vertices_xyz=truth.vertices_xyz + np.array([[[[0.5]], [[-0.3]]]]),
        joints_xyz=truth.joints_xyz + np.array([[[[0.5]], [[-0.3]]]]),
        offset=offset,
    )
    np.testing.assert_allclose(
        protocols.hands_in_one_space(scattered), protocols.hands_in_one_space(truth), atol=1e-6
    )


def test_nearest_distance(toy_pair):
    truth = truth_of(toy_pair, random_batch())
    left, right = np.asarray(truth.vertices_xyz[:, 0]), np.asarray(truth.vertices_xyz[:, 1])
    expected = np.linalg.norm(left[:, :, None] - right[:, None], axis=-1).min((1, 2)) * 1000
    found = metrics.measure(toy_pair, truth, truth)[""]["hands_distance"]
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_mean_hand_by_hand(toy_pair, prepared, tmp_path):
    mean = ground_truth.mean_hand(tmp_path / "data", toy_pair)
    assert mean.samples == 5
    vertices, offsets = [[], []], []
    for row in prepared:
        wrists = []
        for index, side in enumerate(("left", "right")):
            mesh = mano_jax.pose_hand(
                toy_pair[side],
                mano_jax.matrix_from_axis_angle(row.global_orient[index]),
                row.hand_pose[index].reshape(15, 3),
                row.betas[index],
                row.transl[index],
            ).vertices
            wrists.append(toy_pair[side].J_regressor[0] @ np.asarray(mesh))
            if row.hand_valid[index]:
                vertices[index].append(mesh - wrists[-1])
        if row.hand_valid.all():
            offsets.append(wrists[1] - wrists[0])
    assert [len(v) for v in vertices] == [4, 5]
    for index in range(2):
        np.testing.assert_allclose(mean.vertices_xyz[index], np.mean(vertices[index], 0), atol=1e-6)
    np.testing.assert_allclose(mean.offset, np.mean(offsets, 0), atol=1e-6)


def test_baseline_is_scored_like_a_model(toy_pair):
    batch = random_batch()
    rng = np.random.default_rng(2)
    baseline = ground_truth.MeanHand(rng.normal(0, 0.05, (2, 778, 3)), np.array([0.1, 0, 0]), 9)
    vertices = np.broadcast_to(baseline.vertices_xyz.astype(np.float32), (SIZE, 2, 778, 3))
    offset = np.broadcast_to(np.float32(baseline.offset / 0.15), (SIZE, 3))
    variables = (np.array(vertices), np.array(offset))
    measured = evaluation.Evaluation(Echo(), variables, toy_pair, baseline=baseline, volumes=False)
    result = measured.run([batch]).result()
    for name in protocols.PROTOCOLS:
        assert result["baseline_mean_hand"][name] == pytest.approx(result[name], rel=1e-4)
    assert result["interpenetration_cm3"] is None


def test_volumes_are_those_of_the_meshes(toy_pair):
    truth = truth_of(toy_pair, random_batch())
    measured = scores.Scores(toy_pair, slow=True)
    valid = np.arange(2 * SIZE).reshape(SIZE, 2) != 3  # of sample 1, one hand
    measured.add(truth, truth, None, valid, np.arange(SIZE))
    volumes = measured.columns()["true_interpenetration_cm3"]
    placed = protocols.hands_in_one_space(truth)
    faces = [toy_pair.left.faces, toy_pair.right.faces]
    expected = intersection_volume_cm3([placed[:, 0], placed[:, 1]], faces)
    expected[1] = np.nan
    np.testing.assert_allclose(volumes, expected)
    report = measured.report()
    assert report["true_interpenetration_cm3"] == pytest.approx(np.nanmean(expected))
    assert report["interpenetration_cm3"] is None  # the prediction has no offset


def test_nothing_to_evaluate(toy_pair):
    with pytest.raises(ValueError, match="no samples"):
        evaluation.Evaluation(Echo(), (np.zeros(1), np.zeros(1)), toy_pair).run([]).result()
    assert jax.config.jax_enable_x64 is False
