"""evaluation.html: everything that was measured, on one page to open and page through."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dir_jax.evaluation.metrics import shown_in
from dir_jax.evaluation.protocols import MAIN_PROTOCOL, PROTOCOLS
from dir_jax.evaluation.samples import DIFFICULTIES
from dir_jax.evaluation.sources import Evaluated
from dir_jax.evaluation.tables import (
    Results,
    cell,
    internet_rows,
    protocol_rows,
    source_line,
    table_columns,
)
from dir_jax.pictures.pages.bars import bars_figure
from dir_jax.pictures.pages.curves import Curve, curves_figure
from dir_jax.pictures.pages.elements import note, table
from dir_jax.pictures.pages.images import grid
from dir_jax.pictures.pages.page import Html, Section, write_page
from dir_jax.pictures.pages.run_record import stage_name
from dir_jax.pictures.pages.sample_pager import sample_pager
from mano_jax.constants import JOINT_NAMES, SIDES

MOST_CAMERAS = 40
HISTOGRAM_BINS = 40


def write_report(path: str | os.PathLike, found: Mapping[str, Evaluated]) -> None:
    """Writes the page, whole or not at all.

    Args:
      path: of the HTML file.
      found: evaluations by the predictors' names.

    Raises:
      OSError: it cannot be written.
    """
    results = {name: evaluated.result for name, evaluated in found.items()}
    sections = [
        *_tables(results),
        Section("How many joints are how near", [_pck(results)]),
        Section("Errors of the samples", [_histogram(found)]),
        Section("By joint", [_by_joint(results)]),
        *_by_stage(results),
        *_groups(results),
    ]
    for name, evaluated in found.items():
        shown = evaluated.shown()
        if shown.samples:
            heading = "Samples" if len(found) == 1 else f"Samples: {name}"
            sections.append(Section(heading, [_how_to_page(), sample_pager(*shown)]))
    write_page(path, "Evaluation", sections, _lead(results))


def _how_to_page() -> Html:
    return note(
        "The worst, median and best samples by wrist_scaled MPJPE. Arrow keys go from one to the "
        "next, headings sort the list, the mouse turns the hands. All samples are in the CSV file "
        "beside this page."
    )


def _lead(results: Results) -> str:
    parts = []
    for name, result in results.items():
        split = f" of the split {result['split']}" if result.get("split") else ""
        parts.append(f"{name}: {result['samples']} samples{split}")
    hands = {str(result.get("hands")) for result in results.values()}
    return f"{'; '.join(parts)}. Hands: {', '.join(sorted(hands))}."


def _tables(results: Results) -> list[Section]:
    sections = []
    for protocol in PROTOCOLS:
        rows, sources = protocol_rows(results, protocol)
        names = list(results)
        body = []
        for row in rows[1:]:
            body.append(row)
            if names and row[0] == names[0]:
                body += _interval(results[names.pop(0)], protocol)
        sections.append(
            Section(
                protocol,
                [
                    note(f"{PROTOCOLS[protocol].meaning}."),
                    table(["", *rows[0][1:]], body, numbers=True),
                    *(note(source_line(*source)) for source in sources.items()),
                ],
            )
        )
    rows = internet_rows(results)
    if len(rows) > 1:
        text = "InterNet's protocol: annotated joints that are valid, relative to the wrist."
        sections.append(
            Section("internet", [note(text), table(["", *rows[0][1:]], rows[1:], numbers=True)])
        )
    return sections


def _interval(result: Mapping[str, Any], protocol: str) -> list[list[str]]:
    """The bootstrap's 95 % intervals as a row of the table."""
    intervals = result.get("confidence_95") or {}
    intervals = {**intervals, **(intervals.get(protocol) or {})}
    cells = [
        "" if (limits := intervals.get(key)) is None else f"{limits[0]:.2f} to {limits[1]:.2f}"
        for key in table_columns().values()
    ]
    return [["95 % interval", *cells, ""]] if any(cells) else []


def _pck(results: Results) -> Html:
    figures = []
    for protocol in PROTOCOLS:
        curves = [
            Curve(
                f"{name} (AUC {result[protocol]['auc_0_50'] or 0.0:.3f})",
                np.asarray(result["pck"]["thresholds_mm"], float),
                np.asarray(result["pck"][protocol], float),
            )
            for name, result in results.items()
        ]
        auc = f", AUC 0-50: {curves[0].name.split('AUC ')[1][:-1]}" if len(curves) == 1 else ""
        labels = {"x_label": "error, mm", "y_label": "share of joints"}
        figures.append(curves_figure(curves, f"{protocol}{auc}", **labels))
    return grid(*figures)


