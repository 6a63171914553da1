"""Tables, charts and other plain parts of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dir_jax.pictures.pages.page import Html, element, join, json_script


def table(
    header: Sequence[object], rows: Sequence[Sequence[object]], *, numbers: bool = False
) -> Html:
    """A table; everything is escaped, numbers (int, float, or text that is one) align right.

    Args:
      header: names of the columns.
      rows: as many cells each.
      numbers: whether all columns but the first hold numbers, also where a cell is "-" or a range.
    """
    head = element("tr", join(*(element("th", str(name)) for name in header)))
    body = [element("tr", join(*(_cell(value) for value in row))) for row in rows]
    inside = join(element("thead", head), element("tbody", join(*body)))
    whole = element("table", inside, class_="numeric" if numbers else None)
    return element("div", whole, class_="scroll")


def _cell(value: object) -> Html:
    text = value if isinstance(value, str) else f"{value:.4g}" if _is_float(value) else str(value)
    return element("td", text, class_="number" if _is_number(text) else None)


def _is_float(value: object) -> bool:
    return isinstance(value, float)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def note(text: str) -> Html:
    """A remark in smaller type."""
    return element("p", text, class_="note")


def chart(kind: str, title: str, content: Mapping[str, Any]) -> Html:
    """A figure below its title.

    Args:
      kind: of `Figures.kinds` in the scripts.
      title: plain text.
      content: data for the script.
    """
    heading = element("figcaption", title, class_="title")
    canvas = element("div", class_="canvas", role="img", aria_label=title)
    inside = join(heading, canvas, json_script(content))
    return element("figure", inside, data_figure=kind, class_="curves")
