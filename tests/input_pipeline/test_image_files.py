"""Photographs from untrusted places: every bad one is named, none costs memory or hangs."""

import os
import zlib

import cv2
import numpy as np
import pytest

from input_pipeline import image_files
from input_pipeline.image_files import decode_photo, read_photo, safe_path
from input_pipeline.troubles import FrameTrouble, Trouble


def encoded(kind=".jpg", size=(40, 30), *parameters):
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), size)
    return cv2.imencode(kind, image, list(parameters))[1].tobytes(), image[..., ::-1]


def reason(function, *arguments):
    with pytest.raises(FrameTrouble) as caught:
        function(*arguments)
    return caught.value.reason


@pytest.mark.parametrize("kind", [".jpg", ".png"])
def test_sound_photos_come_out_in_rgb(kind):
    data, image = encoded(kind)
    got = decode_photo(data)
    assert got.shape == (30, 40, 3)
    assert np.abs(got.astype(int) - image).mean() < (8 if kind == ".jpg" else 1e-9)


def test_progressive_and_grey_photos_and_bytes_behind_the_end_are_fine():
    data, _ = encoded(".jpg", (40, 30), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    assert decode_photo(data).shape == (30, 40, 3)
    grey = cv2.imencode(".jpg", np.full((20, 30), 77, np.uint8))[1].tobytes()
    photo = decode_photo(grey)
    assert photo.shape == (20, 30, 3) and (photo == photo[..., :1]).all()
    assert decode_photo(data + b"\0" * 20).shape == (30, 40, 3)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
@pytest.mark.parametrize("kind", [".jpg", ".png"])
def test_cut_files_are_called_so(kind, share):
    data, _ = encoded(kind, (200, 150))
    found = reason(decode_photo, data[: int(len(data) * share)])
    assert found in (Trouble.IMAGE_TRUNCATED, Trouble.IMAGE_UNREADABLE)
    if kind == ".jpg" and share > 0.5:
        assert found is Trouble.IMAGE_TRUNCATED


def test_a_header_that_claims_billions_of_pixels_is_refused_undecoded(monkeypatch):
    def explode(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr(image_files.cv2, "imdecode", explode)
    png = bytearray(encoded(".png")[0])
    png[16:24] = (60000).to_bytes(4, "big") * 2
    png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
    assert reason(decode_photo, bytes(png)) is Trouble.IMAGE_TOO_LARGE
    jpeg = bytearray(encoded()[0])
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    assert reason(decode_photo, bytes(jpeg)) is Trouble.IMAGE_TOO_LARGE
    jpeg[at + 5 : at + 9] = b"\0\0\0\0"
    assert reason(decode_photo, bytes(jpeg)) is Trouble.IMAGE_UNREADABLE
    monkeypatch.setattr(image_files, "MAX_PIXELS", 40 * 30 - 1)
    assert reason(decode_photo, encoded()[0]) is Trouble.IMAGE_TOO_LARGE


def test_pipes_folders_and_huge_files_are_refused(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert reason(read_photo, tmp_path / "pipe.jpg") is Trouble.IMAGE_UNREADABLE
    assert reason(read_photo, tmp_path) is Trouble.IMAGE_UNREADABLE
    assert reason(read_photo, tmp_path / "none.jpg") is Trouble.IMAGE_MISSING
    (tmp_path / "big.jpg").write_bytes(b"1234567")
    monkeypatch.setattr(image_files, "MAX_FILE_BYTES", 6)
    assert reason(read_photo, tmp_path / "big.jpg") is Trouble.IMAGE_TOO_LARGE


def test_paths_stay_inside(tmp_path):
    root = tmp_path / "images"
    (root / "a").mkdir(parents=True)
    (tmp_path / "secret.jpg").write_text("x")
    assert safe_path(root, "a/b.jpg") == root.resolve() / "a" / "b.jpg"
    (root / "out").symlink_to(tmp_path)
    (root / "a" / "link.jpg").symlink_to("../../secret.jpg")
    (root / "inner").symlink_to(root / "a")
    assert safe_path(root, "inner/b.jpg") == root.resolve() / "a" / "b.jpg"
    (tmp_path / "elsewhere").symlink_to(root)  # the folder itself may be a link
    assert safe_path(tmp_path / "elsewhere", "a/b.jpg") == root.resolve() / "a" / "b.jpg"
    for name in (
        *("/etc/passwd", "../secret.jpg", "a/../../secret.jpg", "out/secret.jpg", "a/link.jpg"),
        *("", "a\0b", "..\\secret.jpg", None, 3, ["a"]),
    ):
        assert reason(safe_path, root, name) is Trouble.UNSAFE_PATH, name
