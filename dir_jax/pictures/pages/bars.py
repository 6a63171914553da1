"""Bars and histograms, in the page's own colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dir_jax.pictures.pages.elements import chart
from dir_jax.pictures.pages.page import Html


def bars_figure(
    bars: Mapping[str, Sequence[float | None]],
    labels: Sequence[str | float],
    title: str,
    *,
    x_label: str = "",
    y_label: str = "",
    notes: Sequence[str] | None = None,
    touching: bool = False,
) -> Html:
    """Bars side by side, one colour for each name.

    Args:
      bars: heights by name, as many as labels; None or NaN leaves one out.
      labels: below the bars: text, or the places of their middles.
      title: plain text above it.
      x_label: below it.
      y_label: beside it.
      notes: shown with each label when the pointer is on it.
      touching: no gaps, and drawn over each other: a histogram.

    Returns:
      Markup for `page.Section`.

    Raises:
      ValueError: no bars, or not as many as labels.
    """
    if not bars or any(len(heights) != len(labels) for heights in bars.values()):
        raise ValueError(f"no bars, or not {len(labels)} of each, for the figure {title!r}")
    content = {
        "bars": [{"name": name, "heights": _finite(heights)} for name, heights in bars.items()],
        "labels": [label if isinstance(label, str) else float(label) for label in labels],
        "notes": None if notes is None else list(notes),
        "xLabel": x_label,
        "yLabel": y_label,
        "touching": touching,
    }
    return chart("bars", title, content)


def _finite(heights: Sequence[float | None]) -> list[float | None]:
    return [None if h is None or not np.isfinite(h) else float(h) for h in heights]
