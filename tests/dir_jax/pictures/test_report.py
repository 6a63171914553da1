import base64
import json
import re

import cv2
import numpy as np
import pytest

from dir_jax.pictures import report
from dir_jax.pictures.pages.curves import Curve, curves_figure, smoothed
from dir_jax.pictures.pages.run_record import columns, read_lines
from dir_jax.pictures.pages.training_curves import by_term


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def workdir(tmp_path):
    """A run of 100 steps as train.py leaves it, with a half-written last line."""
    rng = np.random.default_rng(0)
    terms = [f"joints_xyz_{side}_{i}" for side in ("left", "right") for i in range(3)]
    names = ["loss", "learning_rate", "gradient_norm", *terms, "offset_0", "dense", "lovasz"]
    lines = [
        {"step": step, **{name: float(rng.uniform(1, 2)) for name in names}}
        | {"examples_per_second": 20.0}
        for step in range(1, 101)
    ]
    write_lines(tmp_path / "metrics.jsonl", lines)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 101, "lo')
    stages = {f"mpjpe_stage_{i}_mm": 30.0 - i for i in range(3)}
    errors = {"mpjpe_mm": 28.0, "mpvpe_mm": 29.0, "mrrpe_mm": 40.0, "mean_hand_mpjpe_mm": 50.0}
    write_lines(tmp_path / "validation.jsonl", [{"step": 50, **errors, **stages}])
    protocol = {"mpjpe_mm": 12.345, "mpvpe_mm": None, "mrrpe_mm": 3.0}
    evaluation = {"wrist_scaled": protocol, "by_stage": [protocol], "samples": 5}
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation))
    (tmp_path / "pictures").mkdir()
    cv2.imwrite(str(tmp_path / "pictures" / "test_000.png"), np.full((40, 200, 3), 90, np.uint8))
    (tmp_path / "pictures" / "test_001.png").write_bytes(b"broken")
    return tmp_path


def figures(page):
    texts = re.findall(r'<script type="application/json">(.*?)</script>', page, re.S)
    return [json.loads(text) for text in texts]


def test_the_page_shows_what_the_run_wrote(workdir, capsys):
    assert report.main([str(workdir)]) == 0
    assert "100 lines" in capsys.readouterr().out
    page = (workdir / "report.html").read_text()
    for text in ("Joints in space", "Learning rate", "Images per second", "12.35", "28.00", ">-<"):
        assert text in page
    assert page.count("data:image/jpeg") == 1
    drawn = [[curve["name"] for curve in figure["curves"]] for figure in figures(page)]
    assert ["initial", "refined 1", "refined 2"] in drawn  # validation, by stage
    loss = next(f for f in figures(page) if f["curves"][0]["name"] == "loss")["curves"]
    values = np.frombuffer(base64.b64decode(loss[0]["y"]), "<f8")
    written = [json.loads(t) for t in (workdir / "metrics.jsonl").read_text().splitlines()[:100]]
    np.testing.assert_array_equal(values, [line["loss"] for line in written])
    assert [curve["faint"] for curve in loss] == [True, False]


def test_a_run_that_has_just_begun(tmp_path):
    write_lines(tmp_path / "metrics.jsonl", [{"step": 1, "loss": 2.0}])
    assert report.main([str(tmp_path), "--output", str(tmp_path / "new" / "x.html")]) == 0
    assert "Evaluation" not in (tmp_path / "new" / "x.html").read_text()


@pytest.mark.parametrize("content", [None, "", "not json\n", "[1]\n", '{"step": "1"}\n'])
def test_nothing_to_show_is_one_line(tmp_path, capsys, content):
    if content is not None:
        (tmp_path / "metrics.jsonl").write_text(content)
    assert report.main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and "metrics.jsonl" in error


def test_steps_written_twice_count_once(tmp_path):
    steps = [1, 2, 3, 4, 3, 4, 5]
    lines = [{"step": step, "loss": number} for number, step in enumerate(steps)]
    write_lines(tmp_path / "m", lines)
    found = columns(read_lines(tmp_path / "m"))
    np.testing.assert_array_equal(found["step"], [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(found["loss"], [0, 1, 4, 5, 6])


def test_terms_sum_over_hands_and_stages():
    one = np.ones(2)
    names = ["joints_xyz_left_0", "joints_xyz_right_0", "joints_xyz_left_1", "offset_0", "lovasz"]
    sums = by_term({"step": one, "loss": one, "learning_rate": one} | dict.fromkeys(names, one))
    assert {name: value[0] for name, value in sums.items()} == {
        "joints_xyz": 3,
        "offset": 1,
        "lovasz": 1,
    }


def test_running_mean():
    rng = np.random.default_rng(1)
    values = rng.normal(size=30)
    values[7] = np.nan
    expected = [np.nanmean(values[max(0, i - 2) : i + 3]) for i in range(30)]
    np.testing.assert_allclose(smoothed(values, 5), expected, atol=1e-12)
    assert np.isnan(smoothed(np.full(3, np.nan), 3)).all()


def test_what_a_curve_cannot_show_is_a_gap():
    values = np.array([1.0, np.inf, 0.0, -1.0])
    for logarithmic, gaps in ((True, [0, 1, 1, 1]), (False, [0, 1, 0, 0])):
        markup = curves_figure([Curve("", np.arange(4), values)], "t", logarithmic=logarithmic)
        text = figures(markup)[0]["curves"][0]["y"]
        drawn = np.frombuffer(base64.b64decode(text), "<f8")
        np.testing.assert_array_equal(np.isnan(drawn), gaps)
    with pytest.raises(ValueError, match="wanted"):
        curves_figure([Curve("", np.arange(3), values)], "t")
