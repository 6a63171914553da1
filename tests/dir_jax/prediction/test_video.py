import json

import cv2
import numpy as np
import pytest

import mano_jax
from dir_jax.prediction import video
from dir_jax.prediction.boxes import detected, given
from dir_jax.prediction.detection import SeenHand
from dir_jax.prediction.inputs import Source
from dir_jax.prediction.outputs import FORMATS
from dir_jax.prediction.photos import PhotoError
from dir_jax.prediction.video import open_video, open_writer, write_video
from tests.dir_jax.pictures.test_page import figures_of
from tests.dir_jax.prediction.known_hands import OFFSET, KnownPredictor

BOX = (30.0, 20.0, 80.0, 60.0)
VIEWS = tuple(FORMATS)


def frame(number, height=60, width=80):
    """Grey, with a white square that moves to the right."""
    image = np.full((height, width, 3), 90, np.uint8)
    image[20:40, 5 * number : 5 * number + 20] = 255
    image[:10, :, 0] = 255  # red stays red
    return image


def write(path, count, height=60, width=80, rate=12.5):
    with open_writer(path, rate) as add:
        for number in range(count):
            add(frame(number, height, width))
    return path


def write_avi(path, count):
    """A file whose pictures stand one after the other, to be cut or blanked."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (80, 60))
    for number in range(count):
        writer.write(frame(number))
    writer.release()
    return path


def test_frames_come_back_in_order(tmp_path):
    reader = open_video(write(tmp_path / "new" / "v.mp4", 8))
    frames = list(reader.frames)
    assert reader.rate == pytest.approx(12.5) and reader.claimed == 8
    assert [f.number for f in frames] == list(range(8))
    np.testing.assert_allclose([f.seconds for f in frames], np.arange(8) / 12.5, atol=1e-3)
    for found in frames:
        assert found.image.shape == (60, 80, 3)
        places = np.nonzero(found.image[30, :, 1] > 170)[0]
        assert abs(places.min() - 5 * found.number) <= 2
        np.testing.assert_allclose(found.image[3, 40], [255, 90, 90], atol=45)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["v.mp4"]


def test_videos_are_h264(tmp_path):
    path = write(tmp_path / "v.mp4", 4)
    assert b"avc1" in path.read_bytes() and len(list(open_video(path).frames)) == 4


def test_odd_sides_grow_by_a_pixel(tmp_path):
    video = open_video(write(tmp_path / "v.mp4", 2, 61, 79))
    assert next(video.frames).image.shape == (62, 80, 3)


def test_no_video_remains_when_writing_fails(tmp_path):
    with pytest.raises(RuntimeError), open_writer(tmp_path / "v.mp4", 25) as add:
        add(frame(0))
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_a_video_without_frames(tmp_path):
    """A file whose header is whole and whose pictures are gone."""
    path = write_avi(tmp_path / "v.avi", 4)
    data = bytearray(path.read_bytes())
    start, end = data.index(b"movi") + 4, data.index(b"idx1")
    data[start:end] = b"\0" * (end - start)
    path.write_bytes(data)
    with pytest.raises(PhotoError, match=r"without frames|not a video"):
        list(open_video(path).frames)


def cut_video(path):
    write_avi(path, 20)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def test_a_cut_video_gives_the_frames_it_has(tmp_path):
    assert 0 < len(list(open_video(cut_video(tmp_path / "v.avi")).frames)) < 15


def test_a_page_of_a_long_video_shows_every_nth_frame(hands, tmp_path, monkeypatch):
    monkeypatch.setattr(video, "PAGE_FRAMES", 3)
    source = movie(tmp_path / "clip.mp4", range(20, 160, 20))
    paths = write_video(source, tmp_path, KnownPredictor(hands), given([BOX]), kinds=VIEWS).paths
    text = paths[4].read_text()
    steps = figures_of(text)[0]["layout"]["sliders"][0]["steps"]
    assert [step["label"] for step in steps] == ["0.00 s", "0.40 s"] and "of 4 with" in text


@pytest.fixture(scope="module")
def hands():
    return mano_jax.open_hands()


def movie(path, greys):
    with open_writer(path, 10) as add:
        for grey in greys:
            add(np.full((100, 140, 3), grey, np.uint8))
    return Source(str(path), path.stem, True, 0)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_frames_and_lines_stay_in_order(hands, tmp_path):
    greys = [20, 40, 60, 80, 100, 120, 140]
    source = movie(tmp_path / "clip.mp4", greys)
    predictor = KnownPredictor(hands, 3)
    written = write_video(source, tmp_path, predictor, given([BOX]), kinds=["overlay"])
    paths = written.paths
    assert [p.name for p in paths] == [
        f"clip.hands.{ending}" for ending in ("mp4", "jsonl", "json", "npz")
    ]
    assert predictor.batches == [3, 3, 1] and (written.frames, written.with_hands) == (7, 7)
    frames = lines(paths[1])
    assert [frame["frame"] for frame in frames] == list(range(7))
    np.testing.assert_allclose([frame["seconds"] for frame in frames], np.arange(7) / 10, atol=1e-3)
    offsets = np.array([frame["offset"] for frame in frames])
    expected = 0.15 * (OFFSET + np.array(greys)[:, None] / 1000)
    np.testing.assert_allclose(offsets, expected, atol=1e-3)
    assert frames[0]["box"] == list(BOX) and frames[0]["box_from"] == "given"
    assert np.shape(frames[3]["left"]["joints_xyz"]) == (21, 3)
    about = json.loads(paths[2].read_text())
    assert (about["frames"], about["frames_with_hands"]) == (7, 7)
    assert about["frames_per_second"] == pytest.approx(10) and "metres" in about["units"]["offset"]
    drawn = list(open_video(paths[0]).frames)
    for frame, grey in zip(drawn, greys, strict=True):
        assert frame.image.shape == (100, 140, 3)
        assert abs(float(frame.image[-3, -3, 1]) - grey) < 12
        assert (np.abs(frame.image.astype(int) - grey).max(-1) > 40).mean() > 0.02


def test_views_stand_beside_the_photo(hands, tmp_path):
    source = movie(tmp_path / "clip.mp4", [90] * 2)
    paths = write_video(source, tmp_path, KnownPredictor(hands), given([BOX]), kinds=VIEWS).paths
    frame = next(open_video(paths[0]).frames).image
    assert frame.shape == (100, 190, 3)
    for view in (frame[:50, 140:], frame[50:, 140:]):
        assert (view.astype(int).min(-1) < 200).mean() > 0.02


def scripted(*script):
    """A detector that answers with the boxes of a script, one call after the other."""
    answers = iter(script)

    def look(image):
        return [SeenHand(box, None, 0.9, 1.0) for box in next(answers, [])]

    return detected(look)


def test_frames_without_hands_stay_without(hands, tmp_path):
    """Frame 0: none seen; 1 seen; 2 none; 3 an answer that is not finite."""
    source = movie(tmp_path / "clip.mp4", [60, 100, 60, 255])
    finder = scripted([], [BOX], [], [BOX])
    written = write_video(source, tmp_path, KnownPredictor(hands), finder, kinds=VIEWS)
    arrays = np.load(written.paths[3])
    assert arrays["seconds"].shape == (4,) and arrays["joints_xyz"].shape == (4, 2, 21, 3)
    for name in ("offset", "hand_pose", "presence", "crop"):
        known = np.isfinite(arrays[name]).reshape(4, -1)
        assert known[1].all() and not known[[0, 2, 3]].any()
    assert "Hand model: open hand" in str(arrays["about"])
    (figure,) = figures_of(written.paths[4].read_text())
    assert [frame["name"] for frame in figure["frames"]] == ["0"]  # the one with hands
    frames = lines(written.paths[1])
    assert [frame.get("why") for frame in frames] == [
        *("no hands found", None, "no hands found", "the network's answer is not finite")
    ]
    assert [frame.get("box_from") for frame in frames] == [None, "detected", None, None]
    assert written.with_hands == json.loads(written.paths[2].read_text())["frames_with_hands"] == 1
    drawn = [frame.image.astype(int) for frame in open_video(written.paths[0]).frames]
    changed = [(np.abs(image[:, :140] - image[-3, 3]).max(-1) > 40).mean() for image in drawn]
    assert max(changed[0], changed[2], changed[3]) < 0.01 < 0.02 < changed[1]


@pytest.mark.parametrize(
    ("finder", "message"),
    [
        (scripted(), r"No hands found in .*clip\.mp4: no hands found in all of its frames"),
        (given([(500, 500, 9, 9)]), "outside the photo, which is 140 x 100"),
    ],
)
def test_useless_videos_leave_nothing(hands, tmp_path, finder, message):
    source = movie(tmp_path / "clip.mp4", [50] * 3)
    with pytest.raises(PhotoError, match=message):
        write_video(source, tmp_path / "out", KnownPredictor(hands), finder, kinds=VIEWS)
    assert not list((tmp_path / "out").iterdir())


def test_a_cut_video_is_written_and_named(hands, tmp_path):
    source = Source(str(cut_video(tmp_path / "v.avi")), "v", True, 0)
    with pytest.raises(PhotoError, match=r"only \d+ of 20 frames could be read; these are in"):
        write_video(source, tmp_path, KnownPredictor(hands), given([BOX]), kinds=["json"])
    assert 0 < len(lines(tmp_path / "v.hands.jsonl")) < 15
