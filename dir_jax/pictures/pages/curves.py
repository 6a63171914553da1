"""Curves over steps, to be zoomed and read off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dir_jax.pictures.pages.elements import chart
from dir_jax.pictures.pages.page import Html, array_text


class Curve(NamedTuple):
    """One line of a figure.

    Attributes:
      name: for the legend.
      x: (N,) numbers.
      y: (N,) numbers; NaN and infinity leave a gap.
      faint: drawn thin behind the others, without an entry in the legend.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    faint: bool = False


def curves_figure(
    curves: Sequence[Curve],
    title: str,
    *,
    x_label: str = "step",
    y_label: str = "",
    logarithmic: bool = False,
    markers: bool = False,
    from_zero: bool = False,
) -> Html:
    """A figure of curves.

    Args:
      curves: at least one; a faint one has the colour of the next that is not.
      title: plain text above it.
      x_label: below it.
      y_label: beside it.
      logarithmic: whether the vertical axis is; what is not positive leaves a gap.
      markers: whether every point is marked (for few points).
      from_zero: whether the vertical axis begins at 0.

    Returns:
      Markup for `page.Section`.

    Raises:
      ValueError: no curves, or x and y of different length.
    """
    if not curves:
        raise ValueError(f"no curves for the figure {title!r}")
    content = {
        "curves": [_content(curve, logarithmic) for curve in curves],
        "xLabel": x_label,
        "yLabel": y_label,
        "logarithmic": logarithmic,
        "markers": markers,
        "fromZero": from_zero,
    }
    return chart("curves", title, content)


def _content(curve: Curve, logarithmic: bool) -> dict:
    x, y = (np.asarray(values, np.float64) for values in (curve.x, curve.y))
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"curve {curve.name!r}: x {x.shape}, y {y.shape}; wanted (N,) and (N,)")
    bad = ~np.isfinite(y) | ((y <= 0) & logarithmic)
    packed = {"x": _packed(x), "y": _packed(np.where(bad, np.nan, y))}
    return {"name": curve.name, "faint": curve.faint, **packed}


def _packed(values: np.ndarray) -> str:
    return array_text(np.asarray(values, "<f8"))


def smoothed(values: np.ndarray, window: int) -> np.ndarray:
    """Centred running mean over `window` values (fewer at the ends), ignoring NaN."""
    values = np.asarray(values, np.float64)
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    index = np.arange(len(values))
    low, high = np.maximum(index - window // 2, 0), np.minimum(index + window // 2 + 1, len(values))
    count = counts[high] - counts[low]
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, (sums[high] - sums[low]) / np.maximum(count, 1), np.nan)
