"""What a training run has written about itself, as arrays."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from input_pipeline.files import read_json_lines

Lines = list[dict[str, Any]]


def read_lines(path: Path) -> Lines:
    """Objects of a file of one JSON object a line, in order of their step.

    A line that is not whole (a run is writing it, or was killed) is left out, and so is what was
    written before a line of a smaller or equal step: a run that went on from there wrote it again.

    Args:
      path: `metrics.jsonl` or `validation.jsonl`; a missing file has no lines.
    """
    lines: Lines = []
    for line in read_json_lines(path):
        if type(line.get("step")) is int:
            while lines and lines[-1]["step"] >= line["step"]:
                lines.pop()
            lines.append(line)
    return lines


def columns(lines: Lines) -> dict[str, np.ndarray]:
    """Numbers by name, (N,) float64 each; NaN where a line has none."""
    names = dict.fromkeys(name for line in lines for name in line)
    return {
        name: np.array([number(line.get(name)) for line in lines], np.float64) for name in names
    }


def number(value: object) -> float:
    """The value if it is a number, else NaN."""
    return float(value) if type(value) in (int, float) else math.nan


def read_object(path: Path) -> dict[str, Any]:
    """A file's JSON object; {} when there is none or it cannot be read as one."""
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def stage_name(index: int) -> str:
    """What a person calls a stage."""
    return "initial" if index == 0 else f"refined {index}"
