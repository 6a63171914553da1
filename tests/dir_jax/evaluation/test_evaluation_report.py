"""The page of an evaluation: what is on it, for models, meshes, joints and single hands."""

import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import mano_jax
from dir_jax.evaluation import command as evaluate_command
from dir_jax.evaluation.samples import Samples
from dir_jax.pictures.pages.sample_pager import Sample, sample_pager
from dir_jax.pictures.report_samples import Choice, table_samples
from dir_jax.pictures.skeleton import SKELETON_FACES, THICKNESS, skeleton_mesh
from mano_jax.constants import BONES
from tests.dir_jax.evaluation.test_evaluate_command import (  # noqa: F401 (fixtures)
    arrays,
    golden,
    joints_of,
    run,
    toy_folder,
)


def figures(page, kind):
    """The data of all figures of a kind."""
    pattern = rf'data-figure="{kind}".*?<script type="application/json">(.*?)</script>'
    return [json.loads(text) for text in re.findall(pattern, page, re.S)]


def page_of(tmp_path):
    return (tmp_path / "evaluation.html").read_text()


def test_everything_is_on_the_page(tmp_path, toy_folder, arrays):  # noqa: F811
    names = np.array([f"a/{i}<b>.jpg" for i in range(5)])
    assert run(tmp_path, toy_folder, "--pictures", "1", p=arrays | {"sample_ids": names})[0] == 0
    page = page_of(tmp_path)
    for text in ("8.22", "10.49", "Ren et al., ICCV 2023", "95 % interval", "mcp_unscaled", "AUC"):
        assert text in page, text
    assert "<b>.jpg" not in page  # names of files are no markup
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    (samples,) = figures(page, "samples")
    assert samples["groups"] == ["worst", "median", "best"]
    assert [s["groups"] for s in samples["samples"]] == [["worst"], ["median"], ["best"]]
    errors = [s["numbers"][samples["columns"].index("MPJPE mm")] for s in samples["samples"]]
    assert errors == sorted(errors, reverse=True)
    assert all(len(s["pictures"]) == 2 and s["hands"]["truth"] for s in samples["samples"])
    assert len(figures(page, "curves")) == 4
    joints, *others = [f for f in figures(page, "bars") if "wrist" in f["labels"]]
    assert not others
    assert joints["bars"][0]["heights"][0] == 0.0  # the wrist, the protocol's root
    (histogram,) = [f for f in figures(page, "bars") if f["touching"]]
    assert sum(histogram["bars"][0]["heights"]) == 5


def test_joints_and_meshes_of_several_systems(tmp_path, toy_folder, arrays):  # noqa: F811
    joints = {"joints_xyz": joints_of(arrays["vertices_xyz"])}
    joints["gt_joints_xyz"] = joints_of(arrays["gt_vertices_xyz"])
    assert run(tmp_path, toy_folder, p1=arrays, p2=joints)[0] == 0
    meshes, skeletons = figures(page_of(tmp_path), "samples")
    assert len(meshes["samples"]) == len(skeletons["samples"]) == 5
    assert skeletons["samples"][0]["pictures"] == []  # no camera, no picture
    assert "as far apart as the true ones" in json.dumps(skeletons)
    assert "as far apart" not in json.dumps(meshes)


def test_a_hand_that_does_not_count_is_not_shown(toy_folder, tmp_path, arrays):  # noqa: F811
    from dir_jax.evaluation.predictions import read_predictions, score_predictions

    valid = np.ones((5, 2), bool)
    valid[1, 0] = valid[2, 1] = False
    arrays["vertices_xyz"][1, 0] = np.nan
    np.savez(tmp_path / "p.npz", **arrays, hand_valid=valid)
    table, pair = read_predictions(tmp_path / "p.npz"), mano_jax.load_pair(toy_folder)
    kept = Samples(None)
    score_predictions(table, pair, samples=kept)
    choice = Choice(kept, 5, None)
    shown, _ = table_samples(choice, table, pair)
    for index, sample in zip(choice.indices, shown, strict=True):
        for hand in range(2):
            extent = np.ptp(sample.truth_xyz[hand], axis=0).max()
            assert (extent > 0.05) == valid[index, hand]
            assert np.isfinite(sample.stages[-1].vertices_xyz).all()


def test_no_page_and_no_samples_on_request(tmp_path, toy_folder, arrays):  # noqa: F811
    assert run(tmp_path, toy_folder, "--no_report", p=arrays)[0] == 0
    assert not (tmp_path / "evaluation.html").exists()
    other = tmp_path / "other.html"
    assert run(tmp_path, toy_folder, "--pictures", "0", "--report", str(other), p=arrays)[0] == 0
    assert 'data-figure="samples"' not in other.read_text()


def test_a_pager_needs_samples():
    with pytest.raises(ValueError, match="no samples"):
        sample_pager([], [])
    hand = np.zeros((2, 4, 3))
    sample = Sample("one", ["best"], {"MPJPE mm": np.nan}, [], [], hand)
    with pytest.raises(ValueError, match="no stages"):
        sample_pager([sample], [np.zeros((1, 3), int)] * 2)


def test_skeletons_are_thin_closed_and_face_outwards():
    joints = np.random.default_rng(0).normal(0, 0.05, (3, 2, 21, 3))
    mesh = skeleton_mesh(joints)
    assert mesh.shape == (3, 2, 120, 3)
    edges = SKELETON_FACES[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    assert {tuple(e) for e in edges.tolist()} == {tuple(e) for e in edges[:, ::-1].tolist()}
    bone = mesh[0, 0].reshape(20, 6, 3)
    np.testing.assert_allclose(bone[:, :2], joints[0, 0][np.array(BONES)])
    middle = bone[:, 2:].mean(1, keepdims=True)
    np.testing.assert_allclose(np.linalg.norm(bone[:, 2:] - middle, axis=-1), THICKNESS)
    corners = mesh[0, 0][SKELETON_FACES]
    volume = np.linalg.det(corners - bone.mean(1)[np.repeat(np.arange(20), 8), None]).sum() / 6
    assert volume > 0


def test_command_line_refuses_a_second_process(monkeypatch, capsys):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    assert evaluate_command.main(["--predictions", "p.npz"]) == 2
    error = capsys.readouterr().err
    assert "4 processes" in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_the_documented_example_can_be_scored(tmp_path, capsys):
    script = pathlib.Path(__file__).parents[3] / "docs" / "examples" / "write_predictions.py"
    subprocess.run([sys.executable, script, "--output", tmp_path, "--samples", "20"], check=True)
    files = ["--predictions", f"{tmp_path}/theirs.npz", "--ground_truth", f"{tmp_path}/truth.npz"]
    assert evaluate_command.main([*files, "--output", str(tmp_path / "evaluation.json")]) == 0
    result = json.loads((tmp_path / "evaluation.json").read_text())
    # 5 mm of noise along each axis, at a joint and at the wrist.
    assert result["wrist_unscaled"]["mpjpe_mm"] == pytest.approx(20 / 21 * 11.3, rel=0.05)
    assert result["wrist_unscaled"]["joint_px"] is not None
