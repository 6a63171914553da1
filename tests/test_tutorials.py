"""The tutorials run as a reader would run them, only smaller."""

import pathlib
import re
import runpy
import sys

import cv2
import pytest

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "tutorials"


@pytest.fixture
def run(monkeypatch, capsys):
    """What a tutorial prints."""

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_module(f"docs.tutorials.{name}", run_name="__main__", alter_sys=True)
        return capsys.readouterr().out

    return run


def test_pose_a_hand(run, tmp_path):
    printed = run("pose_a_hand", "--output", tmp_path / "hand.png")
    tips = [float(line.split()[3]) for line in re.findall(r"^ \d\.\d .*$", printed, re.M)]
    assert len(tips) == 4 and tips == sorted(tips, reverse=True)  # curling brings the tip nearer
    assert cv2.imread(str(tmp_path / "hand.png")).std() > 10


def test_fit_joints(run, tmp_path):
    printed = run("fit_joints", "--output", tmp_path / "fit.png", "--steps", 200)
    errors = {
        name: float(re.search(rf"^{name}.* s +([\d.]+) +[\d.]+$", printed, re.M)[1])
        for name in ("gradient descent", "mano_jax.fit")
    }
    assert errors["gradient descent"] < 6 and errors["mano_jax.fit"] < 3
    assert cv2.imread(str(tmp_path / "fit.png")).std() > 10


@pytest.mark.slow
def test_swap_a_part(run):
    printed = run("swap_a_part", "--steps", 6)
    rows = [[float(x) for x in row.split()] for row in re.findall(r"^ +\d+ .*$", printed, re.M)]
    assert len(rows) == 6
    for part in (1, 2):
        assert rows[-1][part] < rows[0][part]
    assert rows[-1][1] != rows[-1][2]
    assert re.search(r"per_joint [\d,]+, AllJoints [\d,]+", printed)


@pytest.mark.slow
def test_profile_a_step(run, tmp_path):
    printed = run("profile_a_step", "--output", tmp_path / "trace", "--batch", 2)
    assert list(tmp_path.rglob("*.xplane.pb"))
    shares = [float(share) for share in re.findall(r"([\d.]+)%$", printed, re.M)]
    assert len(shares) >= 5 and shares == sorted(shares, reverse=True) and sum(shares) > 50


def test_every_tutorial_is_listed_run_and_short():
    listed = (FOLDER / "README.md").read_text()
    tested = pathlib.Path(__file__).read_text()
    for script in FOLDER.glob("*.py"):
        assert f"docs.tutorials.{script.stem}`" in listed and f'run("{script.stem}"' in tested
        assert len(script.read_text().splitlines()) <= 80
