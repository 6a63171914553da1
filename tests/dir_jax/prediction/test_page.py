import base64
import json
import re

import cv2
import numpy as np
import pytest

from dir_jax.prediction.page import viewer_html, write_viewer
from tests.dir_jax.hand_results import known_result


@pytest.fixture(scope="module")
def result():
    return known_result()


@pytest.fixture(scope="module")
def page(result):
    return viewer_html(result, truth_xyz=result.vertices_xyz[-1] + [0, 0, 0.0125])


def pictures(page):
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    return [cv2.imdecode(np.frombuffer(base64.b64decode(t), np.uint8), 1) for t in found]


def test_one_file_holds_photo_stages_and_meshes(result, page):
    assert "<title>grey &amp; &lt;b&gt;.png</title>" in page and "folder" not in page
    crop, *overlays, whole = pictures(page)
    assert crop.shape == (640, 640, 3) and whole.shape == (200, 300, 3)
    assert len(overlays) == 3 and all(overlay.shape == crop.shape for overlay in overlays)
    assert page.count("data-stage-picture=") == 3 and page.count(" hidden>") == 2
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', page)[1])
    assert [s["label"] for s in data["stages"]] == ["initial", "refined 1", "refined 2"]
    assert data["start"] == 2 and data["truth"]
    assert "12.5 mm from the true hands" in data["stages"][2]["note"]
    far = 1000 * np.linalg.norm(result.vertices_xyz[0] - result.vertices_xyz[2], axis=-1).mean()
    assert f"{far:.1f} mm from the last stage" in data["stages"][0]["note"]


def test_hands_lie_where_they_are_projected(result, page):
    crop, *overlays, _ = (image.astype(int) for image in pictures(page))
    drawn = np.abs(overlays[-1] - crop).max(-1) > 30
    rows, columns = np.nonzero(drawn)
    uv = result.found.stages[-1].vertices_uv.reshape(-1, 2)
    low, high = ((bound(uv, axis=0) + 1) / 2 * 640 for bound in (np.min, np.max))
    expected = np.clip([*low, *high], 0, 639)
    np.testing.assert_allclose(
        [columns.min(), rows.min(), columns.max(), rows.max()], expected, atol=4
    )


def test_a_square_photo_without_a_box_is_shown_once():
    result = known_result(stages=1, size=(100, 100), box=None)
    assert len(pictures(viewer_html(result))) == 2


def test_the_writer_names_its_file(result, tmp_path):
    assert write_viewer(tmp_path / "new", result) == [tmp_path / "new" / "grey.html"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["grey.html"]
