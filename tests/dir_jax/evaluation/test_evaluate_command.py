"""evaluate.py on files of predictions: the reference's numbers, what may be in them, what not."""

import csv

import jax
import numpy as np
import pytest

import mano_jax
from dir_jax.evaluation import command as evaluate_command
from dir_jax.evaluation.array_archive import ArrayArchive
from dir_jax.evaluation.metrics import METRICS
from dir_jax.evaluation.predictions import median_hand_length, read_predictions
from dir_jax.evaluation.protocols import PROTOCOLS, evaluation_joints
from tests.dir_jax.evaluation.test_metrics import KEYS


def table_of(folder):
    return list(csv.DictReader((folder / "evaluation_p_samples.csv").open()))


def joints_of(pair, vertices):
    with jax.enable_x64(True):
        return np.asarray(evaluation_joints(pair, vertices))


def test_golden_through_the_command(run, tmp_path, arrays, golden, capsys):
    status, result = run(p=arrays)
    assert status == 0
    for name, value in golden.items():
        protocol, _, key = name.partition("/")
        if key:
            assert result[protocol][KEYS[key]] == pytest.approx(float(value), abs=1e-6), name
    assert result["samples"] == 5 and result["interpenetration_cm3"] > 0
    assert result["baseline_mean_hand"] is None and result["internet"]["all_samples"] == 0
    text = capsys.readouterr().out
    assert "8.22" in text and "10.49" in text and "ICCV 2023" in text and "5 samples" in text
    errors = [float(row["wrist_scaled_mpvpe_left_mm"]) for row in table_of(tmp_path)]
    assert len(errors) == 5
    assert np.mean(errors) == pytest.approx(result["wrist_scaled"]["mpvpe_left_mm"], rel=1e-4)


def test_every_metric_is_everywhere(run, tmp_path, arrays, capsys):
    status, result = run(page=True, p=arrays)
    assert status == 0
    names = table_of(tmp_path)[0].keys()
    printed, page = capsys.readouterr().out, (tmp_path / "evaluation.html").read_text()
    for metric in METRICS:
        for protocol in PROTOCOLS:
            keys = [metric.key(s) for s in (("", "left", "right") if metric.per_hand else ("",))]
            place = result[protocol] if metric.aligned else result
            measured = "joints_px" not in metric.needs  # that only models have
            assert all((place[key] is not None) == measured for key in keys), keys
            assert set(metric.columns(protocol)) <= set(names) or not measured
        if "table" in metric.shown:
            assert metric.heading in printed and metric.heading in page, metric.heading


def test_several_files_and_joints_only(run, toy_pair, arrays, capsys):
    joints = {
        f"{prefix}joints_xyz": joints_of(toy_pair, arrays[f"{prefix}vertices_xyz"])
        for prefix in ("", "gt_")
    }
    status, result = run(p1=arrays, p2=joints)
    assert status == 0
    full, reduced = (result["predictions"][name]["wrist_scaled"] for name in ("p1", "p2"))
    assert reduced["mpjpe_mm"] == pytest.approx(full["mpjpe_mm"], abs=1e-6)
    assert reduced["mpvpe_mm"] is None and reduced["miaa_px"] is None
    assert result["predictions"]["p2"]["interpenetration_cm3"] is None
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("p2") and " - " in line for line in lines)


def test_hands_in_camera_space_bring_their_own_offset(run, toy_pair, arrays):
    relative = arrays["vertices_xyz"] - joints_of(toy_pair, arrays["vertices_xyz"])[:, :, :1]
    _, expected = run(p={**arrays, "vertices_xyz": relative})
    moved = relative + np.array([0.1, 0.05, 0.8])
    moved[:, 1] += arrays.pop("offset")[:, None]
    status, result = run(p={**arrays, "vertices_xyz": moved})
    assert status == 0
    for protocol in ("wrist_scaled", "mcp_scaled"):
        for key in ("mpjpe_mm", "mrrpe_mm"):
            assert result[protocol][key] == pytest.approx(expected[protocol][key], abs=1e-6)
    assert result["interpenetration_cm3"] == pytest.approx(expected["interpenetration_cm3"])


NAMES = np.array([f"capture{i}.jpg" for i in range(5)])


@pytest.mark.parametrize("names", [NAMES, np.arange(5), NAMES.astype(bytes)])
def test_samples_are_matched_by_name(run, tmp_path, arrays, names):
    """Names that are no text become text."""
    _, expected = run(p=arrays)
    text = names.astype(str)
    truth = {k: arrays[k] for k in ("gt_vertices_xyz", "camera")} | {"sample_ids": text}
    order = np.array([3, 0, 4, 1, 2])
    shuffled = {k: arrays[k][order] for k in ("vertices_xyz", "offset")}
    option = ["--ground_truth", str(tmp_path / "truth.npz")]
    status, result = run(*option, p=shuffled | {"sample_ids": names[order]}, truth=truth)
    assert status == 0 and result["wrist_scaled"] == pytest.approx(expected["wrist_scaled"])
    assert [row["file_name"] for row in table_of(tmp_path)] == text[order].tolist()