def _histogram(found: Mapping[str, Evaluated]) -> Html:
    errors = {name: evaluated.samples.ranking()[1] for name, evaluated in found.items()}
    errors = {name: values[np.isfinite(values)] for name, values in errors.items()}
    known = np.concatenate(list(errors.values()))
    if not len(known):
        return note("No errors were measured.")
    # A few samples that are far off must not squeeze the others into one bar.
    highest = max(float(np.percentile(known, 99.5)) * 1.05, 1e-3)
    edges = np.linspace(0.0, highest, HISTOGRAM_BINS + 1)
    heights = {}
    for name, values in errors.items():
        counts, _ = np.histogram(np.minimum(values, np.nextafter(highest, 0.0)), edges)
        heights[name] = counts.tolist()
    return bars_figure(
        heights,
        ((edges[1:] + edges[:-1]) / 2).round(3).tolist(),
        f"Samples by their {MAIN_PROTOCOL} MPJPE (the last bar holds all that are beyond)",
        x_label="MPJPE, mm",
        y_label="samples",
        touching=True,
    )


def _by_joint(results: Results) -> Html:
    bars = {}
    for name, result in results.items():
        for side in SIDES:
            label = f"{side} hand" if len(results) == 1 else f"{name}, {side}"
            bars[label] = result["by_joint_mm"][MAIN_PROTOCOL][side]
    title = f"Mean error of every joint, {MAIN_PROTOCOL}"
    return bars_figure(bars, JOINT_NAMES, title, y_label="mm")


def _by_stage(results: Results) -> list[Section]:
    """What each refinement brought; only models have stages."""
    rows, metrics = [], [metric for metric in shown_in("detail") if metric.aligned]
    for name, result in results.items():
        for number, values in enumerate(result.get("by_stage") or []):
            stage = stage_name(number)
            label = stage if len(results) == 1 else f"{name}, {stage}"
            rows.append([label, *(cell(values.get(metric.key())) for metric in metrics)])
    if not rows:
        return []
    header = ["", *(metric.heading for metric in metrics)]
    return [
        Section(
            "By stage",
            [note(f"{MAIN_PROTOCOL}, after every stage."), table(header, rows, numbers=True)],
        )
    ]


def _groups(results: Results) -> list[Section]:
    figures = [
        figure
        for name, difficulty in DIFFICULTIES.items()
        for figure in _bins(results, f"by_{name}", difficulty.title)
    ]
    parts = [grid(*figures)] if figures else []
    parts += _cameras(results)
    return [Section("Where it fails", parts)] if parts else []


def _bins(results: Results, key: str, title: str) -> Iterable[Html]:
    some = next((result[key] for result in results.values() if result.get(key)), None)
    if not some or not any(group["samples"] for r in results.values() for group in r.get(key, [])):
        return
    labels = [_limits(group) for group in some]
    bars = {
        name: [group["mpjpe_mm"] for group in result[key]]
        for name, result in results.items()
        if result.get(key)
    }
    notes = [f"{group['samples']} samples" for group in some]
    labels = [f"{label}<br>{text}" for label, text in zip(labels, notes, strict=True)]
    yield bars_figure(bars, labels, title, y_label="MPJPE, mm", notes=notes)


def _limits(group: Mapping[str, Any]) -> str:
    if group["to"] is None:
        return f"{group['from']:g} and more"
    return f"{group['from']:g} to {group['to']:g}"


def _cameras(results: Results) -> list[Html]:
    parts = []
    for name, result in results.items():
        cameras = [(c, v) for c, v in (result.get("by_camera") or {}).items() if v["samples"]]
        if cameras:
            cameras.sort(key=lambda item: -(item[1]["mpjpe_mm"] or 0.0))
            left_out = len(cameras) - MOST_CAMERAS
            more = f"; {left_out} better ones are in evaluation.json" if left_out > 0 else ""
            whose = "" if len(results) == 1 else f"{name}: "
            parts.append(note(f"{whose}cameras, the worst first{more}"))
            parts.append(_camera_table(cameras[:MOST_CAMERAS]))
    return parts


def _camera_table(cameras: Sequence[tuple[str, Mapping[str, Any]]]) -> Html:
    metrics = shown_in("detail")
    rows = [
        [camera, *(cell(values.get(m.key())) for m in metrics), str(values["samples"])]
        for camera, values in cameras
    ]
    headings = [metric.heading for metric in metrics]
    return table(["camera", *headings, "samples"], rows, numbers=True)
