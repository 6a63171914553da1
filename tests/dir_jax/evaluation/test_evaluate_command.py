import csv
import json

import jax
import numpy as np
import pytest

import mano_jax
from dir_jax.evaluation import command as evaluate_command
from dir_jax.evaluation.array_archive import ArchiveError, ArrayArchive
from dir_jax.evaluation.metrics import METRICS
from dir_jax.evaluation.predictions import median_hand_length
from dir_jax.evaluation.protocols import PROTOCOLS, evaluation_joints
from tests.dir_jax.evaluation.test_metrics import KEYS
from tests.golden.toy_mano import toy_mano


@pytest.fixture(scope="module")
def toy_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mano")
    pair = mano_jax.load_pair({side: toy_mano(side) for side in ("left", "right")})
    mano_jax.save_npz(pair, folder)
    return str(folder)


@pytest.fixture(scope="module")
def golden(golden_dir):
    with np.load(golden_dir / "evaluation.npz") as file:
        return dict(file)


@pytest.fixture
def arrays(golden):
    def both(name):
        return np.stack([golden[f"{name}_vertices_{s}"] for s in ("left", "right")], axis=1)

    return {
        "vertices_xyz": both("pred"),
        "gt_vertices_xyz": both("gt"),
        "camera": golden["camera"],
        "offset": 0.15 * golden["pred_offset_right_minus_left_over_0.15"],
    }


def run(tmp_path, toy_folder, *options, **files):
    """Writes the files, runs evaluate.py on those that start with p; returns status and result."""
    for name, content in files.items():
        np.savez(tmp_path / f"{name}.npz", **content)
    predictions = [str(tmp_path / f"{name}.npz") for name in files if name.startswith("p")]
    output = tmp_path / "evaluation.json"
    arguments = ["--predictions", *predictions, "--mano", toy_folder, "--output", str(output)]
    status = evaluate_command.main([*arguments, *options])
    return status, json.loads(output.read_text()) if output.exists() else None


def test_golden_through_the_command(tmp_path, toy_folder, arrays, golden, capsys):
    status, result = run(tmp_path, toy_folder, p=arrays)
    assert status == 0
    for name, value in golden.items():
        protocol, _, key = name.partition("/")
        if key:
            assert result[protocol][KEYS[key]] == pytest.approx(float(value), abs=1e-6), name
    assert result["samples"] == 5 and result["interpenetration_cm3"] > 0
    assert result["baseline_mean_hand"] is None
    text = capsys.readouterr().out
    assert "8.22" in text and "10.49" in text and "ICCV 2023" in text and "5 samples" in text
    rows = list(csv.DictReader((tmp_path / "evaluation_p_samples.csv").open()))
    mean = np.mean([float(row["wrist_scaled_mpvpe_left_mm"]) for row in rows])
    assert len(rows) == 5
    assert mean == pytest.approx(result["wrist_scaled"]["mpvpe_left_mm"], rel=1e-4)


def test_every_metric_is_everywhere(tmp_path, toy_folder, arrays, capsys):
    assert run(tmp_path, toy_folder, p=arrays)[0] == 0
    result = json.loads((tmp_path / "evaluation.json").read_text())
    names = next(csv.reader((tmp_path / "evaluation_p_samples.csv").open()))
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


def test_several_files_and_joints_only(tmp_path, toy_folder, arrays, capsys):
    joints = {"joints_xyz": np.asarray(joints_of(arrays["vertices_xyz"]))}
    joints["gt_joints_xyz"] = np.asarray(joints_of(arrays["gt_vertices_xyz"]))
    status, result = run(tmp_path, toy_folder, p1=arrays, p2=joints)
    assert status == 0
    full, reduced = (result["predictions"][name]["wrist_scaled"] for name in ("p1", "p2"))
    assert reduced["mpjpe_mm"] == pytest.approx(full["mpjpe_mm"], abs=1e-6)
    assert reduced["mpvpe_mm"] is None and reduced["miaa_px"] is None
    assert result["predictions"]["p2"]["interpenetration_cm3"] is None
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("p2") and " - " in line for line in lines)


def joints_of(vertices):
    pair = mano_jax.load_pair({side: toy_mano(side) for side in ("left", "right")})
    with jax.enable_x64(True):
        return np.asarray(evaluation_joints(pair, vertices))