def test_internet_protocol_and_invalid_hands(run, toy_pair, arrays):
    arrays["annotated_joints_xyz"] = joints_of(toy_pair, arrays["gt_vertices_xyz"])
    arrays["hand_valid"], arrays["joint_valid"] = np.ones((5, 2), bool), np.ones((5, 2, 21), bool)
    arrays["hand_valid"][1, 0] = arrays["joint_valid"][1, 0] = False
    arrays["vertices_xyz"][1, 0] = np.nan  # allowed: it does not count
    status, result = run(p=arrays)
    assert status == 0
    internet = result["internet"]
    assert [internet[f"{g}_samples"] for g in ("single", "interacting", "all")] == [1, 4, 5]
    unscaled = result["wrist_unscaled"]
    assert internet["all_mpjpe_mm"] == pytest.approx(unscaled["mpjpe_mm"], abs=1e-6)


@pytest.mark.parametrize(("kind", "tolerance"), [(">f8", 1e-6), ("<f4", 1e-2), ("<f2", 2.0)])
def test_other_number_formats(run, arrays, golden, kind, tolerance):
    status, result = run(p={**arrays, "vertices_xyz": arrays["vertices_xyz"].astype(kind)})
    expected = float(golden["wrist_scaled/mpjpe"])
    assert status == 0
    assert result["wrist_scaled"]["mpjpe_mm"] == pytest.approx(expected, abs=tolerance)


def test_the_advice_about_rows_that_are_not_finite_works(tmp_path, arrays):
    truth = {k: arrays.pop(k) for k in ("gt_vertices_xyz", "camera")}
    arrays["vertices_xyz"][1, 0] = np.nan
    files = tmp_path / "p.npz", tmp_path / "truth.npz"

    def read(rows=slice(None), **marked):
        for file, content in zip(files, (arrays, truth | marked), strict=True):
            np.savez(file, **{name: value[rows] for name, value in content.items()})
        return len(read_predictions(*files))

    with pytest.raises(ValueError, match=rf"p\.npz: .*mark .* in hand_valid of {files[1]}"):
        read()
    assert read(hand_valid=np.arange(10).reshape(5, 2) != 2) == 5
    assert read([0, 2, 3, 4]) == 4


def test_command_line_refuses_a_second_process(monkeypatch, capsys):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    assert evaluate_command.main(["--predictions", "p.npz"]) == 2
    assert "4 processes" in capsys.readouterr().err


def test_recipe_arguments_are_told_apart():
    recipe, rest = evaluate_command.split_recipe_arguments(
        ["--config", "a.py", "--workdir", "w", "--config.data.dir=d", "--config.seed", "3", "--x"]
    )
    assert recipe == ["--config", "a.py", "--config.data.dir=d", "--config.seed", "3"]
    assert rest == ["--workdir", "w", "--x"]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archive_maps_arrays_as_numpy_reads_them(tmp_path, save):
    """(What is damaged or hostile: tests/hostile.)"""
    rng = np.random.default_rng(0)
    content = {
        "a": rng.normal(size=(7, 3)).astype(np.float32),
        "fortran": np.asfortranarray(rng.normal(size=(4, 5))),
        "text": np.array(["x", "longer"]),
        "empty": np.zeros((0, 3)),
        "scalar": np.array(3.0),
    }
    save(tmp_path / "file.npz", **content)
    archive = ArrayArchive(tmp_path / "file.npz")
    assert sorted(archive) == sorted(content)
    for name, array in content.items():
        np.testing.assert_array_equal(archive[name], array)
        assert archive[name].dtype == array.dtype
    assert isinstance(archive["a"], np.memmap)


def test_what_unpacks_beyond_the_disk_is_refused_before_unpacking(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "file.npz", joints=np.zeros(10**6))
    assert (tmp_path / "file.npz").stat().st_size < 10**5
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 7 * 10**6})())
    monkeypatch.setattr(ArrayArchive, "_unpacked", None)
    with pytest.raises(ValueError, match="unpacks to 80001"):
        ArrayArchive(tmp_path / "file.npz")


def test_median_hand_length_of_the_open_hand():
    hands = mano_jax.open_hands()
    vertices = np.stack([hands.left.v_template, hands.right.v_template])[None]
    assert 0.12 < median_hand_length(vertices) < 0.3
