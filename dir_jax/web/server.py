"""The HTTP server of the local page.

It listens on 127.0.0.1 only, writes nothing to disk, and answers only requests that are addressed
to this machine by a loopback name: a web page elsewhere that makes its own name point here (DNS
rebinding) sends that name as Host and is refused, as is a request whose Origin is not this page.
"""

from __future__ import annotations

import json
import sys
import urllib.parse
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from dir_jax.boxes import Box
from dir_jax.photos import PhotoError
from dir_jax.prediction_result import NotFiniteError
from dir_jax.web.page import POLICY, start_page
from dir_jax.web.studio import BusyError, Studio

HOST = "127.0.0.1"
MAX_UPLOAD = 32 << 20
UPLOAD_TYPES = ("image/jpeg", "image/png")
TIMEOUT = 30.0
"""Seconds a client may stay silent in the middle of a request."""
_LOOPBACK = ("127.0.0.1", "localhost")


class RefusedError(Exception):
    """A request that is answered with a status and one line."""

    def __init__(self, status: HTTPStatus, line: str):
        super().__init__(line)
        self.status = status


class LocalServer(ThreadingHTTPServer):
    """Serves one studio on the loopback address.

    Args:
      port: to listen on; 0 takes a free one.
      studio: what reconstructs.
      notes: lines for the page's foot (which hands, which weights).

    Raises:
      OSError: the port is taken.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, studio: Studio, notes: tuple[str, ...] = ()):
        super().__init__((HOST, port), Handler)
        self.studio, self.start_page = studio, start_page(notes, MAX_UPLOAD).encode()

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_port}/"

    def handle_error(self, request, client_address) -> None:
        """Keeps quiet about browsers that hang up; tells about everything else."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers `/`, `/results/KEY` and uploads to `/reconstruct`."""

    server: LocalServer
    timeout = TIMEOUT
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "dir_jax", ""

    def do_GET(self) -> None:
        """The start page, or a result's page."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """An uploaded photo."""
        self._answer(self._post)

    def _answer(self, method) -> None:
        try:
            self._check_host()
            method()
        except RefusedError as refused:
            self.close_connection = True  # an unread upload may follow
            self._send_json(refused.status, {"error": str(refused)})

    def _get(self) -> None:
        path = urllib.parse.urlsplit(self.path).path
        page = None
        if path == "/":
            page = self.server.start_page
        elif path.startswith("/results/"):
            page = self.server.studio.page(path.removeprefix("/results/"))
        if page is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, "there is nothing here (any more)")
        self._send(HTTPStatus.OK, "text/html; charset=utf-8", page)

    def _post(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        self._check_origin()
        if url.path != "/reconstruct":
            raise RefusedError(HTTPStatus.NOT_FOUND, "there is nothing here")
        fields = urllib.parse.parse_qs(url.query)
        box = read_box(fields["box"][0]) if "box" in fields else None
        data = self._body()
        try:
            key = self.server.studio.reconstruct(data, fields.get("name", ["photo"])[0], box)
        except (PhotoError, NotFiniteError) as error:
            raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
        except BusyError as error:
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from None
        self._send_json(HTTPStatus.OK, {"result": f"/results/{key}"})

    def _check_host(self) -> None:
        names = {f"{name}:{self.server.server_port}" for name in _LOOPBACK}
        if self.headers.get_all("Host", []) not in [[name] for name in names]:
            raise RefusedError(HTTPStatus.FORBIDDEN, f"this page is at {self.server.url} only")

    def _check_origin(self) -> None:
        origin = self.headers.get("Origin")
        if origin is not None and origin != f"http://{self.headers['Host']}":
            raise RefusedError(HTTPStatus.FORBIDDEN, "photos are taken from this page only")

    def _body(self) -> bytes:
        if self.headers.get("Content-Type") not in UPLOAD_TYPES:
            wanted = " or ".join(UPLOAD_TYPES)
            raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"wanted {wanted}")
        text = self.headers.get("Content-Length", "")
        if not (text.isascii() and text.isdigit()) or "Transfer-Encoding" in self.headers:
            raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "the upload's length is missing")
        length = int(text[:12])
        if length > MAX_UPLOAD:
            raise RefusedError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the photo has more than {MAX_UPLOAD >> 20} MB; make it smaller",
            )
        data = self.rfile.read(length)
        if len(data) < length:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "the upload ended early")
        return data

    def _send_json(self, status: HTTPStatus, content: dict[str, str]) -> None:
        self._send(status, "application/json", json.dumps(content).encode())

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Content-Security-Policy": POLICY,
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Keeps the terminal quiet."""


def read_box(text: str) -> Box:
    """Four finite numbers "x,y,w,h".

    Raises:
      RefusedError: anything else.
    """
    try:
        x, y, width, height = (float(part) for part in text.split(","))
    except ValueError:
        raise RefusedError(
            HTTPStatus.BAD_REQUEST, "the box is not four numbers x,y,width,height"
        ) from None
    return x, y, width, height  # photo_from_image refuses what is empty, infinite or outside
