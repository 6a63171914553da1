"""evaluation.html: everything that was measured, on one page, with samples to look at."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dir_jax.evaluation.examples import GROUPS, Shown
from dir_jax.evaluation.metrics import METRICS, shown_in
from dir_jax.evaluation.protocols import MAIN_PROTOCOL, PROTOCOLS
from dir_jax.evaluation.scores import DIFFICULTIES, Evaluated
from dir_jax.evaluation.tables import (
    Results,
    cell,
    internet_rows,
    protocol_rows,
    table_columns,
)
from dir_jax.pictures.figures import HUES, THEME, StageView, hands_figure, stage_name
from dir_jax.pictures.page import (
    Html,
    chart,
    element,
    escape,
    folded,
    grid,
    image,
    note,
    section,
    table,
    write_page,
)
from mano_jax.constants import JOINT_NAMES, SIDES

HISTOGRAM_BINS = 40
HEIGHT = 340
"""Of a chart, pixels."""
MEAN_HAND = "mean hand"
MAIN_ERROR = f"{MAIN_PROTOCOL} {METRICS[0].heading}"
"""What samples, joints and groups are compared by."""


def write_report(path: str | os.PathLike, found: Mapping[str, Evaluated]) -> None:
    """Writes the page, whole or not at all.

    Args:
      path: of the HTML file.
      found: evaluations by the predictors' names.

    Raises:
      OSError: it cannot be written.
    """
    results = {name: evaluated.result for name, evaluated in found.items()}
    others = [name for name in PROTOCOLS if name != MAIN_PROTOCOL]
    shown = {name: samples for name, one in found.items() if (samples := one.shown())}
    parts = [
        _lead(results),
        _protocol_table(results, MAIN_PROTOCOL),
        section("PCK: share of joints within a given error", chart(_pck(results))),
        section("Errors of the samples", *_histogram(found)),
        section("Errors of the joints", chart(_by_joint(results))),
        *_by_stage(results),
        *_groups(results),
        *_samples(shown),
        *(_protocol_table(results, name) for name in others),
        *_internet(results),
    ]
    write_page(path, "Evaluation", *parts)


def _lead(results: Results) -> str:
    parts = []
    for name, result in results.items():
        split = f" of the split {result['split']}" if result.get("split") else ""
        parts.append(f"{name}: {result['samples']} samples{split}")
    hands = {str(result.get("hands")) for result in results.values()}
    return f"{'; '.join(parts)}. Hands: {', '.join(sorted(hands))}."


def _text(value: float | None) -> str:
    return "-" if value is None or not np.isfinite(value) else f"{value:.2f}"


def _label(results: Results, name: str, what: str) -> str:
    """What a line or bar shows, and of whom when there are several."""
    return what if len(results) == 1 else f"{name}, {what}"


def _protocol_table(results: Results, protocol: str) -> Html:
    rows, sources = protocol_rows(results, protocol)
    sources = map(note, sources)
    names, body = list(results), []
    for row in rows[1:]:
        body.append(row)
        if names and row[0] == names[0]:
            body += _interval(results[names.pop(0)], protocol)
    return section(
        protocol, note(f"{PROTOCOLS[protocol].meaning}."), table(["", *rows[0][1:]], body), *sources
    )


def _interval(result: Mapping[str, Any], protocol: str) -> list[list[str]]:
    """The bootstrap's 95 % intervals as a row of the table."""
    limits = result.get("confidence_95") or {}
    limits = {**limits, **(limits.get(protocol) or {})}
    found = [limits.get(key) for key in table_columns().values()]
    cells = ["" if one is None else f"{one[0]:.2f} to {one[1]:.2f}" for one in found]
    return [["95 % interval", *cells, ""]] if any(cells) else []


def _internet(results: Results) -> list[Html]:
    rows = internet_rows(results)
    text = "InterNet's protocol: annotated joints that are valid, relative to the wrist."
    shown = table(["", *rows[0][1:]], rows[1:])
    return [section("internet", note(text), shown)] if len(rows) > 1 else []


def _pck(results: Results) -> go.Figure:
    """A panel for every protocol, in each a curve for every predictor and for the mean hand."""
    curves = dict(results)
    for name, result in results.items():
        if (mean := result.get("baseline_mean_hand")) and "pck" in mean:
            curves[_label(results, name, MEAN_HAND)] = mean
    panels = {"cols": len(PROTOCOLS), "subplot_titles": list(PROTOCOLS), "shared_yaxes": True}
    figure = make_subplots(**panels, horizontal_spacing=0.02)
    for column, protocol in enumerate(PROTOCOLS, 1):
        for hue, (name, result) in zip(itertools.cycle(HUES), curves.items(), strict=False):
            curve = go.Scatter(
                x=result["pck"]["thresholds_mm"],
                y=result["pck"][protocol],
                name=escape(name),
                legendgroup=escape(name),
                showlegend=column == 1,
                line={"color": hue, "dash": "solid" if name in results else "dash"},
            )
            figure.add_trace(curve, 1, column)
    figure.update_xaxes(title_text="error, mm", range=[0, 50])
    figure.update_yaxes(range=[0, 1])
    figure.update_yaxes(title_text="share of joints", col=1)
    return figure.update_layout(template=THEME, height=HEIGHT)


