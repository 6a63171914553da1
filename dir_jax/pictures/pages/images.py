"""Pictures inside a page."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from dir_jax.pictures.pages.page import Html, element, join

JPEG_QUALITY = 88


def data_uri(picture: np.ndarray, kind: str = "jpeg", quality: int = JPEG_QUALITY) -> str:
    """A picture as the address of itself.

    Args:
      picture: (h, w, 3) uint8 RGB, or (h, w, 4) RGBA for "png".
      kind: "jpeg" for photographs, "png" for drawings and what is transparent.
      quality: of a JPEG, 1 to 100.

    Raises:
      ValueError: a picture of another shape or type.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] not in (3, 4):
        raise ValueError(
            f"a picture of shape {picture.shape}, {picture.dtype}; wanted (h, w, 3 or 4) uint8"
        )
    order = [2, 1, 0, 3][: picture.shape[2]]
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if kind == "jpeg" else []
    encoded, data = cv2.imencode(f".{kind}", np.ascontiguousarray(picture[..., order]), options)
    if not encoded:
        raise ValueError(f"a picture of shape {picture.shape} could not be encoded as {kind}")
    return uri_of_bytes(data.tobytes(), f"image/{kind}")


def uri_of_bytes(data: bytes, media_type: str) -> str:
    """The bytes of a file (a PNG, say) as an address."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def picture(uri: str, alt: str, caption: str = "") -> Html:
    """An image with a caption below it.

    Args:
      uri: from `data_uri` or `uri_of_bytes`.
      alt: what it shows, for those who cannot see it.
      caption: plain text.
    """
    below = [element("figcaption", caption)] if caption else []
    return element("figure", join(element("img", src=uri, alt=alt), *below), class_="picture")


def grid(*parts: Html, columns: int = 2) -> Html:
    """Parts side by side, fewer in a row on narrow screens."""
    return element("div", join(*parts), class_="grid", style=f"--columns: {columns}")
