import base64
import json
import re

import cv2
import numpy as np
import pytest

import mano_jax
from dir_jax.pictures.pages import elements, images
from dir_jax.pictures.pages.hands3d import StageMesh, hands_figure
from dir_jax.pictures.pages.page import (
    Html,
    Section,
    element,
    escape,
    json_script,
    page_html,
    write_page,
)
from dir_jax.pictures.pages.page import join as join_parts

HOSTILE = "</script><script>alert(1)</script>\"'&\u2028"


@pytest.fixture(scope="module")
def faces():
    hands = mano_jax.open_hands()
    return [hands.left.faces, hands.right.faces]


@pytest.fixture(scope="module")
def meshes():
    hands = mano_jax.open_hands()
    place = np.array([[[-0.08, 0, 0]], [[0.08, 0.02, 0.05]]])
    return np.stack([hands.left.v_template, hands.right.v_template]) + place


def figure_data(markup):
    text = re.search(r'<script type="application/json">(.*?)</script>', markup, re.S).group(1)
    return json.loads(text)


def decoded(text, kind):
    return np.frombuffer(base64.b64decode(text), kind)


def test_everything_that_is_not_markup_is_escaped():
    parts = [
        HOSTILE,
        elements.table([HOSTILE], [[HOSTILE]]),
        elements.note(HOSTILE),
        images.picture("data:,", HOSTILE, HOSTILE),
        element("p", HOSTILE, title=HOSTILE),
        json_script({"text": HOSTILE}),
    ]
    page = page_html(HOSTILE, [Section(HOSTILE, parts)], lead=HOSTILE)
    assert "alert(1)</script>" not in page and "<script>alert" not in page
    assert figure_data(page) == {"text": HOSTILE}
    assert escape(Html("<b>")) == "<b>" and join_parts(Html("<b>"), "<b>") == "<b>&lt;b&gt;"


def test_a_page_asks_for_nothing_and_carries_the_library_once(faces, meshes):
    figure = hands_figure([StageMesh("only", meshes)], faces)
    page = page_html("hands", [Section("", [figure]), Section("again", [figure])])
    assert page.count('id="library"') == 1 and "default-src 'none'" in page
    markup = re.sub(r'<script type="text/plain".*?</script>', "", page, flags=re.S)
    assert not re.search(r"""(src|href)=["'](?!data:)""", markup) and "http://" not in markup
    plain = page_html("text", [Section("", ['plotly is not needed: data-figure="x"'])])
    assert 'id="library"' not in plain and len(plain) < 20_000


def test_meshes_travel_as_they_are(faces, meshes):
    stages = [StageMesh("first", meshes + 0.01, "rough"), StageMesh("last", meshes)]
    data = figure_data(hands_figure(stages, faces, truth_xyz=meshes - 0.01))
    assert [stage["label"] for stage in data["stages"]] == ["first", "last"]
    assert data["start"] == 1 and data["stages"][0]["note"] == "rough"
    for hand in range(2):
        planes = decoded(data["stages"][1]["vertices"][hand], "<f4").reshape(3, -1)
        np.testing.assert_array_equal(planes.T, meshes[hand].astype(np.float32))
        np.testing.assert_array_equal(
            decoded(data["faces"][hand], "<u2").reshape(3, -1).T, faces[hand]
        )
    inside = np.abs(meshes - data["centre"]).max() * 2
    assert inside <= data["side"] < 1.5 * inside


def test_the_view_begins_where_the_camera_was(faces, meshes):
    views = figure_data(hands_figure([StageMesh("", meshes)], faces))["views"]
    assert views["front"] == {"eye": [0, 0, -1], "up": [0, -1, 0]}
    for view in views.values():  # what is right in the picture: forward x up
        assert np.dot(view["eye"], view["up"]) == 0


def test_a_stage_far_off_does_not_shrink_the_others(faces, meshes):
    near = figure_data(hands_figure([StageMesh("", meshes)], faces))["side"]
    stages = [StageMesh("lost", meshes + 10), StageMesh("", meshes)]
    assert figure_data(hands_figure(stages, faces))["side"] <= 2.01 * near


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: [], "no stages"),
        (lambda m: [StageMesh("", m[0])], "wanted \\(2, V, 3\\)"),
        (lambda m: [StageMesh("", m * np.nan)], "not finite"),
    ],
)
def test_meshes_that_cannot_be_shown(faces, meshes, change, message):
    with pytest.raises(ValueError, match=message):
        hands_figure(change(meshes), faces)


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_pictures_survive_their_address(kind):
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8)[:, None], (1, 48))
    picture = np.stack([ramp, ramp[::-1], ramp // 2], axis=-1)
    media, text = images.data_uri(picture, kind, 95).split(";base64,")
    assert media == f"data:image/{kind}"
    again = cv2.imdecode(decoded(text, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_allclose(again.astype(int), picture, atol=0 if kind == "png" else 12)
    with pytest.raises(ValueError, match="uint8"):
        images.data_uri(picture / 255)


def test_a_page_is_written_whole(tmp_path):
    write_page(tmp_path / "new" / "page.html", "title", [Section("", ["text"])])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["page.html"]
    text = (tmp_path / "new" / "page.html").read_text()
    assert text.startswith("<!doctype html>") and text.endswith("</html>\n")
