import json

import numpy as np
import pytest

import mano_jax
from dir_jax.prediction.box_finding import detected, given
from dir_jax.prediction.inputs import Source
from dir_jax.prediction.outputs import KINDS
from dir_jax.prediction.photos import PhotoError
from dir_jax.prediction.run import Clock, Run
from dir_jax.prediction.video import write_video
from dir_jax.prediction.video_files import VideoReader, open_writer
from tests.dir_jax.prediction_fixtures import KnownPredictor

BOX = (30.0, 20.0, 80.0, 60.0)


@pytest.fixture(scope="module")
def hands():
    return mano_jax.open_hands()


def movie(path, greys):
    with open_writer(path, 10) as video:
        for grey in greys:
            video.add(np.full((100, 140, 3), grey, np.uint8))
    return Source(str(path), path.stem, True, 0)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_frames_and_lines_stay_in_order(hands, tmp_path):
    greys = [20, 40, 60, 80, 100, 120, 140]
    source = movie(tmp_path / "clip.mp4", greys)
    run = Run(KnownPredictor(hands, 3), given([BOX]), [], Clock())
    paths = write_video(run, source, tmp_path / "out", ["overlay", "json"])
    assert [p.name for p in paths] == ["clip.mp4", "clip.jsonl", "clip.json"]
    assert run.predictor.batches == [3, 3, 1] and (run.done, run.frames) == (1, 7)
    frames = lines(paths[1])
    assert [frame["frame"] for frame in frames] == list(range(7))
    np.testing.assert_allclose([frame["seconds"] for frame in frames], np.arange(7) / 10, atol=1e-3)
    offsets = np.array([frame["offset"] for frame in frames])
    expected = 0.15 * (np.array([[0.6, 0.2, -0.3]]) + np.array(greys)[:, None] / 1000)
    np.testing.assert_allclose(offsets, expected, atol=1e-3)
    assert frames[0]["box"] == list(BOX) and frames[0]["box_from"] == "given"
    assert np.shape(frames[3]["left"]["joints_xyz"]) == (21, 3)
    about = json.loads(paths[2].read_text())
    assert (about["frames"], about["frames_with_hands"]) == (7, 7)
    assert about["frames_per_second"] == pytest.approx(10) and "metres" in about["units"]["offset"]
    drawn = list(VideoReader(paths[0]))
    for frame, grey in zip(drawn, greys, strict=True):
        assert frame.image.shape == (100, 140, 3)
        assert abs(float(frame.image[-3, -3, 1]) - grey) < 12
        assert (np.abs(frame.image.astype(int) - grey).max(-1) > 40).mean() > 0.02


def test_views_stand_beside_the_photo(hands, tmp_path):
    source = movie(tmp_path / "clip.mp4", [90] * 2)
    run = Run(KnownPredictor(hands), given([BOX]), [], Clock())
    paths = write_video(run, source, tmp_path / "out", KINDS)
    frame = next(iter(VideoReader(paths[0]))).image
    assert frame.shape == (100, 190, 3)
    for view in (frame[:50, 140:], frame[50:, 140:]):
        assert (view.astype(int).min(-1) < 200).mean() > 0.02


def test_frames_without_hands_stay_as_they_are(hands, tmp_path):
    """Frame 0: none seen yet; 1 seen; 2 lost, its box is kept; 3 an answer that is not finite."""
    source = movie(tmp_path / "clip.mp4", [60, 100, 60, 255])
    seen = iter([[], [BOX], [], [BOX]])
    run = Run(KnownPredictor(hands), detected(lambda image: next(seen)), [], Clock())
    paths = write_video(run, source, tmp_path / "out", KINDS)
    frames = lines(paths[1])
    assert [frame.get("why") for frame in frames] == [
        *("no hand found", None, None, "the network's answer is not finite")
    ]
    assert [frame.get("box_from") for frame in frames] == [None, "detected", "tracked", None]
    assert json.loads(paths[2].read_text())["frames_with_hands"] == 2
    drawn = [frame.image.astype(int) for frame in VideoReader(paths[0])]
    changed = [(np.abs(image[:, :140] - image[-3, 3]).max(-1) > 40).mean() for image in drawn]
    assert changed[0] < 0.01 < 0.02 < changed[1]
    assert changed[3] < 0.01 < 0.02 < changed[2]


@pytest.mark.parametrize(
    ("finder", "message"),
    [
        (detected(lambda image: []), "no hand found in any of its 3 frames"),
        (given([(500, 500, 9, 9)]), "outside the photo, which is 140 x 100"),
    ],
)
def test_useless_videos_leave_nothing(hands, tmp_path, finder, message):
    source = movie(tmp_path / "clip.mp4", [50] * 3)
    run = Run(KnownPredictor(hands), finder, [], Clock())
    with pytest.raises(PhotoError, match=message):
        write_video(run, source, tmp_path / "out", KINDS)
    assert not list((tmp_path / "out").iterdir())
