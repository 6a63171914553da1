import http.client
import json
import threading
import types

import cv2
import numpy as np
import pytest

from dir_jax import serve
from dir_jax.box_finding import whole_photo
from dir_jax.prediction import Reconstruction
from dir_jax.web import server as web_server
from dir_jax.web.server import MAX_UPLOAD, LocalServer
from dir_jax.web.studio import KEPT, Studio, clean_name
from tests.dir_jax.browser import (
    errors,
    find,
    needs_browser,
    open_browser,
    picture_of,
    steady_picture_of,
    wait_for,
)
from tests.dir_jax.hand_results import known_result


class KnownPredictor:
    """Answers every photo with the same hands, as `dir_jax.prediction.Predictor` would."""

    def __init__(self):
        self.known = known_result()
        config = types.SimpleNamespace(root_joint=0)
        model = types.SimpleNamespace(config=config)
        self.loaded = types.SimpleNamespace(hands=self.known.hands, model=model)
        self.photos_seen = []

    def photos(self, photos):
        for photo in photos:
            self.photos_seen.append(photo)
            yield Reconstruction(photo, self.known.found.stages)


def encoded(kind=".jpg", size=(200, 300)):
    return cv2.imencode(kind, np.full((*size, 3), 128, np.uint8))[1].tobytes()


@pytest.fixture(scope="module")
def predictor():
    return KnownPredictor()


