"""A webcam's hands, live: a page on this machine alone that shows the frames as they come."""

from __future__ import annotations

import http.server
import itertools
import threading
from collections.abc import Iterator

import cv2

from dir_jax.prediction.detection import HandDetector
from dir_jax.prediction.inputs import Source
from dir_jax.prediction.photos import PhotoError
from dir_jax.prediction.predictor import Clock, Predictor
from dir_jax.prediction.tracking import Tracker
from dir_jax.prediction.video import Canvas, Frame, Video, look

RATE = 10.0
"""Frames a second that the filters reckon with, about what two cores can do."""


def watch(number: int, predictor: Predictor, detector: HandDetector, smooth: float) -> None:
    """Shows a camera's hands until Ctrl-C, or until the camera ends.

    Args:
      number: of the camera, 0 for the first.
      predictor: of batch size 1.
      detector: finds the hands that are then tracked.
      smooth: strength of the filters.

    Raises:
      PhotoError: there is no such camera, or it gives no pictures.
    """
    capture = cv2.VideoCapture(number)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    if not capture.isOpened():
        raise PhotoError(f"camera {number} cannot be opened; --camera 0 is the first one there is")
    source, canvas = Source(f"camera {number}", "camera", True, 0), Canvas(["overlay", "side"])
    video = Video(RATE, 0, _frames(number, capture))
    tracker = Tracker(detector, RATE, smooth)
    with Screen() as screen:
        print(f"Live at {screen.address} (Ctrl-C ends)", flush=True)
        for seen in look(source, video, predictor, tracker, smooth, Clock()):
            screen.show(cv2.imencode(".jpg", canvas.draw(seen)[..., ::-1])[1].tobytes())


def _frames(number: int, capture: cv2.VideoCapture) -> Iterator[Frame]:
    try:
        for count in itertools.count():
            read, image = capture.read()
            if not read:
                break
            yield Frame(count, count / RATE, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    finally:
        capture.release()
    raise PhotoError(f"camera {number} gives no more pictures")


class Screen:
    """Serves the newest picture to browsers on this machine: a stream of JPEGs.

    Attributes:
      address: to open.
    """

    def __init__(self):
        self._news, self._picture, self._count = threading.Condition(), b"", 0
        screen = self

        class Page(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                if self.headers.get("Host") != screen.address.split("/")[2]:  # of a foreign page
                    self.send_error(403)
                    return
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                shown = 0
                try:
                    while True:
                        with screen._news:
                            screen._news.wait_for(lambda old=shown: screen._count > old)
                            picture, shown = screen._picture, screen._count
                        head = "--frame\r\nContent-Type: image/jpeg\r\nContent-Length: "
                        self.wfile.write(f"{head}{len(picture)}\r\n\r\n".encode() + picture)
                except OSError:
                    return  # the window was closed

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def show(self, picture: bytes) -> None:
        """Takes the next picture, a JPEG."""
        with self._news:
            self._picture, self._count = picture, self._count + 1
            self._news.notify_all()