def _bars(heights: Mapping[str, Sequence], labels: Sequence, x: str, y: str, **more) -> go.Figure:
    """Bars side by side, one colour for each name."""
    named = {escape(name): values for name, values in heights.items()}  # plotly reads markup too
    bars = [go.Bar(name=name, x=labels, y=values, **more) for name, values in named.items()]
    layout = {"template": THEME, "height": HEIGHT, "margin": {"t": 20}}
    axes = {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}}
    return go.Figure(bars, layout | axes | {"showlegend": len(bars) > 1})


def _histogram(found: Mapping[str, Evaluated]) -> list[str]:
    key = METRICS[0].key()
    errors = {name: evaluated.scores.listed()[key] for name, evaluated in found.items()}
    errors = {name: values[np.isfinite(values)] for name, values in errors.items()}
    known = np.concatenate(list(errors.values()))
    if not len(known):
        return ["No errors were measured."]
    # A few samples that are far off must not squeeze the others into one bar.
    highest = max(float(np.percentile(known, 99.5)) * 1.05, 1e-3)
    edges = np.linspace(0.0, highest, HISTOGRAM_BINS + 1)
    counts = {
        name: np.histogram(np.minimum(values, np.nextafter(highest, 0.0)), edges)[0]
        for name, values in errors.items()
    }
    middles = ((edges[1:] + edges[:-1]) / 2).round(3)
    figure = _bars(counts, middles, f"{MAIN_ERROR} of a sample", "samples", opacity=0.7)
    figure.update_layout(barmode="overlay", bargap=0)
    return [chart(figure), note("The last bar holds all samples beyond it.")]


def _by_joint(results: Results) -> go.Figure:
    heights = {
        _label(results, name, f"{side} hand"): result["by_joint_mm"][MAIN_PROTOCOL][side]
        for name, result in results.items()
        for side in SIDES
    }
    return _bars(heights, JOINT_NAMES, "", MAIN_ERROR)


def _by_stage(results: Results) -> list[Html]:
    """What each refinement brought; only models have stages."""
    metrics = [metric for metric in shown_in("detail") if metric.aligned]
    rows = [
        [_label(results, name, stage_name(n)), *(cell(values.get(m.key())) for m in metrics)]
        for name, result in results.items()
        for n, values in enumerate(result.get("by_stage") or [])
    ]
    header = [MAIN_PROTOCOL, *(metric.heading for metric in metrics)]
    return [section("Stage by stage", table(header, rows))] if rows else []


def _groups(results: Results) -> list[Html]:
    """Errors of samples grouped by what makes them hard."""
    charts = []
    for column, (title, _) in DIFFICULTIES.items():
        found = {name: result.get(f"by_{column}") or [] for name, result in results.items()}
        known = {name: groups for name, groups in found.items() if any(map(_size, groups))}
        if known:
            first = next(iter(known.values()))
            labels = [f"{_limits(group)}<br>{_size(group)} samples" for group in first]
            key = METRICS[0].key()
            heights = {name: [group[key] for group in groups] for name, groups in known.items()}
            charts.append(chart(_bars(heights, labels, title, MAIN_ERROR)))
    return [section("Where it fails", *charts)] if charts else []


def _size(group: Mapping[str, Any]) -> int:
    return group["samples"]


def _limits(group: Mapping[str, Any]) -> str:
    upper = "and more" if group["to"] is None else f"to {group['to']:g}"
    return f"{group['from']:g} {upper}"


def _samples(shown: Mapping[str, Sequence[Shown]]) -> Iterator[Html]:
    """Every sample folded below its name, the best one open."""
    for name, samples in shown.items():
        parts = [note("Drag to turn the hands; the slider goes from stage to stage.")]
        for group in GROUPS:
            parts.append(element("h3", group))
            for one in (sample for sample in samples if sample.group == group):
                numbers = ", ".join(f"{key} {_text(value)}" for key, value in one.numbers.items())
                first = one is samples[0]
                summary = f"{one.name}: {numbers}"
                parts.append(folded(summary, *_sample(one), shown=first, one_of=f"of {name}"))
        yield section("Samples" if len(shown) == 1 else f"Samples: {name}", *parts)


def _sample(one: Shown) -> list[str]:
    example = one.example
    labels = ["prediction"] * len(example.stages_xyz)
    if len(one.stage_errors):
        errors = enumerate(one.stage_errors)
        labels = [f"{stage_name(n)}: {_text(error)} mm" for n, error in errors]
    drawn = example.truth_px is not None
    stages = [
        StageView(label, mesh, example.prediction(n) if drawn else None)
        for n, (label, mesh) in enumerate(zip(labels, example.stages_xyz, strict=True))
    ]
    pictures = [image(example.image, "photo")] if len(one.stage_errors) else []
    pictures += [image(example.label(), "label")] if drawn else []
    figure = hands_figure(stages, example.faces, truth_xyz=example.truth_xyz)
    return [grid(*pictures), chart(figure), *([note(one.note)] if one.note else [])]
