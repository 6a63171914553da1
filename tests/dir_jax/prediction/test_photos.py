import pathlib
import tempfile

import cv2
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from dir_jax.prediction import photos
from dir_jax.prediction.photo_headers import claimed_size
from input_pipeline import image_files
from input_pipeline.crop import crop_affine


def pattern(height=60, width=80):
    """A photo whose quarters are red, green, blue and white."""
    image = np.zeros((height, width, 3), np.uint8)
    half_h, half_w = height // 2, width // 2
    image[:half_h, :half_w, 0] = image[:half_h, half_w:, 1] = image[half_h:, :half_w, 2] = 250
    image[half_h:, half_w:] = 250
    return image


def write(path, image, **options):
    assert cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 else image, **options)
    return path


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """A JPEG with an EXIF segment that holds just the orientation tag (0x0112)."""
    tiff = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01"
    tiff += orientation.to_bytes(2, "big") + b"\x00\x00" + b"\x00\x00\x00\x00"
    body = b"Exif\x00\x00" + tiff
    return jpeg[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:]


def test_orientation_tag_is_obeyed(tmp_path):
    upright = pattern()
    # Orientation 6: the file's rows are the upright photo's columns, from the right.
    stored = np.rot90(upright, 1)
    encoded = cv2.imencode(".jpg", stored[..., ::-1])[1].tobytes()
    (tmp_path / "p.jpg").write_bytes(with_orientation(encoded, 6))
    read = photos.read_image(tmp_path / "p.jpg")
    assert read.shape == upright.shape
    np.testing.assert_allclose(read[10, 10], upright[10, 10], atol=12)
    np.testing.assert_allclose(read[-10, 10], upright[-10, 10], atol=12)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".bmp", ".tiff"])
def test_lossless_kinds(tmp_path, suffix):
    write(tmp_path / f"p{suffix}", pattern())
    np.testing.assert_allclose(photos.read_image(tmp_path / f"p{suffix}"), pattern(), atol=6)


def test_grey_and_alpha(tmp_path):
    grey = np.arange(80, dtype=np.uint8)[None].repeat(60, 0)
    read = photos.read_image(write(tmp_path / "grey.png", grey))
    np.testing.assert_array_equal(read, grey[..., None].repeat(3, -1))
    alpha = np.concatenate([pattern()[..., ::-1], np.zeros((60, 80, 1), np.uint8)], -1)
    alpha[:30, :, 3] = 255
    cv2.imwrite(str(tmp_path / "alpha.png"), alpha)
    read = photos.read_image(tmp_path / "alpha.png")
    np.testing.assert_array_equal(read[:30], pattern()[:30])
    assert not read[30:].any()


def test_sixteen_bits_become_eight(tmp_path):
    deep = (pattern().astype(np.uint16) << 8) | 77
    alpha = np.full((60, 80, 1), 65535, np.uint16)
    cv2.imwrite(str(tmp_path / "p.png"), np.concatenate([deep[..., ::-1], alpha], -1))
    np.testing.assert_allclose(photos.read_image(tmp_path / "p.png"), pattern(), atol=1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"no picture at all", "not a photo"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 30, "claims"),
        (b"GIF89a" + b"\0" * 10, "not a photo"),
    ],
)
def test_unreadable_files_are_named(tmp_path, content, message):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(photos.PhotoError, match=message) as caught:
        photos.read_image(path)
    assert str(caught.value).count("photo.jpg") == 1


