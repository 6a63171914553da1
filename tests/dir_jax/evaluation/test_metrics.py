import jax
import numpy as np
import pytest

import mano_jax
from dir_jax.evaluation import metrics, totals
from tests.golden.toy_mano import toy_mano

KEYS = {  # golden name -> key in the summary
    "mrrpe_mm": "mrrpe_mm",
    **{f"{m}{s}": f"{m}{s}_mm" for m in ("mpjpe", "mpvpe") for s in ("", "_left", "_right")},
    **{f"miaa{s}": f"miaa{s}_px" for s in ("", "_left", "_right")},
    **{f"joint_px{s}": f"joint{s}_px" for s in ("", "_left", "_right")},
}


@pytest.fixture(scope="module")
def toy_pair():
    return mano_jax.load_pair({side: toy_mano(side) for side in ("left", "right")})


@pytest.fixture(scope="module")
def golden(golden_dir):
    with np.load(golden_dir / "evaluation.npz") as file:
        data = dict(file)
    for name in ("gt", "pred"):
        data[name] = np.stack([data[f"{name}_vertices_{s}"] for s in ("left", "right")], axis=1)
    data["offset"] = 0.15 * data["pred_offset_right_minus_left_over_0.15"]
    return data


def measure(hands, golden, dtype, rows=slice(None)):
    cast = {k: golden[k][rows].astype(dtype) for k in ("gt", "pred", "offset", "camera")}
    joints = {k: metrics.evaluation_joints(hands, cast[k]) for k in ("gt", "pred")}
    prediction = metrics.Hands(joints["pred"], cast["pred"], cast["offset"])
    return metrics.all_errors(prediction, metrics.Hands(joints["gt"], cast["gt"]), cast["camera"])


@pytest.mark.parametrize("protocol", list(metrics.PROTOCOLS))
def test_reference_numbers(toy_pair, golden, protocol):
    with jax.enable_x64(True):
        errors = measure(toy_pair, golden, np.float64)[protocol]
        assert errors.joint_mm.dtype == np.float64
    total = totals.ProtocolTotals()
    total.add(errors, np.ones((5, 2), bool))
    summary = total.summary()
    for name, key in KEYS.items():
        assert summary[key] == pytest.approx(float(golden[f"{protocol}/{name}"]), abs=1e-6), key
    assert summary["samples"] == 5


def test_float32_is_good_to_a_micrometre(toy_pair, golden):
    single = measure(toy_pair, golden, np.float32)["wrist_scaled"]
    assert single.joint_mm.dtype == np.float32
    total = totals.ProtocolTotals()
    total.add(single, np.ones((5, 2), bool))
    # A metre from the camera, float32 steps are 6e-5 mm.
    assert total.summary()["mpjpe_mm"] == pytest.approx(
        float(golden["wrist_scaled/mpjpe"]), abs=1e-3
    )


def test_uneven_batches_and_padding_change_nothing(toy_pair, golden):
    whole, pieces = totals.ProtocolTotals(), totals.ProtocolTotals()
    whole.add(measure(toy_pair, golden, np.float32)["mcp_scaled"], np.ones((5, 2), bool))
    for rows, real in ((slice(0, 3), 3), (slice(2, 5), 2)):  # the second: row 2 again, masked
        errors = measure(toy_pair, golden, np.float32, rows)["mcp_scaled"]
        mask = np.ones((3, 2), bool) if real == 3 else np.array([[0, 0], [1, 1], [1, 1]], bool)
        pieces.add(errors, mask)
    assert pieces.summary() == pytest.approx(whole.summary(), rel=1e-5)
    assert pieces.summary()["samples"] == 5
    np.testing.assert_allclose(pieces.by_joint_mm(), whole.by_joint_mm(), rtol=1e-5)


def random_hands(seed, count=6):
    rng = np.random.default_rng(seed)
    joints = rng.normal(0, 0.05, (count, 2, 21, 3)) + [0, 0, 0.9]
    return metrics.Hands(joints, rng.normal(0, 0.05, (count, 2, 778, 3)) + [0, 0, 0.9])


def test_invariance_of_each_protocol():
    rng = np.random.default_rng(1)
    truth = random_hands(0)
    scale = rng.uniform(0.5, 2, (6, 2, 1, 1))
    moved = truth.replace(
        joints_xyz=truth.joints_xyz * scale + 0.3, vertices_xyz=truth.vertices_xyz * scale + 0.3
    )
    camera = np.broadcast_to([[900.0, 0, 128], [0, 900, 128], [0, 0, 1]], (6, 3, 3))
    with jax.enable_x64(True):
        errors = metrics.all_errors(moved, truth, camera)
    for name, protocol in metrics.PROTOCOLS.items():
        worst = [np.abs(v).max() for v in (errors[name].joint_mm, errors[name].vertex_px)]
        assert (max(worst) < 1e-6) == protocol.scaled, name
        assert np.abs(errors[name].joint_mm[..., protocol.root]).max() < 1e-9


