import base64
import re

import cv2
import numpy as np
import pytest

from dir_jax.prediction.page import VIEW_SIZE, result_html
from tests.dir_jax.pictures.test_page import figures_of
from tests.dir_jax.prediction.known_hands import known_result


@pytest.fixture(scope="module")
def result():
    return known_result()


@pytest.fixture(scope="module")
def page(result):
    return result_html(result, truth_xyz=result.vertices_xyz[-1] + [0, 0, 0.0125])


def picture(uri):
    data = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
    return cv2.imdecode(np.frombuffer(data, np.uint8), 1).astype(int)


def test_one_file_holds_photo_stages_and_meshes(page):
    assert "<title>grey &amp; &lt;b&gt;.png</title>" in page and "folder" not in page
    (photo,) = re.findall(r'src="(data:image/jpeg;base64,[^"]+)"', page)
    assert picture(photo).shape == (200, 300, 3)
    (figure,) = figures_of(page)
    steps = figure["layout"]["sliders"][0]["steps"]
    assert [step["label"] for step in steps] == ["initial", "refined 1", "refined 2"]
    assert len(figure["frames"]) == 3 and len(figure["data"]) == 5  # picture, hands, true hands
    assert "box 60, 50, 160, 100" in page


def test_hands_lie_where_they_are_projected(result, page):
    uri = figures_of(page)[0]["frames"][-1]["data"][2]["source"]
    drawn = np.abs(picture(uri) - 128).max(-1) > 30
    drawn[-2:] = False  # the crop reaches beyond the photo by a row
    rows, columns = np.nonzero(drawn)
    uv = result.stages.vertices_uv[-1].reshape(-1, 2)
    low, high = ((bound(uv, axis=0) + 1) / 2 * VIEW_SIZE for bound in (np.min, np.max))
    expected = np.clip([*low, *high], 0, VIEW_SIZE - 1)
    np.testing.assert_allclose(
        [columns.min(), rows.min(), columns.max(), rows.max()], expected, atol=4
    )


def test_a_photo_of_one_row_has_a_page():
    assert result_html(known_result(stages=1, size=(1, 3000), box=None))
