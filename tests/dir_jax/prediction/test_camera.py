import urllib.error
import urllib.request

import cv2
import numpy as np
import pytest

import mano_jax
from dir_jax.prediction import camera, command
from dir_jax.prediction.detection import SeenHand
from tests.dir_jax.prediction.known_hands import KnownPredictor


def test_without_a_camera_there_is_one_plain_line(capsys, monkeypatch):
    def load(arguments):
        return KnownPredictor(mano_jax.open_hands()).loaded

    monkeypatch.setattr(command, "load_named_model", load)
    monkeypatch.setattr(command, "Predictor", lambda *_, **__: None)
    assert command.main(["--camera", "99"]) == 2
    assert capsys.readouterr().err.startswith("error: camera 99 cannot be opened; ")


class Webcam:
    """A few frames, each brighter than the one before."""

    def __init__(self, number):
        self.count = 0

    def isOpened(self):
        return True

    def set(self, *_):
        pass

    def release(self):
        pass

    def read(self):
        self.count += 1
        return self.count < 5, np.full((60, 80, 3), 20 * self.count, np.uint8)


class Detector:
    def hands(self, image, thorough=True):
        return [SeenHand((20.0, 10.0, 40.0, 40.0), None, 0.9, 1.0)] if image.mean() > 30 else []

    def sighting(self, image, points):
        return SeenHand((0.0, 0.0, 1.0, 1.0), points, 0.9, 0.5)


def test_a_camera_is_shown_frame_by_frame_until_it_ends(monkeypatch):
    shown = []
    monkeypatch.setattr(cv2, "VideoCapture", Webcam)
    monkeypatch.setattr(camera.Screen, "show", lambda screen, jpeg: shown.append(jpeg))
    with pytest.raises(ValueError, match="camera 0 gives no more pictures"):
        camera.watch(0, KnownPredictor(mano_jax.open_hands(), 1), Detector(), 0.0)
    pictures = [cv2.imdecode(np.frombuffer(jpeg, np.uint8), 1).astype(int) for jpeg in shown]
    drawn = [(np.abs(p[:, :80] - p[0, 0]).max(-1) > 40).mean() > 0.01 for p in pictures]
    assert drawn == [False, False, True, True]  # every other frame is searched


def test_the_screen_streams_to_this_machine_only():
    with camera.Screen() as screen:
        foreign = urllib.request.Request(screen.address, headers={"Host": "elsewhere.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(foreign)
        screen.show(b"first")
        with urllib.request.urlopen(screen.address, timeout=20) as stream:
            head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 5\r\n\r\n"
            assert stream.read(len(head) + 5) == head + b"first"
            screen.show(b"later")
            assert stream.read(len(head) + 5) == head + b"later"
