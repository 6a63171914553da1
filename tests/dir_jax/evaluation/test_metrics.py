import jax
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dir_jax.evaluation import internet, metrics, protocols
from dir_jax.evaluation.scores import Scores

KEYS = {  # golden name -> key in the summary
    "mrrpe_mm": "mrrpe_mm",
    **{f"{m}{s}": f"{m}{s}_mm" for m in ("mpjpe", "mpvpe") for s in ("", "_left", "_right")},
    **{f"miaa{s}": f"miaa{s}_px" for s in ("", "_left", "_right")},
    **{f"joint_px{s}": f"joint{s}_px" for s in ("", "_left", "_right")},
}


def add(scores, hands, golden, dtype, rows=slice(None), valid=None):
    cast = {k: golden[k][rows].astype(dtype) for k in ("gt", "pred", "offset", "camera")}
    prediction = protocols.measured_hands(hands, cast["pred"], cast["offset"])
    truth = protocols.measured_hands(hands, cast["gt"])
    valid = np.ones((len(cast["gt"]), 2), bool) if valid is None else valid
    scores.add(prediction, truth, cast["camera"], valid, np.arange(5)[rows])


def test_reference_numbers(toy_pair, golden):
    scores = Scores(toy_pair)
    with jax.enable_x64(True):
        add(scores, toy_pair, golden, np.float64)
    for protocol in protocols.PROTOCOLS:
        summary = scores.summary(protocol)
        for name, key in KEYS.items():
            assert summary[key] == pytest.approx(float(golden[f"{protocol}/{name}"]), abs=1e-6), key
        assert summary["samples"] == 5
        assert scores.columns()[f"{protocol}_mpjpe_left_mm"].mean() == summary["mpjpe_left_mm"]


def test_float32_is_good_to_a_micrometre(toy_pair, golden):
    scores = Scores(toy_pair)
    add(scores, toy_pair, golden, np.float32)
    # A metre from the camera, float32 steps are 6e-5 mm.
    expected = float(golden["wrist_scaled/mpjpe"])
    assert scores.summary("wrist_scaled")["mpjpe_mm"] == pytest.approx(expected, abs=1e-3)


def test_uneven_batches_and_padding_change_nothing(toy_pair, golden):
    whole, pieces = Scores(toy_pair), Scores(toy_pair)
    add(whole, toy_pair, golden, np.float32)
    add(pieces, toy_pair, golden, np.float32, slice(0, 3))
    mask = np.array([[0, 0], [1, 1], [1, 1]], bool)  # row 2 again, masked
    add(pieces, toy_pair, golden, np.float32, slice(2, 5), mask)
    whole, pieces = whole.report(), pieces.report()
    assert pieces["mcp_scaled"] == pytest.approx(whole["mcp_scaled"], rel=1e-5)
    assert pieces["samples"] == 5
    for side in ("left", "right"):
        joints = [part["by_joint_mm"]["mcp_scaled"][side] for part in (pieces, whole)]
        np.testing.assert_allclose(*joints, rtol=1e-5)


# Five samples with all that the reference's numbers have: one compiled program serves both.
CAMERA = np.tile([[900.0, 0, 128], [0, 900, 128], [0, 0, 1]], (5, 1, 1))
OFFSET = np.full((5, 3), 0.1)


def random_hands(seed):
    rng = np.random.default_rng(seed)
    joints = rng.normal(0, 0.05, (5, 2, 21, 3)) + [0, 0, 0.9]
    return protocols.Hands(joints, rng.normal(0, 0.05, (5, 2, 778, 3)) + [0, 0, 0.9])


def test_invariance_of_each_protocol(toy_pair):
    rng = np.random.default_rng(1)
    truth = random_hands(0)
    scale = rng.uniform(0.5, 2, (5, 2, 1, 1))
    moved = jax.tree.map(lambda points: points * scale + 0.3, truth).replace(offset=OFFSET)
    with jax.enable_x64(True):
        measured = metrics.measure(toy_pair, moved, truth, CAMERA, metrics.EVERYTHING)
    for name, protocol in protocols.PROTOCOLS.items():
        worst = max(np.abs(measured[name][m]).max() for m in ("mpjpe", "miaa"))
        assert (worst < 1e-6) == protocol.scaled, name
        assert np.abs(measured[name]["joint_mm"][..., protocol.root]).max() < 1e-9


def procrustes_mm(points, target):
    """The same by another road: scipy's rotation, then the best scale along it."""
    points, target = points - points.mean(0), target - target.mean(0)
    turned = Rotation.align_vectors(target, points)[0].apply(points)
    scale = (turned * target).sum() / max((points**2).sum(), 1e-30)
    return 1000 * np.linalg.norm(scale * turned - target, axis=-1).mean()


@pytest.mark.filterwarnings("ignore:Optimal rotation is not uniquely")
@pytest.mark.parametrize(
    ("name", "points"), [("pa_mpjpe", "joints_xyz"), ("pa_mpvpe", "vertices_xyz")]
)
def test_procrustes_against_scipy(toy_pair, name, points):
    truth, prediction = random_hands(6), random_hands(7)
    guess, true = (np.array(getattr(hands, points)) for hands in (prediction, truth))
    turn = Rotation.random(2, random_state=0).as_matrix()
    guess[0] = 1.7 * true[0] @ turn + 0.4  # similar
    guess[1] = true[1] * [-1, 1, 1]  # mirrored
    guess[2] = np.linspace(0, 0.2, guess.shape[2])[:, None] * [1, 2, 3]  # on a line
    guess[3] = 0.3  # in one place
    true[4] = 0.7
    guess[4, 1], true[4, 1] = 0.1, 0.2
    prediction = prediction.replace(**{points: guess, "offset": OFFSET})
    given = (prediction, truth.replace(**{points: true}), CAMERA)
    for dtype, tolerance in ((np.float64, 1e-6), (np.float32, 1e-3)):
        cast = jax.tree.map(lambda x, d=dtype: x.astype(d), given)
        with jax.enable_x64(dtype == np.float64):
            found = metrics.measure(toy_pair, *cast, metrics.EVERYTHING)["mcp_scaled"][name]
        expected = [
            [procrustes_mm(*pair) for pair in zip(*sample, strict=True)]
            for sample in zip(guess, true, strict=True)
        ]
        np.testing.assert_allclose(found, expected, atol=tolerance)
    assert found[0].max() < 1e-3 and found[1].min() > 10


