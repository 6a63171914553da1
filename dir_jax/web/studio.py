"""From an uploaded photo to the page of its result; no network code here."""

from __future__ import annotations

import collections
import pathlib
import secrets
import threading

import numpy as np

from dir_jax.box_finding import Finder
from dir_jax.boxes import Box
from dir_jax.pages.viewer import viewer_html
from dir_jax.photos import KNOWN_BY_HEADER, PhotoError, photo_from_image
from dir_jax.prediction import Predictor
from dir_jax.prediction_inputs import Source
from dir_jax.prediction_result import result_of
from input_pipeline.image_files import decode_photo
from input_pipeline.troubles import FrameTrouble

KEPT = 16
"""Results that can still be opened; older ones are forgotten."""
WAITING = 4
"""Photos that may wait for the network; more are sent away."""


class BusyError(RuntimeError):
    """Too many photos are waiting already."""


class Studio:
    """Reconstructs uploaded photos, one at a time, and keeps the last results in memory.

    Args:
      predictor: the network.
      finder: looks for the hands where no box is given.
    """

    def __init__(self, predictor: Predictor, finder: Finder):
        self._predictor, self._finder = predictor, finder
        self._results: collections.OrderedDict[str, bytes] = collections.OrderedDict()
        self._network, self._waiting = threading.Lock(), threading.Semaphore(WAITING)

    def reconstruct(self, data: bytes, name: str, box: Box | None) -> str:
        """Makes the page of a photo.

        Args:
          data: bytes of a JPEG or PNG file.
          name: what the photo is called on the page.
          box: x, y, width, height around both hands, pixels of the upright photo; None: what the
            finder says.

        Returns:
          The result's key.

        Raises:
          PhotoError: no photo that can be read, or a box outside it; one plain line.
          NotFiniteError: the network's answer is no number.
          BusyError: others are waiting already.
        """
        name = clean_name(name)
        if not self._waiting.acquire(blocking=False):
            raise BusyError("other photos are waiting; try again in a moment")
        try:
            with self._network:  # decoding too: memory for one photo at a time
                return self._keep(self._page(decode_upload(data, name), name, box))
        finally:
            self._waiting.release()

    def page(self, key: str) -> bytes | None:
        """The page of a result that is still kept."""
        return self._results.get(key)

    def _page(self, image: np.ndarray, name: str, box: Box | None) -> bytes:
        origin = "given"
        if box is None:
            found = self._finder(Source(name, "photo", False, 0), image)
            box, origin = found.box, found.origin
        photo = photo_from_image(image, name, box)
        reconstruction = next(iter(self._predictor.photos([photo])))
        result = result_of("photo", reconstruction, self._predictor.loaded, origin)
        return viewer_html(result).encode()

    def _keep(self, page: bytes) -> str:
        key = secrets.token_urlsafe(16)
        self._results[key] = page
        while len(self._results) > KEPT:
            self._results.popitem(last=False)
        return key


def decode_upload(data: bytes, name: str) -> np.ndarray:
    """Pixels (h, w, 3) uint8 RGB of an uploaded JPEG or PNG.

    The first bytes must be theirs and the size in the header within bounds before anything is
    decoded.

    Raises:
      PhotoError: anything else.
    """
    if not data.startswith(KNOWN_BY_HEADER):
        raise PhotoError(f"{name} is neither a JPEG nor a PNG photo")
    try:
        return decode_photo(data, name)
    except FrameTrouble as trouble:
        message = str(trouble)
        raise PhotoError(message if name in message else f"{name}: {message}") from None


def clean_name(name: str) -> str:
    """A file's name for showing: no folders, nothing unprintable, not long."""
    last = pathlib.PurePosixPath(name.replace("\\", "/")).name
    return "".join(letter for letter in last if letter.isprintable())[:120] or "photo"
