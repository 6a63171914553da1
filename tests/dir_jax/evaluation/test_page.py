"""The page of an evaluation: what is on it, for models, meshes, joints and single hands."""

import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from dir_jax.evaluation import command as evaluate_command
from dir_jax.evaluation.examples import table_samples
from dir_jax.evaluation.predictions import read_predictions, score_predictions
from tests.dir_jax.evaluation.test_evaluate_command import joints_of
from tests.dir_jax.pictures.test_page import decoded, figures_of


def page_of(tmp_path):
    return (tmp_path / "evaluation.html").read_text()


def kinds_of(figures, kind):
    return [figure for figure in figures if figure["data"][0]["type"] == kind]


def test_everything_is_on_the_page(run, tmp_path, arrays):
    names = np.array([f"a/{i}<b>.jpg" for i in range(5)])
    assert run("--pictures", "1", page=True, p=arrays | {"sample_ids": names})[0] == 0
    page = page_of(tmp_path)
    for text in ("8.22", "10.49", "Ren et al., ICCV 2023", "95 % interval", "mcp_unscaled", "AUC"):
        assert text in page, text
    assert "<b>.jpg" not in page  # names of files are no markup
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    summaries = re.findall(r"<details( open)?[^>]*><summary>.*?MPJPE mm ([\d.]+)", page)
    assert [bool(opened) for opened, _ in summaries] == [True, False, False]
    assert len({error for _, error in summaries}) == 3
    assert summaries == sorted(summaries, key=lambda one: float(one[1]))  # the best one first
    figures = figures_of(page)
    hands = kinds_of(figures, "mesh3d")
    assert all([t["type"] for t in one["data"]].count("mesh3d") == 4 for one in hands)  # and truth
    (pck,) = kinds_of(figures, "scatter")
    assert len(pck["data"]) == 4
    assert all(pck["layout"][f"yaxis{n}"]["range"] == [0, 1] for n in ("", "2", "3", "4"))
    histogram, joints, *groups = kinds_of(figures, "bar")
    assert decoded(histogram["data"][0]["y"]).sum() == 5
    assert joints["data"][0]["y"][joints["data"][0]["x"].index("wrist")] == 0.0  # the root
    assert len(groups) == 2


def test_joints_and_meshes_of_several_systems(run, toy_pair, tmp_path, arrays):
    joints = {"joints_xyz": joints_of(toy_pair, arrays["vertices_xyz"])}
    joints["gt_joints_xyz"] = joints_of(toy_pair, arrays["gt_vertices_xyz"])
    assert run(page=True, **{"p<i>": arrays, "p2": joints})[0] == 0
    page = page_of(tmp_path)
    assert "p<i>" not in page and "p\\u003ci" not in page  # nor is the name of a predictor markup
    assert kinds_of(figures_of(page), "scatter")[0]["data"][0]["name"] == "p&lt;i&gt;"
    meshes, skeletons = page.split("Samples: ")[1:]
    assert meshes.count("<details") == skeletons.count("<details") == 5
    assert "as far apart as the true ones" in skeletons and "as far apart" not in meshes
    assert "data:image" in meshes and "data:image" not in skeletons  # no camera, no picture


def test_a_hand_that_does_not_count_is_not_shown(toy_pair, tmp_path, arrays):
    valid = np.ones((5, 2), bool)
    valid[1, 0] = valid[2, 1] = False
    arrays["vertices_xyz"][1, 0] = np.nan
    np.savez(tmp_path / "p.npz", **arrays, hand_valid=valid)
    table = read_predictions(tmp_path / "p.npz")
    shown = table_samples(score_predictions(table, toy_pair), 5, table, toy_pair)
    assert {sample.index for sample in shown} == set(range(5))
    for sample in shown:
        for mesh in (sample.example.truth_xyz, sample.example.stages_xyz[-1]):
            np.testing.assert_array_equal(np.isfinite(mesh).all((1, 2)), valid[sample.index])


def test_no_page_and_no_samples_on_request(run, tmp_path, arrays):
    assert run(p=arrays)[0] == 0
    assert not (tmp_path / "evaluation.html").exists()
    other = tmp_path / "other.html"
    assert run("--pictures", "0", "--report", str(other), page=True, p=arrays)[0] == 0
    assert "<details" not in other.read_text()


def test_no_plotly_no_page(run, tmp_path, arrays, monkeypatch, capsys):
    """Everything else is there all the same."""
    for name in ("dir_jax.evaluation.page", "dir_jax.pictures.figures"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    status, result = run(page=True, p=arrays)
    assert status == 0 and result["samples"] == 5
    assert not (tmp_path / "evaluation.html").exists()
    assert "no page to look at: this needs plotly" in capsys.readouterr().out


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