def test_joints_only_leave_the_rest_open(toy_pair):
    scores = Scores(toy_pair, slow=True)
    prediction = protocols.Hands(random_hands(3).joints_xyz)
    scores.add(prediction, random_hands(2), None, np.ones((5, 2), bool), np.arange(5))
    assert not [
        name for name in scores.columns() if "px" in name or "mpvpe" in name or "mrrpe" in name
    ]
    result = scores.report()
    summary = result["wrist_scaled"]
    assert summary["mpvpe_mm"] is None and summary["mrrpe_mm"] is None and summary["mpjpe_mm"] > 0
    assert result["interpenetration_cm3"] is None


def test_pck_curve_and_area(toy_pair):
    truth, prediction = random_hands(4), random_hands(5).replace(offset=OFFSET)
    scores = Scores(toy_pair)
    with jax.enable_x64(True):
        scores.add(prediction, truth, CAMERA, np.ones((5, 2), bool), np.arange(5))
        found = metrics.measure(toy_pair, prediction, truth, CAMERA, metrics.EVERYTHING)
    joint_mm = found["mcp_unscaled"]["joint_mm"]
    thresholds = metrics.PCK_THRESHOLDS_MM
    curve = np.array(scores.report()["pck"]["mcp_unscaled"])
    assert len(curve) == 200 and thresholds[[0, -1]].tolist() == [0.0, 50.0]
    for threshold, share in zip(thresholds, curve, strict=True):
        assert share == pytest.approx((np.asarray(joint_mm) <= threshold).mean())
    assert curve[0] == pytest.approx(1 / 21) and 1 / 21 < curve[-1] < 1
    area = np.trapezoid(curve, thresholds) / 50
    assert scores.summary("mcp_unscaled")["auc_0_50"] == pytest.approx(area)


def test_one_valid_hand_counts_alone_and_nan_is_no_zero(toy_pair):
    truth = protocols.Hands(np.zeros((3, 2, 21, 3)))
    joints = np.zeros((3, 2, 21, 3))
    joints[:, :, 1:, 0] = np.array([[3.0, np.nan], [5, 5], [4, 2]])[..., None] * 0.021 / 20
    offset = np.array([[7.0, 0, 0], [0.009, 0, 0], [0.001, 0, 0]])
    valid = np.array([[True, False], [True, True], [True, True]])
    scores = Scores(toy_pair)
    with jax.enable_x64(True):
        scores.add(protocols.Hands(joints, None, offset), truth, None, valid, np.arange(3))
        found = scores.summary("wrist_unscaled")
        assert found["mpjpe_left_mm"] == pytest.approx(4)
        assert found["mpjpe_right_mm"] == pytest.approx(3.5)
        assert found["mpjpe_mm"] == pytest.approx(3.75)
        assert found["mrrpe_mm"] == pytest.approx(5) and found["samples"] == 3
        lost = protocols.Hands(joints * np.nan, None, offset)
        scores.add(lost, truth, None, valid, np.arange(3))
    right = scores.columns()["wrist_unscaled_mpjpe_right_mm"]
    assert np.isnan(right).tolist() == [True, False, False] * 2
    assert scores.summary("wrist_unscaled")["mpjpe_mm"] == np.inf


def test_internet_protocol_by_hand():
    rng = np.random.default_rng(4)
    truth = rng.normal(0, 0.05, (3, 2, 21, 3))
    guess = rng.normal(0, 0.05, (3, 2, 21, 3))
    prediction = protocols.Hands(guess, None, rng.normal(0, 1, (3, 3)))
    valid = rng.random((3, 2, 21)) > 0.3
    valid[:, :, 0] = [[True, True], [True, False], [False, True]]
    valid[2, 0] = False  # one hand; in sample 1 the right hand lacks its wrist only
    truth[~valid] = np.nan
    summary = internet.internet_summary(**internet.internet_errors(prediction, truth, valid))

    found = {"single": {}, "interacting": {}, "all": {}}
    for n, hand, joint in np.argwhere(valid & valid[:, :, :1]):
        true = truth[n, hand, joint] - truth[n, hand, 0]
        error = 1000 * np.linalg.norm(guess[n, hand, joint] - guess[n, hand, 0] - true)
        for group in ("interacting" if n < 2 else "single", "all"):
            found[group].setdefault((hand, joint), []).append(error)
    for group, joints in found.items():
        expected = np.mean([np.mean(values) for values in joints.values()])
        assert summary[f"{group}_mpjpe_mm"] == pytest.approx(expected)
    gap = truth[0, 1, 0] - truth[0, 0, 0] - prediction.offset[0]
    assert summary["mrrpe_mm"] == pytest.approx(1000 * np.linalg.norm(gap))
    assert [summary[f"{group}_samples"] for group in internet.GROUPS] == [1, 2, 3]
