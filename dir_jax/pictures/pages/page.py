"""One HTML file that holds all it shows: opened from disk, without a server or a network.

    write_page("look.html", "Two hands", [Section("First", ["plain text", hands_figure(...)])])

Plain strings are escaped; only `Html`, which this package's helpers make, is taken as markup.
Figures are drawn by plotly.js (MIT licence) from the PyPI package `plotly`; it is packed into the
file once, and only when a figure is there. A content security policy forbids every request.
"""

from __future__ import annotations

import base64
import functools
import gzip
import html
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from input_pipeline.files import write_bytes

_ASSETS = pathlib.Path(__file__).parent / "assets"
_VOID = ("img",)
"""Tags without an end (of those that pages use)."""
_FIGURE_MARK = 'data-figure="'
_FIRST_SCRIPT = "figures.js"
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'"
)


class Html(str):
    """Markup made by this package's helpers; any other string is escaped."""

    __slots__ = ()


class Section(NamedTuple):
    """A part of a page.

    Attributes:
      heading: plain text; "" for none.
      parts: `Html`, or plain text that becomes a paragraph each.
    """

    heading: str
    parts: Sequence[str]


def escape(text: object) -> Html:
    """Plain text as markup, safe between tags and within quoted attributes."""
    return text if isinstance(text, Html) else Html(html.escape(str(text), quote=True))


def element(tag: str, content: str = "", /, **attributes: object) -> Html:
    """A tag around its content, which is escaped unless it is `Html`.

    Args:
      tag: its name.
      content: what is between.
      **attributes: escaped; `_` in a name becomes `-`, a trailing one is dropped (`class_`); True
        writes the bare name, None and False leave it out.
    """
    written = ""
    for name, value in attributes.items():
        name = name.rstrip("_").replace("_", "-")
        if value is True:
            written += f" {name}"
        elif value is not None and value is not False:
            written += f' {name}="{html.escape(str(value), quote=True)}"'
    end = "" if tag in _VOID else f"{escape(content)}</{tag}>"
    return Html(f"<{tag}{written}>{end}")


def join(*parts: str) -> Html:
    """Several pieces one after the other, plain text escaped."""
    return Html("".join(escape(part) for part in parts))


def json_script(content: Mapping[str, Any]) -> Html:
    """Data for a figure's script; no text in it can end the script element."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Html(f'<script type="application/json">{text}</script>')


def array_text(array: np.ndarray) -> str:
    """The bytes of an array in C order as base64, which `Figures.array` of the scripts reads."""
    return base64.b64encode(array.tobytes()).decode()


def page_html(title: str, sections: Sequence[Section], lead: str = "") -> str:
    """The text of a page (see `write_page`)."""
    body = [element("h1", title)]
    if lead:
        body.append(_paragraph(lead, class_="lead"))
    for section in sections:
        heading = [element("h2", section.heading)] if section.heading else []
        parts = [part if isinstance(part, Html) else _paragraph(part) for part in section.parts]
        body.append(element("section", join(*heading, *parts)))
    content = element("main", join(*body))
    scripts = _figure_scripts() if _FIGURE_MARK in content else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'  # or browsers ask a server for one
        f"<title>{escape(title)}</title>\n<style>\n{asset('page.css')}</style>\n</head>\n"
        f"<body>\n{content}\n{scripts}</body>\n</html>\n"
    )


def write_page(
    path: str | os.PathLike, title: str, sections: Sequence[Section], lead: str = ""
) -> None:
    """Writes one self-contained HTML file, whole or not at all.

    Args:
      path: final name.
      title: of the window and the page, plain text.
      sections: what the page shows.
      lead: a sentence below the title, plain text or `Html`.

    Raises:
      OSError: the file cannot be written.
      ImportError: a figure is there and plotly is not installed.
    """
    write_bytes(path, page_html(title, sections, lead).encode())


def _paragraph(text: str, **attributes: object) -> Html:
    return element("p", text, **attributes)


def asset(name: str) -> str:
    """One of the hand-written style sheets and scripts beside this module."""
    return (_ASSETS / name).read_text(encoding="utf-8")


def _figure_scripts() -> str:
    # Packed: 1.9 MB a page instead of 4.8.
    packed = f'<script type="text/plain" id="library">{_packed_library()}</script>\n'
    names = sorted(path.name for path in _ASSETS.glob("*.js"))
    names.sort(key=lambda name: name != _FIRST_SCRIPT)
    own = "".join(f"<script>\n{asset(name)}</script>\n" for name in names)
    return packed + own


@functools.cache
def _packed_library() -> str:
    from plotly.offline import get_plotlyjs  # here: pages without figures do without it

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()
