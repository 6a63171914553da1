import sys

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile

from dir_jax.prediction import photos
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


KINDS = [".jpg", ".png", ".webp", ".bmp", ".tiff", ".jp2", ".ppm", ".pnm", ".avif"]


@pytest.mark.parametrize("suffix", KINDS)
def test_every_promised_kind_is_read(tmp_path, suffix):
    image = Image.fromarray(pattern())
    image.save(tmp_path / f"p{suffix}", **({"quality": 95} if suffix in (".jpg", ".avif") else {}))
    read = photos.read_image(tmp_path / f"p{suffix}")
    near_edges = np.zeros((60, 80), bool)
    near_edges[16:32] = near_edges[:, 32:48] = True  # blocks of lossy formats
    np.testing.assert_allclose(read[~near_edges], pattern()[~near_edges], atol=6)


def test_heic_is_read_or_asks_for_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # not installed
    path = tmp_path / "p.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 50)
    with pytest.raises(photos.PhotoError, match=r"p\.heic: .*pip install pillow-heif"):
        photos.read_image(path)
    monkeypatch.undo()
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(Image.fromarray(pattern())).save(path, quality=100)
    np.testing.assert_allclose(photos.read_image(path)[5:20, 5:20], pattern()[5:20, 5:20], atol=9)


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


@pytest.mark.parametrize("name", ["p.png", "p.tiff", "grey.png", "grey.tiff", "grey.pgm"])
def test_sixteen_bits_become_eight(tmp_path, name):
    deep = (pattern().astype(np.uint16) << 8) | 77
    expected = pattern()
    if name.startswith("grey"):
        deep, expected = deep[..., 0], expected[..., :1].repeat(3, -1)
    elif name == "p.png":
        deep = np.concatenate([deep[..., ::-1], np.full((60, 80, 1), 65535, np.uint16)], -1)
    else:
        deep = deep[..., ::-1]
    cv2.imwrite(str(tmp_path / name), deep)
    np.testing.assert_allclose(photos.read_image(tmp_path / name), expected, atol=1)


@pytest.mark.parametrize("suffix", KINDS)
def test_sizes_are_checked_before_decoding(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"photo{suffix}"
    Image.fromarray(pattern()).save(path)
    monkeypatch.setattr(photos, "MAX_PIXELS", 60 * 80 - 1)
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)  # calling it would fail
    with pytest.raises(photos.PhotoError, match=r"photo\..* claims 80 x 60 pixels; the limit is"):
        photos.read_image(path)


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


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (60, 80), (2, 3)])
def test_odd_shapes_and_the_largest_box_have_crops(size):
    image = np.full((*size, 3), 200, np.uint8)
    largest = (0, 0, *(photos.LARGEST_BOX * max(size),) * 2)
    for box in (None, largest):
        assert photos.photo_from_image(image, "p", box).crop().shape == (256, 256, 3)
