"""Curves and pictures of a training run on one page.

    python -m dir_jax.pictures.report WORKDIR

writes WORKDIR/report.html from metrics.jsonl, validation.jsonl, evaluation.json and pictures/; it
can be called at any time, also while the run goes on.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2

from dir_jax.pictures.pages.elements import note, table
from dir_jax.pictures.pages.images import data_uri, grid, picture
from dir_jax.pictures.pages.page import Html, Section, write_page
from dir_jax.pictures.pages.run_record import (
    Lines,
    columns,
    number,
    read_lines,
    read_object,
    stage_name,
)
from dir_jax.pictures.pages.training_curves import training_sections, validation_sections
from dir_jax.weights.workdir import (
    CONFIG_FILE,
    EVALUATION_FILE,
    METRICS_FILE,
    PICTURES_FOLDER,
    VALIDATION_FILE,
)

REPORT_FILE = "report.html"
MOST_PICTURES = 16
PICTURE_WIDTH = 1400
_ERRORS = {"mpjpe_mm": "MPJPE, mm", "mpvpe_mm": "MPVPE, mm", "mrrpe_mm": "MRRPE, mm"}


def _summary(workdir: Path, training: Lines, validation: Lines) -> Html:
    rows: list[tuple[str, object]] = []
    if training:
        last = training[-1]
        rows.append(("last step written", f"{last['step']:d}"))
        names = {"loss": "loss", "learning_rate": "learning rate"}
        names["examples_per_second"] = "images per second"
        rows += [(label, number(last.get(name))) for name, label in names.items()]
    errors = [(number(line.get("mpjpe_mm")), line["step"]) for line in validation]
    if known := [pair for pair in errors if math.isfinite(pair[0])]:
        error, step = min(known)
        rows.append((f"best validation MPJPE, mm (at step {step})", f"{error:.2f}"))
    config = read_object(workdir / CONFIG_FILE)
    if size := config.get("train", {}).get("batch_size"):
        rows.append(("images a step", str(size)))
    if config:
        rows.append(("hands", config.get("mano") or "the open hand (not MANO)"))
    return table(("the run", ""), rows)


def _evaluation_section(result: Mapping[str, Any]) -> list[Section]:
    mean = result.get("baseline_mean_hand") or {}
    rows = []
    for name, values in result.items():
        if _is_protocol(values):
            rows.append((name, *_errors(values)))
            if _is_protocol(mean.get(name)):
                rows.append((f"{name}, mean hand", *_errors(mean[name])))
    if not rows:
        return []
    parts: list[str] = [table(("protocol", *_ERRORS.values()), rows)]
    if stages := result.get("by_stage"):
        parts.append(note("wrist_scaled, stage by stage:"))
        rows = [(stage_name(index), *_errors(values)) for index, values in enumerate(stages)]
        parts.append(table(("stage", *_ERRORS.values()), rows))
    return [Section("Evaluation", parts)]


def _is_protocol(value: object) -> bool:
    return isinstance(value, Mapping) and "mpjpe_mm" in value


def _errors(values: Mapping[str, Any]) -> list[str]:
    found = [number(values.get(name)) for name in _ERRORS]
    return [f"{value:.2f}" if math.isfinite(value) else "-" for value in found]


def _pictures_section(folder: Path) -> list[Section]:
    shown = []
    for file in sorted(folder.glob("*.png"))[:MOST_PICTURES]:
        image = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if image is None:
            continue
        scale = min(1.0, PICTURE_WIDTH / image.shape[1])
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        shown.append(picture(data_uri(image[..., ::-1]), file.stem, file.name))
    return [Section("Samples", [grid(*shown, columns=1)])] if shown else []


def write_report(workdir: Path, path: Path) -> int:
    """Writes the page.

    Args:
      workdir: of a training run.
      path: HTML file to write.

    Returns:
      How many lines of metrics it shows.

    Raises:
      ValueError: the folder holds no metrics.
      OSError: something cannot be read or written.
    """
    training = read_lines(workdir / METRICS_FILE)
    validation = read_lines(workdir / VALIDATION_FILE)
    if not training and not validation:
        raise ValueError(
            f"{workdir} holds no {METRICS_FILE} with whole lines; wanted the --workdir of a run"
        )
    sections = [
        Section("", [_summary(workdir, training, validation)]),
        *validation_sections(columns(validation)),
        *training_sections(columns(training)),
        *_evaluation_section(read_object(workdir / EVALUATION_FILE)),
        *_pictures_section(workdir / PICTURES_FOLDER),
    ]
    write_page(path, f"Training run {workdir.resolve().name}", sections)
    return len(training)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m dir_jax.pictures.report",
        description="Puts a training run's curves and pictures on one page.",
    )
    parser.add_argument("workdir", metavar="WORKDIR", help="folder of a training run")
    parser.add_argument("--output", metavar="FILE.html", help=f"default: WORKDIR/{REPORT_FILE}")
    options = parser.parse_args(arguments)
    path = Path(options.output) if options.output else Path(options.workdir) / REPORT_FILE
    try:
        count = write_report(Path(options.workdir), path)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{path}: {count} lines of {METRICS_FILE}; open it in a browser")
    return 0


if __name__ == "__main__":
    sys.exit(main())
