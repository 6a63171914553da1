"""The start page of the local server."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence

from dir_jax.pages.page import asset, element, join

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; frame-src 'self'; frame-ancestors 'self'; "
    "base-uri 'none'; form-action 'none'"
)
_ASSETS = pathlib.Path(__file__).parent / "assets"
_TITLE = "Two hands from one photograph"


def start_page(notes: Sequence[str], max_upload: int) -> str:
    """The page's text.

    Args:
      notes: plain lines for the foot.
      max_upload: bytes.
    """
    body = (_ASSETS / "serve.html").read_text(encoding="utf-8")
    foot = element("section", join(*(element("p", note, class_="note") for note in notes)))
    script = (_ASSETS / "serve.js").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'  # or browsers ask for one
        f"<title>{_TITLE}</title>\n<style>\n{asset('page.css')}\n"
        f"{(_ASSETS / 'serve.css').read_text(encoding='utf-8')}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{_TITLE}</h1>\n{body}{foot}</main>\n"
        f"<script>\nconst LIMITS = {json.dumps({'bytes': max_upload})};\n{script}</script>\n"
        "</body>\n</html>\n"
    )
