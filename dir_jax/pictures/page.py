"""One HTML file that holds all it shows: opened from disk, without a server or a network.

    write_page("look.html", "Two hands", "plain text", table(["hand", "mm"], rows), chart(figure))

Plain strings are escaped; only `Html`, which the functions here return, is taken as markup. Figures
are plotly's (`plotly.graph_objects`), drawn by plotly.js, which is packed into the file once. A
content security policy forbids every request, and no data becomes part of a script.
"""

from __future__ import annotations

import base64
import functools
import gzip
import html
import os
import pathlib
import string
from collections.abc import Sequence

import cv2
import numpy as np

from input_pipeline.files import write_bytes

JPEG_QUALITY = 88
_TEMPLATE = pathlib.Path(__file__).with_name("page.html")


class Html(str):
    """Markup made by this module; any other string is escaped."""

    __slots__ = ()


def escape(text: object) -> Html:
    """Plain text as markup, safe between tags and within quoted attributes."""
    return text if isinstance(text, Html) else Html(html.escape(str(text), quote=True))


def element(tag: str, *content: str, **attributes: object) -> Html:
    """A tag around its content, which is escaped unless it is `Html`.

    Args:
      tag: its name.
      *content: what is between, one after the other.
      **attributes: escaped; a trailing `_` is dropped (`class_`); True writes the bare name, None
        and False leave it out.
    """
    written = ""
    for name, value in attributes.items():
        if value is True:
            written += f" {name.rstrip('_')}"
        elif value is not None and value is not False:
            written += f' {name.rstrip("_")}="{html.escape(str(value), quote=True)}"'
    end = "" if tag == "img" else f"{''.join(map(escape, content))}</{tag}>"
    return Html(f"<{tag}{written}>{end}")


def section(heading: str, *parts: str) -> Html:
    """A heading and what stands below it; plain text becomes a paragraph."""
    return element("section", element("h2", heading), *map(_block, parts))


def _block(part: str) -> Html:
    return part if isinstance(part, Html) else element("p", part)


def note(text: str) -> Html:
    """A remark in smaller type."""
    return element("p", text, class_="note")


def grid(*parts: Html) -> Html:
    """Small parts side by side, fewer in a row on narrow screens."""
    return element("div", *parts, class_="grid")


def folded(summary: str, *parts: str, shown: bool = False, one_of: str | None = None) -> Html:
    """Parts below a line that shows and hides them.

    Args:
      summary: the line.
      *parts: as of `section`.
      shown: whether they are shown at first.
      one_of: a name that several share of which one at a time is shown.
    """
    return element(
        "details", element("summary", summary), *map(_block, parts), open=shown, name=one_of
    )


def table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> Html:
    """A table, the first column aligned left and the others, numbers, right."""
    head = element("tr", *(element("th", str(name)) for name in header))
    body = [element("tr", *(element("td", str(cell)) for cell in row)) for row in rows]
    whole = element("table", element("thead", head), element("tbody", *body))
    return element("div", whole, class_="scroll")


def data_uri(picture: np.ndarray) -> str:
    """A picture (h, w, 3) uint8 RGB as the address of itself, a JPEG.

    Raises:
      ValueError: a picture of another shape or type.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"a picture {picture.shape} {picture.dtype}; wanted (h, w, 3) uint8")
    bgr = np.ascontiguousarray(picture[..., ::-1])
    encoded, data = cv2.imencode(".jpeg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not encoded:
        raise ValueError(f"a picture of shape {picture.shape} could not be encoded")
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def image(picture: np.ndarray, caption: str) -> Html:
    """A picture (h, w, 3) uint8 above its caption."""
    shown = element("img", src=data_uri(picture), alt=caption)
    return element("figure", shown, element("figcaption", caption))


def chart(figure) -> Html:
    """A `plotly.graph_objects.Figure`, which must have a height, as a part of a page."""
    text = figure.to_json()
    # Inside a script element only these could end it; escaped, they are the same JSON.
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    canvas = element("div", class_="chart", style=f"height: {figure.layout.height}px")
    return Html(f'{canvas}<script type="application/json">{text}</script>')


def page_html(title: str, *parts: str) -> str:
    """The text of a page (see `write_page`)."""
    body = "\n".join([element("h1", title), *map(_block, parts)])
    template = string.Template(_TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(title=escape(title), body=body, library=_packed_library())


def write_page(path: str | os.PathLike, title: str, *parts: str) -> None:
    """Writes one self-contained HTML file, whole or not at all.

    Args:
      path: final name.
      title: of the window and the page, plain text.
      *parts: `Html`, or plain text that becomes a paragraph each.

    Raises:
      OSError: the file cannot be written.
      ImportError: plotly is not installed.
    """
    write_bytes(path, page_html(title, *parts).encode())


@functools.cache
def _packed_library() -> str:
    from plotly.offline import get_plotlyjs  # here: programs that write no page do without it

    # Packed: 1.9 MB a page instead of 4.8.
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()
