"""The comparison as Markdown, in the form of the paper's tables, and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dir_jax.evaluation.published import ABLATION_TABLES, ABLATIONS, Ablation
from tools.ablations.comparison import (
    METRICS,
    VERDICTS,
    Ordering,
    Values,
    mean_and_spread,
    orderings,
)

_NONE = "-"


def markdown(
    values: Mapping[str, Values], about: Mapping[str, str], missing: Sequence[str] = ()
) -> str:
    """All tables and orderings.

    Args:
      values: errors by recipe, seed and metric.
      about: what was trained on what, by a word each.
      missing: runs without a result, named.

    Returns:
      Markdown that reads well in a terminal too.
    """
    parts = ["# Ablations", "\n".join(f"* {name}: {text}" for name, text in about.items())]
    if missing:
        parts.append(f"**{len(missing)} runs are missing:** {', '.join(missing)}.")
    found = orderings(values)
    for table, title in ABLATION_TABLES.items():
        rows = [row for row in ABLATIONS if row.table == table and values.get(row.recipe)]
        if rows:
            parts += [f"## {title}", _table(rows, values), _sources(rows)]
            parts += _orderings([ordering for ordering in found if ordering.table == table])
    known = {row.recipe for row in ABLATIONS}
    others = [Ablation("", name, name, {}) for name in values if name not in known and values[name]]
    if others:
        parts += ["## Other recipes", _table(others, values)]
    if found:
        words = "\n".join(f"* **{name}**: {text}" for name, text in VERDICTS.items())
        parts.append(
            "Every pair of rows with different published figures is one ordering; the gap is "
            "worse minus better, with the half width of its 95 % interval over the seeds "
            f"(Welch).\n\n{words}"
        )
    return "\n\n".join(part for part in parts if part) + "\n"


def _cell(mean: float | None, spread: float | None) -> str:
    if mean is None:
        return _NONE
    return f"{mean:.2f}" + ("" if spread is None else f" ± {spread:.2f}")


def _table(rows: Sequence[Ablation], values: Mapping[str, Values]) -> str:
    metrics = [metric for metric in METRICS if any(metric in row.values for row in rows)]
    metrics = metrics or list(METRICS)
    published = any(row.values for row in rows)
    header = ["", "seeds"]
    for metric in metrics:
        header += [METRICS[metric], *(["published [a]"] if published else [])]
    lines = [header]
    for row in rows:
        cells = [row.label, str(len(values[row.recipe]))]
        for metric in metrics:
            cells.append(_cell(*mean_and_spread(values[row.recipe], metric)))
            if published:
                cells.append(f"{row.values[metric]:.2f}" if metric in row.values else _NONE)
        lines.append(cells)
    return _grid(lines)


def _grid(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with its columns in line; all but the first hold numbers."""
    widths = [max(3, *(len(row[i]) for row in rows)) for i in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        return f"| {' | '.join(cells)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(rows[0]), line(rule), *(line(row) for row in rows[1:])])


def _sources(rows: Sequence[Ablation]) -> str:
    return f"[a] {rows[0].source}; InterHand2.6M test, the full network."


def _orderings(found: Sequence[Ordering]) -> list[str]:
    if not found:
        return []
    counts = []
    for metric, title in METRICS.items():
        chosen = [ordering for ordering in found if ordering.metric == metric]
        if chosen:
            tally = Counter(ordering.verdict for ordering in chosen)
            text = ", ".join(f"{tally[name]} {name}" for name in VERDICTS)
            counts.append(f"* {title}: of {len(chosen)} orderings {text}")
    rows = [["better", "than", "published gap", "gap here", "seeds agreeing", "verdict"]]
    for ordering in found:
        if ordering.metric == "mpjpe_mm":
            gap = f"{ordering.gap:+.2f}"
            if ordering.interval is not None:
                gap += f" ± {ordering.interval:.2f}"
            rows.append(
                [ordering.better, ordering.worse, f"{ordering.published_gap:.2f}", gap,
                 f"{ordering.agreeing} of {ordering.seeds}", ordering.verdict]
            )  # fmt: skip
    return ["Orderings of the paper, by MPJPE:", _grid(rows), "\n".join(counts)]


def as_json(
    values: Mapping[str, Values],
    about: Mapping[str, str],
    missing: Sequence[str] = (),
) -> dict[str, Any]:
    """The same for programs: every run's errors, means, spreads, published figures, orderings."""
    published = {row.recipe: row for row in reversed(ABLATIONS)}
    recipes: dict[str, Any] = {}
    for name, by_seed in values.items():
        entry: dict[str, Any] = {"seeds": {str(seed): dict(v) for seed, v in by_seed.items()}}
        for metric in METRICS:
            mean, spread = mean_and_spread(by_seed, metric)
            entry[metric] = {"mean": mean, "standard_deviation": spread}
        if name in published:
            row = published[name]
            entry["published"] = {**row.values, "source": row.source}
        recipes[name] = entry
    return {
        "about": dict(about),
        "missing": list(missing),
        "recipes": recipes,
        "orderings": [ordering._asdict() for ordering in orderings(values)],
    }
