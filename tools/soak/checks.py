"""What must hold over a run that is killed and started again: nothing lost, nothing different."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from dir_jax.weights.checkpoints import best_step, present_steps, read_validation
from dir_jax.weights.workdir import METRICS_FILE, VALIDATION_FILE

UNTIMED = "examples_per_second"
"""The one entry of a metrics line that may differ when a step is repeated."""


def read_lines(path: Path) -> dict[int, str]:
    """The complete lines of a metrics file by step, as canonical JSON without their timing.

    Raises:
      ValueError: a step is there twice, or a line before the last is no JSON.
    """
    found: dict[int, str] = {}
    texts = path.read_text().split("\n") if path.exists() else []
    for number, text in enumerate(texts[:-1]):  # behind the last newline: nothing, or half a line
        try:
            line = json.loads(text)
        except ValueError:
            raise ValueError(f"{path}, line {number + 1} is no JSON") from None
        step = line["step"]
        if step in found:
            raise ValueError(f"{path} holds step {step} twice")
        line.pop(UNTIMED, None)
        found[step] = json.dumps(line, sort_keys=True)
    return found


class Record:
    """All that a run has ever written, to compare with what it writes when it repeats a step.

    Attributes:
      metrics: line by step, as first written.
      validation: the same of the validations.
      problems: one sentence for everything lost or different.
    """

    def __init__(self):
        self.metrics: dict[int, str] = {}
        self.validation: dict[int, str] = {}
        self.problems: list[str] = []

    def compare(self, workdir: Path, segment: str, start_step: int | None) -> int:
        """Takes in what a segment of the run has written.

        Args:
          workdir: of the run.
          segment: its name for `problems`.
          start_step: where the segment began, None when it did not come so far.

        Returns:
          How many steps were repeated (and compared) by it.
        """
        repeated = 0
        for name, known in ((METRICS_FILE, self.metrics), (VALIDATION_FILE, self.validation)):
            try:
                lines = read_lines(workdir / name)
            except ValueError as error:
                self.problems.append(f"{segment}: {error}")
                continue
            different = [step for step, line in lines.items() if known.get(step, line) != line]
            for step in different:
                self.problems.append(
                    f"{segment}: {name} differs at step {step}: {lines[step]}, first {known[step]}"
                )
            if name == METRICS_FILE:
                began = len(lines) if start_step is None else start_step
                repeated = sum(step in known for step in lines if step > began)
                if sorted(lines) != list(range(1, len(lines) + 1)):
                    self.problems.append(f"{segment}: {name} has gaps")
            known.update(lines)
        return repeated


def checkpoints_lost(before: list[int], start_step: int, damaged: int | None) -> int:
    """How many sound checkpoints were passed over.

    Args:
      before: steps of the checkpoints on disk when the run was started.
      start_step: where it began.
      damaged: the step of the one that was damaged on purpose, if any.
    """
    return sum(step > start_step for step in before if step != damaged)


def due_checkpoint(last_step: int, every: int) -> int:
    """The newest checkpoint that must be on disk when `last_step` has a metrics line.

    The line of a step is written before its checkpoint, so that the last line itself proves
    nothing.
    """
    return max(last_step - 1, 0) // every * every


def best_so_far(checkpoints: Path) -> float | None:
    """The smallest validation recorded beside a checkpoint, None when there is none."""
    step = best_step(checkpoints)
    return None if step is None else read_validation(checkpoints / str(step))["mpjpe_mm"]


def damage_latest(checkpoints: Path, rng: random.Random) -> int | None:
    """Flips one bit in the latest checkpoint's weights, where an earlier one is left.

    Returns:
      Its step, None when nothing was done.
    """
    steps = present_steps(checkpoints)
    if len(steps) < 2:
        return None
    files = [p for p in (checkpoints / str(steps[-1]) / "variables").rglob("*") if p.is_file()]
    path = max(files, key=lambda file: (file.stat().st_size, str(file)))
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data) // 4, 3 * len(data) // 4)] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return steps[-1]


def summary(segments: list[dict[str, Any]]) -> dict[str, Any]:
    """Totals over all segments."""
    started = [s["first_step_seconds"] for s in segments if s["first_step_seconds"] is not None]
    grown = [s["memory_growth_mb"] for s in segments if s["memory_growth_mb"] is not None]
    left = [s["leave_seconds"] for s in segments if s["ending"] == "SIGTERM"]
    return {
        "segments": len(segments),
        "killed": sum(s["ending"].startswith("SIGKILL") for s in segments),
        "killed_in_a_checkpoint_write": sum(s["ending"] == "SIGKILL in write" for s in segments),
        "terminated": len(left),
        "slowest_leave_seconds": max(left, default=None),
        "steps": max((s["last_step"] for s in segments), default=0),
        "steps_repeated": sum(s["steps_repeated"] for s in segments),
        "checkpoints_lost": sum(s["checkpoints_lost"] for s in segments),
        "checkpoints_damaged_on_purpose": sum(s["then_damaged"] is not None for s in segments),
        "checkpoints_found_damaged": sum(s["found_damaged"] for s in segments),
        "first_step_seconds": [min(started), max(started)] if started else None,
        "peak_memory_mb": max((s["peak_memory_mb"] for s in segments), default=0),
        "largest_memory_growth_mb": max(grown, default=None),
    }