@pytest.fixture(scope="module")
def server(predictor):
    server = LocalServer(0, Studio(predictor, whole_photo), ("a <note>",))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def ask(server, method, path, body=None, **headers):
    """Status, headers and body of a request; `Host=None` leaves that header out."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    host = headers.pop("Host", f"127.0.0.1:{server.server_port}")
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    headers |= {} if host is None else {"Host": host}
    if body is not None:
        headers.setdefault("Content-Length", str(len(body)))
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def upload(server, data, query="?box=60,50,160,100&name=a.jpg", **headers):
    headers = {"Content_Type": "image/jpeg"} | headers
    status, _, body = ask(server, "POST", f"/reconstruct{query}", data, **headers)
    return status, json.loads(body)


def test_a_photo_becomes_a_page(server, predictor):
    status, content = upload(server, encoded())
    assert status == 200
    status, headers, page = ask(server, "GET", content["result"])
    assert status == 200 and b"<title>a.jpg</title>" in page and b'data-figure="hands"' in page
    assert headers["Cache-Control"] == "no-store" and headers["X-Content-Type-Options"] == "nosniff"
    photo = predictor.photos_seen[-1]
    assert photo.image.shape == (200, 300, 3) and photo.box == (60, 50, 160, 100)
    assert upload(server, encoded(".png"), "", Content_Type="image/png")[0] == 200
    assert predictor.photos_seen[-1].box is None


def test_the_start_page_escapes_and_forbids(server):
    status, headers, page = ask(server, "GET", "/")
    assert status == 200 and b"a &lt;note&gt;" in page and b"<note>" not in page
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert server.server_address[0] == "127.0.0.1"


def test_only_loopback_names_are_answered(server):
    port = server.server_port
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1:1",
        "",
        None,
        f"127.0.0.2:{port}",
    ):
        assert ask(server, "GET", "/", Host=host)[0] == 403
        assert upload(server, encoded(), Host=host)[0] == 403
    assert ask(server, "GET", "/", Host=f"localhost:{port}")[0] == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1"])
def test_other_pages_cannot_upload(server, predictor, origin):
    before = len(predictor.photos_seen)
    assert upload(server, encoded(), Origin=origin)[0] == 403
    assert len(predictor.photos_seen) == before
    own = f"http://127.0.0.1:{server.server_port}"
    assert upload(server, encoded(), Origin=own)[0] == 200


def big_png():
    """A PNG of a few bytes that claims 100000 x 100000 pixels."""
    claimed = (100_000).to_bytes(4, "big")
    return (
        b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + claimed + claimed + b"\x08\x02\0\0\0" + b"\0" * 8
    )


@pytest.mark.parametrize(
    ("data", "query", "status", "message"),
    [
        (b"GIF89a" + b"\0" * 50, "", 422, "neither a JPEG nor a PNG"),
        (b"", "", 422, "neither a JPEG nor a PNG"),
        (encoded()[:200], "", 422, "photo"),
        (big_png(), "", 422, "100000 x 100000"),
        (encoded(), "?box=400,10,50,50", 422, "outside the photo"),
        (encoded(), "?box=10,10,0,50", 422, "is empty"),
        (encoded(), "?box=nan,10,50,50", 422, "is empty"),
        (encoded(), "?box=1,2,3", 400, "four numbers"),
        (encoded(), "?box=a,b,c,d", 400, "four numbers"),
    ],
)
def test_bad_photos_and_boxes_get_one_line(server, data, query, status, message):
    found, content = upload(server, data, query)
    assert found == status and message in content["error"] and "\n" not in content["error"]


def test_size_and_type_are_limited_before_reading(server):
    assert upload(server, b"", Content_Length=str(MAX_UPLOAD + 1))[0] == 413
    assert upload(server, b"", Content_Length="9" * 400)[0] == 413
    for length in ("-1", "1e3", "+5", ""):
        assert upload(server, b"", Content_Length=length)[0] == 411
    assert upload(server, encoded(), Content_Type="text/html")[0] == 415
    assert upload(server, encoded(), Transfer_Encoding="chunked")[0] == 411


@pytest.mark.parametrize(
    "path", ["/results/", "/results/x", "/../etc/passwd", "/etc/passwd", "//x"]
)
def test_there_is_nothing_else(server, path):
    assert ask(server, "GET", path)[0] == 404
    assert ask(server, "POST", path, b"")[0] == 404


def test_old_results_are_forgotten(server):
    first = upload(server, encoded())[1]["result"]
    for _ in range(KEPT):
        last = upload(server, encoded())[1]["result"]
    assert ask(server, "GET", first)[0] == 404 and ask(server, "GET", last)[0] == 200


def test_names_are_for_showing_only():
    assert clean_name("../../etc/pass\x00wd\n") == "passwd"
    assert clean_name("C:\\photos\\x.jpg") == "x.jpg" and clean_name("/") == "photo"
    assert len(clean_name("x" * 1000)) == 120


def test_too_many_at_once_are_sent_away(predictor):
    from dir_jax.web.studio import WAITING, BusyError

    studio, gate = Studio(predictor, whole_photo), threading.Event()
    studio._page = lambda *_: gate.wait(20) and b""
    threads = [
        threading.Thread(target=studio.reconstruct, args=(encoded(), "x", None))
        for _ in range(WAITING)
    ]
    for thread in threads:
        thread.start()
    while studio._waiting._value:
        pass
    with pytest.raises(BusyError):
        studio.reconstruct(encoded(), "x", None)
    gate.set()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(
    ("options", "message"),
    [([], "0 sources of weights"), (["--workdir", "/no/such"], "no such file or folder")],
)
def test_bad_commands_get_one_line(options, message, capsys):
    assert serve.main(options) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error


@needs_browser
@pytest.mark.slow
def test_a_person_uploads_a_photo_and_drags_a_box(server, predictor, tmp_path):
    from selenium.webdriver import ActionChains

    (tmp_path / "mine.jpg").write_bytes(encoded(size=(400, 600)))
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    with open_browser(tmp_path / "profile") as driver:
        driver.get(server.url)
        find(driver, "#file").send_keys(str(tmp_path / "bad.jpg"))
        wait_for(driver, lambda d: "bad.jpg is not a photo" in find(d, "#message").text)
        find(driver, "#file").send_keys(str(tmp_path / "mine.jpg"))
        wait_for(driver, lambda d: find(d, "#image").is_displayed())
        photo = find(driver, "#photo")
        scale = photo.size["width"] / 600
        actions = ActionChains(driver).move_to_element_with_offset(
            photo, -150 * scale, -100 * scale
        )
        actions.click_and_hold().move_by_offset(300 * scale, 200 * scale).release().perform()
        frame = wait_for(
            driver, lambda d: find(d, "#viewer") if find(d, "#result").is_displayed() else None
        )
        np.testing.assert_allclose(predictor.photos_seen[-1].box, (150, 100, 300, 200), atol=3)
        driver.switch_to.frame(frame)
        wait_for(driver, lambda d: d.find_elements("css selector", ".hands3d canvas"))
        assert find(driver, "h1").text == "mine.jpg"
        picture = steady_picture_of(find(driver, ".hands3d .canvas"))
        assert picture.std() > 10 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 100
        assert picture_of(find(driver, ".stack")).std() > 10
        assert errors(driver) == []


def test_nothing_is_written(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    opened = []
    monkeypatch.setattr("builtins.open", lambda *a, **k: opened.append(a))
    assert upload(server, encoded())[0] == 200
    assert opened == [] and list(tmp_path.iterdir()) == []
    assert web_server.HOST == "127.0.0.1"