def test_hands_in_camera_space_bring_their_own_offset(tmp_path, toy_folder, arrays):
    wrists = joints_of(arrays["vertices_xyz"])[:, :, :1]
    relative = arrays["vertices_xyz"] - wrists
    relative_status, expected = run(tmp_path, toy_folder, p={**arrays, "vertices_xyz": relative})
    moved = relative + np.array([0.1, 0.05, 0.8])
    moved[:, 1] += arrays["offset"][:, None]
    absolute = {k: v for k, v in arrays.items() if k != "offset"} | {"vertices_xyz": moved}
    status, result = run(tmp_path, toy_folder, p=absolute)
    assert status == relative_status == 0
    for protocol in ("wrist_scaled", "mcp_scaled"):
        for key in ("mpjpe_mm", "mrrpe_mm"):
            assert result[protocol][key] == pytest.approx(expected[protocol][key], abs=1e-6)
    assert result["interpenetration_cm3"] == pytest.approx(expected["interpenetration_cm3"])


def test_samples_are_matched_by_name(tmp_path, toy_folder, arrays):
    _, expected = run(tmp_path, toy_folder, p=arrays)
    names = np.array([f"capture0/{i}.jpg" for i in range(5)])
    truth = {k: arrays[k] for k in ("gt_vertices_xyz", "camera")} | {"sample_ids": names}
    order = np.array([3, 0, 4, 1, 2])
    shuffled = {k: arrays[k][order] for k in ("vertices_xyz", "offset")}
    shuffled["sample_ids"] = names[order]
    option = ["--ground_truth", str(tmp_path / "truth.npz")]
    status, result = run(tmp_path, toy_folder, *option, p=shuffled, truth=truth)
    assert status == 0
    assert result["wrist_scaled"] == pytest.approx(expected["wrist_scaled"])


def test_internet_protocol_and_invalid_hands(tmp_path, toy_folder, arrays):
    valid = np.ones((5, 2), bool)
    valid[1, 0] = False
    arrays["vertices_xyz"][1, 0] = np.nan  # allowed: it does not count
    known = np.ones((5, 2, 21), bool)
    known[1, 0] = False
    arrays |= {"hand_valid": valid, "joint_valid": known}
    arrays["annotated_joints_xyz"] = joints_of(arrays["gt_vertices_xyz"])
    status, result = run(tmp_path, toy_folder, p=arrays)
    assert status == 0
    internet = result["internet"]
    samples = [internet[f"{group}_samples"] for group in ("single", "interacting", "all")]
    assert samples == [1, 4, 5]
    unscaled = result["wrist_unscaled"]
    assert internet["all_mpjpe_mm"] == pytest.approx(unscaled["mpjpe_mm"], abs=1e-6)


@pytest.mark.parametrize(("kind", "tolerance"), [(">f8", 1e-6), ("<f4", 1e-2), ("<f2", 2.0)])
def test_other_number_formats(tmp_path, toy_folder, arrays, golden, kind, tolerance):
    centred = arrays["vertices_xyz"].astype(kind)
    status, result = run(tmp_path, toy_folder, p={**arrays, "vertices_xyz": centred})
    assert status == 0
    expected = float(golden["wrist_scaled/mpjpe"])
    assert result["wrist_scaled"]["mpjpe_mm"] == pytest.approx(expected, abs=tolerance)


def bad(arrays, **changes):
    return {k: v for k, v in {**arrays, **changes}.items() if v is not None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {"vertices_xyz": a["vertices_xyz"][:, :, :700]}, "wanted (N, 2, 778, 3)"),
        (lambda a: {"vertices_xyz": a["vertices_xyz"] * 1000}, "millimetres: divide by 1000"),
        (lambda a: {"vertices_xyz": a["vertices_xyz"] / 0.15}, "multiply by 0.15"),
        (lambda a: {"gt_vertices_xyz": a["gt_vertices_xyz"] * 100}, "centimetres"),
        (lambda a: {"offset": a["offset"][:4]}, "different numbers of samples"),
        (lambda a: {"offset": np.full((5, 3), np.inf)}, "not finite in 5 of 5 rows"),
        (
            lambda a: {"vertices_xyz": np.where(np.arange(5) % 2, np.nan, a["vertices_xyz"].T).T},
            "not finite in 2 of 5 rows (1, 3)",
        ),
        (lambda a: {"vertices_xyz": None}, "wanted vertices_xyz"),
        (lambda a: {"gt_vertices_xyz": None}, "wanted the ground truth"),
        (lambda a: {"camera": a["camera"].astype(int)}, "dtype int64, wanted float32"),
        (lambda a: {"sample_ids": np.array(["a"] * 5)}, "more than once"),
        (lambda a: {"sample_ids": np.array([{}] * 5)}, "Python objects"),
        (lambda a: {"sample_ids": np.zeros(5)}, "sample_ids has dtype float64, wanted text"),
        (lambda a: {"sample_ids": np.array([["a"]] * 5)}, "sample_ids has shape (5, 1)"),
        (lambda a: {"camera": 0 * a["camera"]}, "camera has no focal length in 5 of 5 rows"),
        (lambda a: {"vertices_xyz": 0 * a["vertices_xyz"]}, "check the unit"),
        (lambda a: {"vertices_xyz": a["vertices_xyz"].swapaxes(1, 2)}, "shape (5, 778, 2, 3)"),
    ],
)
def test_bad_files_get_one_line(tmp_path, toy_folder, arrays, capsys, change, message):
    status, result = run(tmp_path, toy_folder, p=bad(arrays, **change(arrays)))
    error = capsys.readouterr().err
    assert status == 2 and result is None
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error


