import base64
import json
import re

import cv2
import numpy as np
import plotly.graph_objects as go
import pytest

import mano_jax
from dir_jax.pictures import page
from dir_jax.pictures.figures import StageView, hands_figure

HOSTILE = "</script><script>alert(1)</script>\"'&\u2028$title"


@pytest.fixture(scope="module")
def faces():
    hands = mano_jax.open_hands()
    return [hands.left.faces, hands.right.faces]


@pytest.fixture(scope="module")
def meshes():
    hands = mano_jax.open_hands()
    place = np.array([[[-0.08, 0, 0]], [[0.08, 0.02, 0.05]]])
    return np.stack([hands.left.v_template, hands.right.v_template]) + place


def figures_of(markup):
    """The data of all figures of a page."""
    texts = re.findall(r'<script type="application/json">(.*?)</script>', markup, re.S)
    return [json.loads(text) for text in texts]


def decoded(array):
    return np.frombuffer(base64.b64decode(array["bdata"]), array["dtype"])


def test_everything_that_is_not_markup_is_escaped():
    figure = go.Figure(layout={"title": {"text": HOSTILE}, "height": 100})
    picture = np.zeros((2, 2, 3), np.uint8)
    parts = [
        HOSTILE,
        page.section(HOSTILE, HOSTILE, page.note(HOSTILE), page.image(picture, HOSTILE)),
        page.table([HOSTILE], [[HOSTILE]]),
        page.folded(HOSTILE, HOSTILE, one_of=HOSTILE),
        page.element("p", HOSTILE, title=HOSTILE),
        page.chart(figure),
    ]
    markup = page.page_html(HOSTILE, *parts)
    assert "alert(1)</script>" not in markup and "<script>alert" not in markup
    assert figures_of(markup)[0]["layout"]["title"]["text"] == HOSTILE
    assert page.element("p", page.Html("<b>"), "<b>") == "<p><b>&lt;b&gt;</p>"


def test_a_page_asks_for_nothing_and_carries_the_library_once(faces, meshes):
    figure = page.chart(hands_figure([StageView("only", meshes)], faces))
    markup = page.page_html("hands", figure, page.section("again", figure))
    assert markup.count('id="library"') == 1 and "default-src 'none'" in markup
    markup = re.sub(r'<script type="text/plain".*?</script>', "", markup, flags=re.S)
    assert not re.search(r"""(src|href)=["'](?!data:)""", markup) and "http://" not in markup


def test_meshes_travel_unchanged(faces, meshes):
    picture = np.full((8, 8, 3), 90, np.uint8)
    stages = [StageView(name, meshes + i / 100, picture) for i, name in enumerate(("a", "b"))]
    figure = figures_of(page.chart(hands_figure(stages, faces, truth_xyz=meshes - 0.01)))[0]
    assert [step["label"] for step in figure["layout"]["sliders"][0]["steps"]] == ["a", "b"]
    *hands, image, true_left, _ = figure["data"]
    assert image["source"].startswith("data:image/jpeg;base64,")
    for hand, trace in enumerate(hands):
        for number, frame in enumerate(figure["frames"]):
            found = np.stack([decoded(frame["data"][hand][axis]) for axis in "xyz"], -1)
            np.testing.assert_array_equal(found, (meshes[hand] + number / 100).astype(np.float32))
        assert trace["x"] == figure["frames"][1]["data"][hand]["x"]  # the last one is shown first
        corners = np.stack([decoded(trace[name]) for name in "ijk"], -1)
        np.testing.assert_array_equal(corners, faces[hand])
    np.testing.assert_array_equal(decoded(true_left["y"]), (meshes[0] - 0.01).astype("f4")[:, 1])
    assert true_left["visible"] == "legendonly"


def test_the_view_begins_where_the_camera_was(faces, meshes):
    layout = hands_figure([StageView("", meshes)], faces).layout
    camera = layout.scene.camera
    assert (camera.eye.x, camera.eye.y) == (0, 0) and camera.eye.z < 0
    assert (camera.up.x, camera.up.y, camera.up.z) == (0, -1, 0)
    for button in layout.updatemenus[0].buttons:
        eye, up = (button.args[0]["scene.camera"][name] for name in ("eye", "up"))
        assert sum(eye[axis] * up[axis] for axis in "xyz") == 0


def test_a_stage_far_off_does_not_shrink_the_others_and_no_number_hides_a_hand(faces, meshes):
    def width(figure):
        low, high = figure.layout.scene.xaxis.range
        return high - low

    near = width(hands_figure([StageView("", meshes)], faces))
    stages = [StageView("lost", meshes + 10), StageView("", meshes)]
    assert width(hands_figure(stages, faces)) <= 2.01 * near
    one_hand = np.where([[[True]], [[False]]], meshes, np.nan)
    left, right = hands_figure([StageView("", one_hand)], faces).data
    assert np.ptp(left.x) > 0.05 and np.ptp(right.x) == 0 and np.isfinite(right.x).all()


def test_meshes_that_cannot_be_shown(faces, meshes):
    with pytest.raises(ValueError, match="not finite"):
        hands_figure([StageView("", meshes * np.nan)], faces)


def test_pictures_survive_their_address():
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8)[:, None], (1, 48))
    picture = np.stack([ramp, ramp[::-1], ramp // 2], axis=-1)
    text = page.data_uri(picture).removeprefix("data:image/jpeg;base64,")
    again = cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_allclose(again[..., ::-1].astype(int), picture, atol=20)
    with pytest.raises(ValueError, match="uint8"):
        page.data_uri(picture / 255)


def test_a_page_is_written_whole(tmp_path):
    page.write_page(tmp_path / "new" / "page.html", "title", "text")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["page.html"]
    text = (tmp_path / "new" / "page.html").read_text()
    assert text.startswith("<!doctype html>") and text.endswith("</html>\n")
