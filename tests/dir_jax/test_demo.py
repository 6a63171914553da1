"""The demo: what it answers, with and without its page."""

import contextlib
import dataclasses
import http.client
import json
import pathlib
import struct
import sys
import tempfile

import cv2
import numpy as np
import pytest

from dir_jax.demo import __main__ as demo
from dir_jax.demo import answers
from dir_jax.prediction.boxes import detected
from dir_jax.prediction.detection import SeenHand
from tests.dir_jax.browser import (
    errors,
    find,
    needs_browser,
    open_browser,
    picture_of,
    steady_picture_of,
    wait_for,
)
from tests.dir_jax.prediction.known_hands import known_result

KNOWN = known_result(stages=3)
GREY, DARK = 128, 0


class ThreeStages:
    """Answers every photo with the same hands."""

    batch_size = 1

    def photos(self, photos):
        for photo in photos:
            yield dataclasses.replace(KNOWN, photo=photo)


def _look(image):
    """Two hands, but none in the dark."""
    boxes = ((60, 50, 60, 100), (140, 50, 80, 100)) if image.max() > DARK else ()
    return [
        SeenHand(box, np.add(box[:2], np.zeros((21, 2))), 0.9 - 0.1 * i, float(i))
        for i, box in enumerate(boxes)
    ]


FIND = detected(_look)


@pytest.fixture
def photo(tmp_path):
    def write(name, grey=GREY, size=(200, 300)):
        path = tmp_path / name
        assert cv2.imwrite(str(path), np.full((*size, 3), grey, np.uint8))
        return path

    return write


def glb_vertices(path):
    """How many vertices each mesh of a GLB has."""
    data = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack_from("<I", data, 12)
    content = json.loads(data[20 : 20 + length])
    meshes = [mesh["primitives"][0]["attributes"]["POSITION"] for mesh in content["meshes"]]
    return [content["accessors"][number]["count"] for number in meshes]


def answer(path, box=""):
    return answers.find_hands(answers.open_photo(path), box, ThreeStages(), FIND)


def test_hands_are_found_drawn_and_named(photo, tmp_path):
    look = answer(photo("a_*b*.png"))
    picture, glb, text = answers.show(look, 0, 2, tmp_path)
    warmth = picture[..., 0].astype(int) - picture[..., 2]
    assert picture.shape == (200, 300, 3) and min((warmth > 40).sum(), (warmth < -40).sum()) > 500
    assert glb_vertices(glb) == [778, 778]
    plain = text.replace("\\", "")
    assert "a_*b*.png: 2 hands found (confidence 0.90 and 0.80)" in plain
    assert "\\*b\\*" in text and "Box: 60,50,160,100" in plain
    assert "Hand model: open hand (CC0" in plain and "Right wrist relative to left, mm" in plain


def test_stages_differ(photo, tmp_path):
    look = answer(photo("a.png"))
    first, last = (answers.show(look, 0, stage, tmp_path) for stage in (0, 2))
    assert (first[0] != last[0]).any()
    assert pathlib.Path(first[1]).read_bytes() != pathlib.Path(last[1]).read_bytes()


def test_a_large_photo_is_made_smaller(photo):
    assert answer(photo("big.png", size=(3200, 1600))).image.shape == (1600, 800, 3)


@pytest.mark.parametrize(
    ("name", "grey", "box", "line"),
    [
        ("dark.png", DARK, "", "No hands found in dark.png. Click two corners of a box"),
        ("a.png", GREY, "1,2,3", "'1,2,3' is no box; wanted x,y,width,height"),
        ("a.png", GREY, "900,10,20,20", "lies outside the photo"),
    ],
)
def test_what_is_in_the_way_is_said_beside_the_photo(photo, tmp_path, name, grey, box, line):
    look = answer(photo(name, grey), box)
    picture, glb, _ = answers.show(look, 0, 0, tmp_path)
    assert line in look.trouble and (picture == grey).all() and glb is None


def test_a_text_is_no_photo(tmp_path):
    (tmp_path / "notes.png").write_text("no photo")
    look = answer(tmp_path / "notes.png")
    assert look.trouble.startswith("notes.png: not a photo that can be read")
    assert answers.show(look, 0, 0, tmp_path)[:2] == (None, None)


