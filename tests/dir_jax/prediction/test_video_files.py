import cv2
import numpy as np
import pytest

from dir_jax.prediction.photos import PhotoError
from dir_jax.prediction.video_files import VideoReader, open_writer


def frame(number, height=60, width=80):
    """Grey, with a white square that moves to the right."""
    image = np.full((height, width, 3), 90, np.uint8)
    image[20:40, 5 * number : 5 * number + 20] = 255
    image[:10, :, 0] = 255  # red stays red
    return image


def write(path, count, height=60, width=80, rate=12.5):
    with open_writer(path, rate) as video:
        for number in range(count):
            video.add(frame(number, height, width))
    return path


def write_avi(path, count):
    """A file whose pictures stand one after the other, to be cut or blanked."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (80, 60))
    for number in range(count):
        writer.write(frame(number))
    writer.release()
    return path


def test_frames_come_back_in_order(tmp_path):
    reader = VideoReader(write(tmp_path / "new" / "v.mp4", 8))
    frames = list(reader)
    reader.close()
    assert reader.rate == pytest.approx(12.5) and reader.claimed == 8
    assert [f.number for f in frames] == list(range(8))
    np.testing.assert_allclose([f.seconds for f in frames], np.arange(8) / 12.5, atol=1e-3)
    for found in frames:
        assert found.image.shape == (60, 80, 3)
        places = np.nonzero(found.image[30, :, 1] > 170)[0]
        assert abs(places.min() - 5 * found.number) <= 2
        np.testing.assert_allclose(found.image[3, 40], [255, 90, 90], atol=45)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["v.mp4"]


def test_odd_sides_grow_by_a_pixel(tmp_path):
    reader = VideoReader(write(tmp_path / "v.mp4", 2, 61, 79))
    assert next(iter(reader)).image.shape == (62, 80, 3)


def test_no_video_remains_when_writing_fails(tmp_path):
    with pytest.raises(RuntimeError), open_writer(tmp_path / "v.mp4", 25) as video:
        video.add(frame(0))
        raise RuntimeError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"no video", b"\0\0\0\x20ftypisom" + b"\0" * 100])
def test_what_is_no_video_gets_one_line(tmp_path, content, capfd):
    path = tmp_path / "v.mp4"
    path.write_bytes(content)
    with pytest.raises(PhotoError, match="not a video that can be read"):
        VideoReader(path)
    assert capfd.readouterr().err == ""


def test_missing_videos_and_folders(tmp_path):
    for path in (tmp_path, tmp_path / "none.mp4", tmp_path / "image%03d.jpg"):
        with pytest.raises(PhotoError, match="missing or no regular file"):
            VideoReader(path)


def test_a_video_without_frames(tmp_path):
    """A file whose header is whole and whose pictures are gone."""
    path = write_avi(tmp_path / "v.avi", 4)
    data = bytearray(path.read_bytes())
    start, end = data.index(b"movi") + 4, data.index(b"idx1")
    data[start:end] = b"\0" * (end - start)
    path.write_bytes(data)
    with pytest.raises(PhotoError, match=r"without frames|not a video"):
        list(VideoReader(path))


def test_a_cut_video_gives_the_frames_it_has(tmp_path):
    path = write_avi(tmp_path / "v.avi", 20)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    frames = list(VideoReader(path))
    assert 0 < len(frames) < 15
