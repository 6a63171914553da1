"""The curves of a training run: losses by term and by stage, errors, learning rate, throughput."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from dir_jax.pictures.pages.curves import Curve, curves_figure, smoothed
from dir_jax.pictures.pages.elements import note
from dir_jax.pictures.pages.images import grid
from dir_jax.pictures.pages.page import Html, Section
from dir_jax.pictures.pages.run_record import stage_name

Columns = Mapping[str, np.ndarray]

SMOOTHED_SHARE = 0.04
"""Of a run's points that a smoothed value is the mean of."""

_PARTS = re.compile(r"(?P<term>[a-z_]+?)(_(?P<side>left|right))?_(?P<stage>\d+)")
_STAGE_ERROR = re.compile(r"mpjpe_stage_(\d+)_mm")
_MAPS = ("segmentation", "lovasz", "dense")
_TITLES = {
    "joints_xyz": "Joints in space",
    "vertices_xyz": "Vertices in space",
    "joints_uv": "Joints on the image",
    "vertices_uv": "Vertices on the image",
    "offset": "Offset between the wrists",
    "edge": "Lengths of edges",
    "normal": "Normals",
}


def training_sections(columns: Columns) -> list[Section]:
    """Sections on the steps of a run.

    Args:
      columns: of metrics.jsonl (see `run_record.columns`); empty gives no sections.
    """
    if not columns:
        return []
    sections = [Section("Loss", [_smooth_figure(columns, {"loss": "loss"}, "Sum of all terms")])]
    sums = by_term(columns)
    if sums:
        curves = [curve for name, y in sums.items() for curve in _smooth(columns["step"], name, y)]
        parts = [curves_figure(curves, "Weighted terms, both hands, all stages", logarithmic=True)]
        sections.append(Section("Loss by term", parts))
    if stages := _by_stage(columns):
        remark = note("Weighted losses, mean of both hands; later stages should lie lower.")
        sections.append(Section("Loss by stage", [remark, grid(*stages)]))
    machine = [
        _smooth_figure(columns, {name: name}, title, logarithmic=log)
        for name, title, log in (
            ("learning_rate", "Learning rate", False),
            ("gradient_norm", "Norm of the gradient", True),
            ("examples_per_second", "Images per second", False),
        )
        if name in columns
    ]
    return [*sections, Section("Steps", [grid(*machine)])] if machine else sections


def by_term(columns: Columns) -> dict[str, np.ndarray]:
    """Losses (N,) by term, summed over hands and stages."""
    sums: dict[str, np.ndarray] = {}
    for name, values in columns.items():
        match = _PARTS.fullmatch(name)
        term = match["term"] if match else name if name in _MAPS else None
        if term is not None:
            sums[term] = sums.get(term, 0.0) + values
    return sums


def _by_stage(columns: Columns) -> list[Html]:
    """A figure for every term that all stages have: one curve a stage, mean over the hands."""
    terms: dict[str, dict[int, list[np.ndarray]]] = {}
    for name, values in columns.items():
        if match := _PARTS.fullmatch(name):
            terms.setdefault(match["term"], {}).setdefault(int(match["stage"]), []).append(values)
    figures = []
    for term in sorted(terms, key=lambda name: [*_TITLES, name].index(name)):
        curves = [
            curve
            for stage, values in sorted(terms[term].items())
            for curve in _smooth(columns["step"], stage_name(stage), np.mean(values, axis=0))
        ]
        figures.append(curves_figure(curves, _TITLES.get(term, term), logarithmic=True))
    return figures


def validation_sections(columns: Columns) -> list[Section]:
    """Sections on the validations of a run (columns of validation.jsonl)."""
    if not columns:
        return []
    step = columns["step"]
    names = {
        "mpjpe_mm": "joints (MPJPE)",
        "mpvpe_mm": "vertices (MPVPE)",
        "mrrpe_mm": "wrist to wrist (MRRPE)",
        "mean_hand_mpjpe_mm": "mean hand (MPJPE)",
    }
    errors = [Curve(label, step, columns[name]) for name, label in names.items() if name in columns]
    figures = []
    if errors:
        figures.append(_millimetres(errors, "Errors of the last stage, wrist_scaled"))
    found = {int(m[1]): name for name in columns if (m := _STAGE_ERROR.fullmatch(name))}
    stages = [Curve(stage_name(i), step, columns[name]) for i, name in sorted(found.items())]
    if stages:
        figures.append(_millimetres(stages, "MPJPE by stage, wrist_scaled"))
    return [Section("Validation", [grid(*figures)])] if figures else []


def _millimetres(curves: Sequence[Curve], title: str) -> Html:
    return curves_figure(curves, title, y_label="mm", markers=True)


def _smooth(step: np.ndarray, name: str, values: np.ndarray) -> list[Curve]:
    """The values, faint where there are many, under their running mean."""
    window = round(len(values) * SMOOTHED_SHARE)
    if window < 2:
        return [Curve(name, step, values)]
    return [Curve(name, step, values, faint=True), Curve(name, step, smoothed(values, window))]


def _smooth_figure(
    columns: Columns, names: Mapping[str, str], title: str, logarithmic: bool = True
) -> Html:
    curves = []
    for name, label in names.items():
        if name == "learning_rate":
            curves.append(Curve(label, columns["step"], columns[name]))
        else:
            curves += _smooth(columns["step"], label, columns[name])
    return curves_figure(curves, title, logarithmic=logarithmic, from_zero=not logarithmic)