def test_two_clicks_are_a_box(photo, tmp_path):
    look, box = answers.click(answer(photo("dark.png", DARK)), (200, 40))
    assert box == "" and (answers.show(look, 0, 0, tmp_path)[0][40, 200] == (60, 220, 100)).all()
    look, box = answers.click(look, (50, 160))
    assert box == "50,40,150,120"
    look = answers.find_hands(look, box, ThreeStages(), FIND)
    assert look.results[0].photo.box == (50, 40, 150, 120) and look.corner is None


def test_without_gradio_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert demo.main([]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and 'pip install "dir-jax[demo]"' in error


# --- The page -------------------------------------------------------------------------------------


@contextlib.contextmanager
def served(tmp_path, monkeypatch):
    """The demo's address; afterwards nothing that it wrote is left."""
    pytest.importorskip("gradio")
    temporary, here = tmp_path / "temporary", tmp_path / "here"
    temporary.mkdir(), here.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.chdir(here)
    with demo.serving(ThreeStages(), FIND) as addresses:
        assert len(addresses) == 1 and addresses[0].startswith("http://127.0.0.1:")
        yield addresses[0]
        assert list(temporary.iterdir()) != []
    assert list(temporary.iterdir()) == [] and list(here.iterdir()) == []


def ask(address, method="GET", path="/", body=None, **headers):
    host = address.split("/")[2]
    connection = http.client.HTTPConnection(host, timeout=20)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, {"Host": host} | headers)
    return connection.getresponse().status


def multipart(size):
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    return head + bytes(size) + b"\r\n--x--\r\n"


@pytest.mark.slow
def test_the_page_answers_this_machine_alone_and_takes_no_large_file(tmp_path, monkeypatch):
    with served(tmp_path, monkeypatch) as address:
        assert ask(address) == ask(address, Host="localhost") == 200
        for host in ("evil.example", "127.0.0.1.evil.example", "", "x.gradio.live"):
            assert ask(address, Host=host) == 403
        for origin in ("http://evil.example", "null"):
            assert ask(address, Origin=origin) == 403
        kind = {"Content_Type": "multipart/form-data; boundary=x"}
        upload = "POST", "/gradio_api/upload"
        assert ask(address, *upload, multipart(demo.LARGEST_UPLOAD + 1), **kind) == 413
        assert ask(address, *upload, multipart(1000), **kind) == 200
        assert ask(address, *upload, multipart(9), Origin="http://evil.example", **kind) == 403
        assert ask(address, path="/gradio_api/file=/etc/passwd") == 403


@needs_browser
@pytest.mark.slow
def test_a_person_uploads_photos(photo, tmp_path, monkeypatch):
    (tmp_path / "notes.png").write_text("no photo")
    paths = {name: str(photo(f"{name}.png", grey)) for name, grey in (("a", GREY), ("dark", DARK))}
    with served(tmp_path, monkeypatch) as address, open_browser(tmp_path / "profile") as driver:
        driver.get(address)

        def upload(path, says):
            for button in driver.find_elements("css selector", "#photo button[aria-label=Clear]"):
                button.click()
            wait_for(driver, lambda d: find(d, "#photo input[type=file]")).send_keys(str(path))
            wait_for(driver, lambda d: says in find(d, "#text").text)

        wait_for(driver, lambda d: d.find_elements("css selector", "#photo input[type=file]"))
        upload(tmp_path / "notes.png", "not a photo that can be read")
        upload(paths["dark"], "No hands found in dark.png")
        upload(paths["a"], "2 hands found (confidence 0.90 and 0.80)")
        shown = wait_for(driver, lambda d: find(d, "#picture img"))
        assert wait_for(driver, lambda d: shown.get_attribute("naturalWidth")) == "300"
        warmth = picture_of(shown) @ [1, 0, -1]
        assert min((warmth > 40).sum(), (warmth < -40).sum()) > 500
        scene = wait_for(driver, lambda d: find(d, "#model canvas"))
        last = steady_picture_of(scene)
        assert last.std() > 5
        assert find(driver, "#model a").get_attribute("href").endswith(".glb")
        names = driver.execute_script(
            "return performance.getEntriesByType('resource').map(e => e.name)"
        )
        ours = (address, "data:", "blob:")
        assert [name for name in names if not name.startswith(ours)] == []
        # Without a graphics card the viewer tries WebGPU first, and says so.
        assert [line for line in errors(driver) if "WebGPU" not in line] == []