@pytest.mark.parametrize("suffix", [".bmp", ".tif", ".webp", ".jpg", ".png"])
def test_sizes_are_checked_before_decoding(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"photo{suffix}"
    cv2.imwrite(str(path), pattern())
    read = photos.read_image(path)
    assert read.shape == (60, 80, 3)
    monkeypatch.setattr(cv2, "imdecode", None)  # calling it would fail
    monkeypatch.setattr(image_files, "MAX_PIXELS", 60 * 80 - 1)
    with pytest.raises(photos.PhotoError, match="claims 80 x 60 pixels"):
        photos.read_image(path)


LOSSY = cv2.imencode(".webp", pattern(), [cv2.IMWRITE_WEBP_QUALITY, 50])[1].tobytes()
LOSSLESS = cv2.imencode(".webp", pattern(), [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
OTHERS = [LOSSY, LOSSLESS, *(cv2.imencode(s, pattern())[1].tobytes() for s in (".bmp", ".tif"))]


@pytest.mark.parametrize("data", OTHERS)
def test_other_kinds_claim_their_size(data):
    assert claimed_size(data) == (80, 60)
    assert claimed_size(data[:20]) is None


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(strategies.sampled_from(OTHERS), strategies.data())
def test_spoilt_photos_are_read_or_named(data, draw):
    spoilt = bytearray(data)
    for _ in range(draw.draw(strategies.integers(1, 6))):
        at = draw.draw(strategies.integers(0, min(len(spoilt) - 1, 200)))
        spoilt[at] = draw.draw(strategies.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "photo"
        path.write_bytes(bytes(spoilt[: draw.draw(strategies.integers(0, len(spoilt)))]))
        try:
            image = photos.read_image(path)
        except photos.PhotoError:
            return
        assert image.ndim == 3 and image.dtype == np.uint8


def test_missing_and_cut_files(tmp_path):
    with pytest.raises(photos.PhotoError, match="missing"):
        photos.read_image(tmp_path / "none.jpg")
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3)).astype(np.uint8)
    data = cv2.imencode(".jpg", noise)[1].tobytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(photos.PhotoError, match=r"cut\.jpg"):
        photos.read_image(tmp_path / "cut.jpg")


def test_whole_photo_becomes_the_crop():
    photo = photos.photo_from_image(pattern(256, 256), "p")
    np.testing.assert_array_equal(photo.crop(), pattern(256, 256))
    corners = photo.to_photo_px(np.array([[-1.0, -1.0], [1.0, 1.0]]))
    np.testing.assert_allclose(corners, [[0, 0], [256, 256]])


def test_box_fills_four_fifths_and_points_return():
    photo = photos.photo_from_image(pattern(300, 400), "p", (100, 120, 80, 40))
    np.testing.assert_allclose(photo.square, [140, 140, 50])
    uv = np.random.default_rng(0).uniform(-1.2, 1.2, (2, 21, 2))
    matrix = crop_affine(photo.square)
    back = photo.to_photo_px(uv) @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(back, (uv + 1) / 2 * 256, atol=1e-9)
    np.testing.assert_allclose(photo.to_photo_px(np.zeros(2)), [140, 140])


@pytest.mark.parametrize("side", [256, 700, 3000])
def test_large_photos_are_averaged_not_skipped(side):
    rng = np.random.default_rng(side)
    image = rng.integers(0, 255, (side, side, 3)).astype(np.uint8)
    image[:, : side // 2] //= 4
    crop = photos.photo_from_image(image, "p").crop().astype(float)
    assert crop.shape == (256, 256, 3)
    assert crop[:, :120].mean() == pytest.approx(31.5, abs=1.5)
    assert crop[:, 136:].mean() == pytest.approx(127, abs=1.5)
    if side == 3000:  # noise of 11 x 11 pixels averages out
        assert crop[:, 136:].std() < 12


def test_a_tiny_photo_works():
    assert photos.photo_from_image(pattern(2, 3), "p").crop().shape == (256, 256, 3)


@pytest.mark.parametrize("box", [(90, 0, 10, 10), (-20, 0, 20, 10), (0, 60, 5, 5)])
def test_a_box_outside_is_refused(box):
    with pytest.raises(photos.PhotoError, match="outside the photo, which is 80 x 60"):
        photos.photo_from_image(pattern(), "p", box)


@pytest.mark.parametrize("box", [(0, 0, 0, 10), (0, 0, np.nan, 10), (0, 0, 4, -1)])
def test_an_empty_box_is_refused(box):
    with pytest.raises(photos.PhotoError, match="empty"):
        photos.photo_from_image(pattern(), "p", box)
