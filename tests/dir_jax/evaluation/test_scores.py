import csv
import types

import numpy as np
import pytest

import mano_jax
from dir_jax.evaluation import metrics, scores, tables
from dir_jax.evaluation.protocols import Hands, measured_hands

CAMERA = np.array([[600.0, 0, 128], [0, 600, 128], [0, 0, 1]])
NAMES = tuple(f"wrist_scaled_mpjpe_{side}_mm" for side in ("left", "right"))


def test_interval_of_a_mean_covers_what_theory_says():
    values = np.random.default_rng(0).normal(10, 3, 2000)
    low, high = scores.intervals({"interpenetration_cm3": values})["interpenetration_cm3"]
    standard_error = values.std() / np.sqrt(2000)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.3 * standard_error)
    assert high - low == pytest.approx(2 * 1.96 * standard_error, rel=0.12)


def test_interval_of_two_columns_and_of_missing_values():
    rng = np.random.default_rng(1)
    left, right = rng.normal(5, 1, 500), rng.normal(7, 1, 500)
    right[::2] = np.nan
    columns = dict(zip(NAMES, (left, right), strict=True))
    found = scores.intervals(columns | {"interpenetration_cm3": np.full(500, np.nan)})
    low, high = found["wrist_scaled"]["mpjpe_mm"]
    error = np.sqrt(1 / 500 + 1 / 250) / 2
    assert low < 6 < high and high - low == pytest.approx(2 * 1.96 * error, rel=0.2)
    assert found["interpenetration_cm3"] is None and found["overlay_px"] is None


def overlap(vertices):
    hands, camera = mano_jax.open_hands(), np.stack([CAMERA] * len(vertices))
    truth = measured_hands(hands, vertices)
    return np.asarray(metrics.measure(hands, truth, truth, camera)[""]["silhouette_overlap"])


def test_overlap_of_silhouettes():
    right = mano_jax.open_hands().right.v_template
    right = right - right.mean(0)
    apart = np.array([0.25, 0, 0])
    pairs = np.stack([[right, right], [right, right + apart], [right, right + apart / 8]])
    found = overlap(pairs + [0, 0, 0.9])
    assert found[0] == 1 and found[1] == 0 and 0.1 < found[2] < 0.9
    assert not overlap(pairs + [3.0, 0, 0.9]).any()  # outside the crop


def test_groups_hold_their_samples():
    errors = np.array([10.0, 20.0, 30.0, 40.0])
    unknown = np.full(4, np.nan)
    listed = {metric.key(): unknown for metric in metrics.shown_in("detail")}
    listed |= {"mpjpe_mm": errors, "silhouette_overlap": unknown}
    listed["hands_distance_mm"] = np.array([0.0, 3.0, 500.0, np.nan])
    found = scores.groups(listed, ["b", "a", "b", "b"])
    groups = found["by_hands_distance_mm"]
    assert [group["samples"] for group in groups] == [1, 1, 0, 1]
    assert [group["mpjpe_mm"] for group in groups] == [10, 20, None, 30]
    assert groups[-1]["to"] is None
    alone = found["by_camera"]["a"]
    assert alone["samples"] == 1 and alone["mpjpe_mm"] == 20 and alone["mrrpe_mm"] is None
    assert found["by_camera"]["b"]["mpjpe_mm"] == pytest.approx(80 / 3)
    assert found["by_silhouette_overlap"][0]["samples"] == 0


def test_listed_figures_are_means_over_the_hands_that_count():
    hands, valid = mano_jax.open_hands(), np.array([[1, 1], [1, 0]], bool)
    rng = np.random.default_rng(0)
    truth, guess = (Hands(rng.normal(0, 0.05, (2, 2, 21, 3))) for _ in range(2))
    measured = scores.Scores(hands)
    measured.add(guess, truth, None, valid, np.array([7, 9]))
    columns, listed = measured.columns(), measured.listed()
    left, right = (columns[name] for name in NAMES)
    assert np.isnan(right[1]) and columns["index"].tolist() == [7, 9]
    np.testing.assert_allclose(listed["mpjpe_mm"], [(left[0] + right[0]) / 2, left[1]])


def test_table_of_samples(tmp_path):
    identities = [
        types.SimpleNamespace(
            file_name=f"{i}.jpg", capture="0", sequence="s", camera_name="c", frame=i, hand_type="x"
        )
        for i in range(2)
    ]
    columns = {"index": np.array([4, 5]), "a": np.array([1.5, np.nan]), "b": np.array([2, np.inf])}
    path = tmp_path / "t.csv"
    tables.write_samples(path, columns, [tables.identity_row(one) for one in identities])
    rows = list(csv.DictReader(path.open()))
    assert [(row["index"], row["a"], row["b"]) for row in rows] == [
        ("4", "1.5", "2"),
        ("5", "", "inf"),
    ]
    assert rows[1]["file_name"] == "1.jpg" and rows[1]["frame"] == "1"
    with pytest.raises(IndexError):
        tables.write_samples(tmp_path / "no.csv", columns, [["one"]])
    assert [file.name for file in tmp_path.iterdir()] == ["t.csv"]