def test_sample_ids_that_do_not_match(tmp_path, toy_folder, arrays, capsys):
    names = np.array([f"{i}.jpg" for i in range(5)])
    truth = {k: arrays.pop(k) for k in ("gt_vertices_xyz", "camera")} | {"sample_ids": names}
    arrays["sample_ids"] = np.array([f"{i + 1}.jpg" for i in range(5)])
    option = ["--ground_truth", str(tmp_path / "truth.npz")]
    assert run(tmp_path, toy_folder, *option, p=arrays, truth=truth)[0] == 2
    error = capsys.readouterr().err
    assert "1 of 5 sample_ids are not in" in error and "'5.jpg'" in error


@pytest.mark.parametrize("names", [np.arange(5), np.array([b"a", b"b", b"c", b"d", b"e"])])
def test_names_that_are_no_text_become_text(tmp_path, toy_folder, arrays, names):
    truth = {k: arrays.pop(k) for k in ("gt_vertices_xyz", "camera")}
    truth["sample_ids"] = np.array([n.decode() if isinstance(n, bytes) else str(n) for n in names])
    option = ["--ground_truth", str(tmp_path / "truth.npz"), "--no_report"]
    assert run(tmp_path, toy_folder, *option, p=arrays | {"sample_ids": names}, truth=truth)[0] == 0
    row = next(csv.DictReader((tmp_path / "evaluation_p_samples.csv").open()))
    assert row["file_name"] == truth["sample_ids"][0]


def test_the_first_bad_file_stops_before_any_scoring(tmp_path, toy_folder, arrays, capsys):
    status, result = run(tmp_path, toy_folder, p1=arrays, p2={"vertices_xyz": np.zeros(3)})
    assert status == 2 and result is None
    assert not list(tmp_path.glob("*.csv"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing given; wanted one of --workdir"),
        (["--predictions", "/no/such.npz"], "no such file"),
        (["--predictions", "a.npz", "--workdir", "b"], "wanted one of"),
        (["--workdir", "/no/such"], "no such file or folder"),
        (["--torch_checkpoint", "/no/such.pth"], "no such file"),
        (["--config", "/no/such.py", "--workdir", "a"], "/no/such.py"),
    ],
)
def test_bad_commands_get_one_line(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("dir_jax.weights.loading.SHIPPED", tmp_path)  # nothing to fall back on
    assert evaluate_command.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error


@pytest.mark.parametrize("option", ["--output", "--report"])
def test_outputs_that_cannot_be_written_are_refused_first(tmp_path, toy_folder, capsys, option):
    given = tmp_path / "p.npz"
    np.savez(given, vertices_xyz=np.zeros(3))  # reading it would be another error
    before = given.read_bytes()
    for path, message in ((given, "is read too"), (tmp_path, "is a folder")):
        command = ["--predictions", str(given), "--mano", toy_folder, option, str(path)]
        assert evaluate_command.main(command) == 2
        error = capsys.readouterr().err
        assert f"{option} {path} {message}" in error and error.count("\n") == 1
    assert given.read_bytes() == before


def test_recipe_arguments_are_told_apart():
    recipe, rest = evaluate_command.split_recipe_arguments(
        ["--config", "a.py", "--workdir", "w", "--config.data.dir=d", "--config.seed", "3", "--x"]
    )
    assert recipe == ["--config", "a.py", "--config.data.dir=d", "--config.seed", "3"]
    assert rest == ["--workdir", "w", "--x"]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archive_maps_arrays_as_numpy_reads_them(tmp_path, save):
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


def test_archive_refuses_a_cut_file(tmp_path):
    np.savez(tmp_path / "file.npz", a=np.zeros((100, 100)))
    data = (tmp_path / "file.npz").read_bytes()
    (tmp_path / "file.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(ArchiveError, match="not a whole npz file"):
        ArrayArchive(tmp_path / "file.npz")


def test_median_hand_length_of_the_open_hand():
    vertices = np.stack([hand.v_template for hand in (lambda p: (p.left, p.right))(
        mano_jax.open_hands())])[None]  # fmt: skip
    assert 0.12 < median_hand_length(vertices) < 0.3