def test_joints_only_leave_the_rest_open():
    truth = random_hands(2)
    prediction = metrics.Hands(random_hands(3).joints_xyz)
    errors = metrics.protocol_errors(prediction, truth, None, metrics.PROTOCOLS["wrist_scaled"])
    assert errors.joint_mm.shape == (6, 2, 21)
    assert errors.vertex_mm is None and errors.joint_px is None and errors.root_mm is None
    total = totals.ProtocolTotals()
    total.add(errors, np.ones((6, 2), bool))
    summary = total.summary()
    assert summary["mpvpe_mm"] is None and summary["mrrpe_mm"] is None and summary["mpjpe_mm"] > 0


def test_pck_curve_and_area():
    joint_mm = np.full((1, 2, 21), 25.0)
    joint_mm[0, 0, :10] = [0, 50, 60, 10, 10, 10, 10, 10, 10, 10]
    total = totals.ProtocolTotals()
    errors = metrics.Errors(joint_mm, None, None, None, None)
    total.add(errors, np.array([[True, False]]))
    curve = total.pck()
    assert len(curve) == 200 and totals.PCK_THRESHOLDS_MM[[0, -1]].tolist() == [0.0, 50.0]
    for threshold, share in zip(totals.PCK_THRESHOLDS_MM, curve, strict=True):
        assert share == pytest.approx((joint_mm[0, 0] <= threshold).mean())
    assert curve[0] == pytest.approx(1 / 21) and curve[-1] == pytest.approx(20 / 21)
    assert totals.auc(curve) == pytest.approx(np.trapezoid(curve, totals.PCK_THRESHOLDS_MM) / 50)


def test_one_valid_hand_counts_alone():
    total = totals.ProtocolTotals()
    joint_mm = np.stack([np.full((2, 21), [[3.0], [np.nan]]), np.full((2, 21), 5.0)])
    errors = metrics.Errors(joint_mm, None, None, None, np.array([7.0, 9.0]))
    total.add(errors, np.array([[True, False], [True, True]]))
    summary = total.summary()
    assert summary["mpjpe_left_mm"] == 4.0 and summary["mpjpe_right_mm"] == 5.0
    assert summary["mpjpe_mm"] == 4.5 and summary["mrrpe_mm"] == 9.0 and summary["samples"] == 2


def test_internet_protocol_by_hand():
    rng = np.random.default_rng(4)
    truth = rng.normal(0, 0.05, (3, 2, 21, 3))
    prediction = metrics.Hands(rng.normal(0, 0.05, (3, 2, 21, 3)), None, rng.normal(0, 1, (3, 3)))
    valid = rng.random((3, 2, 21)) > 0.3
    valid[:, :, 0] = [[True, True], [True, False], [False, True]]
    truth[~valid] = np.nan
    with jax.enable_x64(True):
        errors = metrics.internet_errors(prediction, np.asarray(truth), valid)
    interacting = np.array([True, False, False])
    total = totals.InterNetTotals()
    total.add(errors, np.ones(3, bool), interacting)
    summary = total.summary()

    found = {"single": {}, "interacting": {}, "all": {}}
    for n in range(3):
        for hand in range(2):
            for joint in range(21):
                if valid[n, hand, 0] and valid[n, hand, joint]:
                    guess = prediction.joints_xyz[n, hand]
                    true = truth[n, hand, joint] - truth[n, hand, 0]
                    error = 1000 * np.linalg.norm(guess[joint] - guess[0] - true)
                    for group in ("interacting" if interacting[n] else "single", "all"):
                        found[group].setdefault((hand, joint), []).append(error)
    for group, joints in found.items():
        expected = np.mean([np.mean(values) for values in joints.values()])
        assert summary[f"{group}_mpjpe_mm"] == pytest.approx(expected)
    gap = truth[0, 1, 0] - truth[0, 0, 0] - prediction.offset[0]
    assert summary["mrrpe_mm"] == pytest.approx(1000 * np.linalg.norm(gap))
    counts = [summary[f"{group}_samples"] for group in ("single", "interacting", "all")]
    assert counts == [2, 1, 3]
