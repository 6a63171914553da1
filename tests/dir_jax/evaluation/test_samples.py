import types

import numpy as np
import pytest

import mano_jax
from dir_jax.evaluation.samples import Samples, silhouette_overlap
from dir_jax.evaluation.totals import RESAMPLES, Means

CAMERA = np.array([[600.0, 0, 128], [0, 600, 128], [0, 0, 1]])


def test_interval_of_a_mean_covers_what_theory_says():
    values = np.random.default_rng(0).normal(10, 3, 2000)
    bootstrap = Means(RESAMPLES)
    for start in range(0, 2000, 300):
        bootstrap.add({"a": values[start : start + 300]}, start)
    assert bootstrap.mean("a") == pytest.approx(values.mean())
    low, high = bootstrap.interval("a")
    standard_error = values.std() / np.sqrt(2000)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.3 * standard_error)
    assert high - low == pytest.approx(2 * 1.96 * standard_error, rel=0.12)


def test_interval_of_two_columns_and_of_missing_values():
    rng = np.random.default_rng(1)
    left, right = rng.normal(5, 1, 500), rng.normal(7, 1, 500)
    right[::2] = np.nan
    bootstrap = Means(RESAMPLES)
    bootstrap.add({"left": left, "right": right, "nothing": np.full(500, np.nan)})
    low, high = bootstrap.interval("left", "right")
    error = np.sqrt(1 / 500 + 1 / 250) / 2
    assert low < 6 < high and high - low == pytest.approx(2 * 1.96 * error, rel=0.2)
    assert bootstrap.interval("nothing") is None and bootstrap.interval("unknown") is None


def test_overlap_of_silhouettes():
    hands = mano_jax.open_hands()
    right = hands.right.v_template - hands.right.v_template.mean(0)
    apart = np.array([0.25, 0, 0])
    pairs = np.stack([[right, right], [right, right + apart], [right, right + apart / 8]])
    overlap = np.asarray(silhouette_overlap(pairs + [0, 0, 0.9], np.stack([CAMERA] * 3)))
    assert overlap[0] == 1 and overlap[1] == 0 and 0.1 < overlap[2] < 0.9


def test_overlap_outside_the_crop_does_not_count():
    right = mano_jax.open_hands().right.v_template
    pair = np.stack([right, right])[None] + [3.0, 0, 0.9]
    assert silhouette_overlap(pair, CAMERA[None])[0] == 0


def columns_of(errors, distance):
    names = [f"wrist_scaled_{m}_{s}_mm" for m in ("mpjpe", "mpvpe") for s in ("left", "right")]
    return {**dict.fromkeys(names, errors), "hands_distance_mm": distance}


def test_groups_hold_their_samples(tmp_path):
    errors = np.array([10.0, 20.0, 30.0, 40.0])
    distance = np.array([0.0, 3.0, 500.0, np.nan])
    cameras = ["b", "a", "b", "b"]
    identities = [
        types.SimpleNamespace(
            file_name=str(i), capture="0", sequence="s", camera_name=c, frame=i, hand_type="both"
        )
        for i, c in enumerate(cameras)
    ]
    with Samples(tmp_path / "t.csv", identities) as samples:
        samples.add(np.arange(2), columns_of(errors[:2], distance[:2]))
        samples.add(np.arange(2, 4), columns_of(errors[2:], distance[2:]))
    summary = samples.summary()
    groups = summary["by_hands_distance_mm"]
    assert [group["samples"] for group in groups] == [1, 1, 0, 1]
    assert [group["mpjpe_mm"] for group in groups] == [10, 20, None, 30]
    assert groups[-1]["to"] is None
    alone = summary["by_camera"]["a"]
    assert alone["samples"] == 1 and alone["mpjpe_mm"] == alone["mpvpe_mm"] == 20
    assert alone["mrrpe_mm"] is None
    assert summary["by_camera"]["b"]["mpjpe_mm"] == pytest.approx(80 / 3)
    assert summary["by_silhouette_overlap"][0]["samples"] == 0
    low, high = summary["confidence_95"]["wrist_scaled"]["mpjpe_mm"]
    assert 10 <= low < 25 < high <= 40
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert len(lines) == 5 and lines[0].startswith("index,file_name,capture,sequence,camera_name")


def test_an_error_leaves_no_table(tmp_path):
    with pytest.raises(RuntimeError), Samples(tmp_path / "t.csv") as samples:
        samples.add(np.arange(1), columns_of(np.ones(1), np.ones(1)))
        raise RuntimeError
    assert not list(tmp_path.iterdir())
