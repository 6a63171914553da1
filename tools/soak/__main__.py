"""Trains for an hour while killing the training every few minutes, and says what was lost.

    python -m tools.soak --workdir DIR --minutes 60 --kill_every 150

Starts train.py again and again in DIR/run: most runs are ended by SIGKILL at a random moment (some
of them while a checkpoint is being written), some by SIGTERM; now and then the latest checkpoint
is damaged before the next start. Every step's metrics are compared, to the bit, with what the
step gave when it was computed first, and at the end with a run that nobody disturbed. Further
--config.field=value go to train.py. Leaves DIR/soak.json, and what every start printed.

Exit codes: 0 nothing lost, nothing different; 1 something was; 2 bad input. Linux only.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path
from typing import Any

from dir_jax.training.command_line import parse, prepare_process
from dir_jax.training.exits import STOPPED
from dir_jax.weights.checkpoints import present_steps
from dir_jax.weights.workdir import CHECKPOINTS_FOLDER, METRICS_FILE
from input_pipeline.files import write_json
from tools.soak.checks import (
    Record,
    best_so_far,
    checkpoints_lost,
    damage_latest,
    due_checkpoint,
    read_lines,
    summary,
)
from tools.soak.segment import Segment, run_segment

FIELDS = {
    "train.steps": 1_000_000,  # more than there is time for
    "train.checkpoint_every": 20,
    "validation.every": 100,
    "log.every": 1,
}
"""What the recipe's fields are set to, so that there is much to lose and every step is told."""
ENDINGS = (("SIGKILL", 0.55), ("SIGKILL in write", 0.25), ("SIGTERM", 0.20))
UNWANTED = ("ended by itself", "SIGTERM unheard")
DAMAGED_SHARE = 0.15
STEPPING_SHARE = 0.75
"""How many are ended some time after their first step; the others some time after their start,
which may be before it."""
COLUMNS = (
    ("ending", "ended by", 17), ("seconds", "after s", 8), ("start_step", "from", 7),
    ("last_step", "to", 7), ("steps_repeated", "repeated", 9), ("checkpoints_lost", "lost", 5),
    ("found_damaged", "damaged", 8), ("first_step_seconds", "1st step s", 11),
    ("leave_seconds", "left in s", 10), ("peak_memory_mb", "peak MB", 9),
    ("memory_growth_mb", "growth MB", 10),
)  # fmt: skip


class Soak:
    """A soak in progress.

    Args:
      folder: everything goes here.
      arguments: of train.py, but for --workdir.
      every: steps from one checkpoint to the next.
      rng: decides when and how the run is ended.
    """

    def __init__(self, folder: Path, arguments: list[str], every: int, rng: random.Random):
        self.folder, self.arguments, self.every, self.rng = folder, arguments, every, rng
        self.workdir = folder / "run"
        self.checkpoints = self.workdir / CHECKPOINTS_FOLDER
        self.record = Record()
        self.segments: list[dict[str, Any]] = []
        self.damaged: int | None = None

    def segment(self, ending: str, after: float, stepping: bool, limit: float) -> bool:
        """Runs, ends (see `run_segment`) and checks one; returns whether going on makes sense."""
        name = f"segment {len(self.segments) + 1}"
        before, best = present_steps(self.checkpoints), best_so_far(self.checkpoints)
        damaged, aside = self.damaged, len(self._set_aside())
        log = self.folder / f"{name.replace(' ', '_')}.log"
        arguments = [*self.arguments, f"--workdir={self.workdir}"]
        seen = run_segment(
            arguments, self.workdir, log, ending, after, stepping=stepping, limit=limit
        )
        repeated = self.record.compare(self.workdir, name, seen.start_step)
        found, lost = len(self._set_aside()) - aside, 0
        if seen.start_step is not None:
            lost = checkpoints_lost(before, seen.start_step, damaged)
        problems = [
            (lost, f"began at step {seen.start_step} with checkpoints {before}"),
            (found > (damaged is not None), f"{found} checkpoints found damaged"),
            (damaged and not found and seen.start_step is not None, "missed the damaged one"),
            (best is not None and damaged is None and not self._as_good(best), "lost the best"),
            (seen.ending in UNWANTED, f"{seen.ending}, exit code {seen.exit_code}; see {log}"),
            *self._after_progress(seen),
        ]
        self.record.problems += [f"{name}: {text}" for wrong, text in problems if wrong]
        if found or seen.start_step is not None:
            self.damaged = None
        self._note(seen, repeated, lost, found)
        return seen.ending != "ended by itself"

    def _set_aside(self) -> list[Path]:
        return list(self.workdir.glob("damaged_checkpoints/*"))

    def _as_good(self, best: float) -> bool:
        now = best_so_far(self.checkpoints)
        return now is not None and now <= best

    def _after_progress(self, seen: Segment) -> list[tuple[bool, str]]:
        """What must be on disk after a segment that made steps."""
        if seen.first_step_seconds is None:
            return []
        last = max(read_lines(self.workdir / METRICS_FILE))
        newest = max(present_steps(self.checkpoints), default=0)
        due = due_checkpoint(last, self.every)
        found = [(newest < due, f"step {last} is in the metrics, but no checkpoint {due}")]
        if seen.ending == "SIGTERM":
            found.append((seen.exit_code != STOPPED, f"SIGTERM gave exit code {seen.exit_code}"))
            found.append((newest != last, f"SIGTERM left step {last} with checkpoint {newest}"))
        return found

    def _note(self, seen: Segment, repeated: int, lost: int, found: int) -> None:
        """Writes the segment down, and now and then damages the latest checkpoint."""
        if self.damaged is None and self.rng.random() < DAMAGED_SHARE:
            self.damaged = damage_latest(self.checkpoints, self.rng)
        growth, started = seen.memory_growth_mb, seen.first_step_seconds
        line = {
            "ending": seen.ending,
            "seconds": round(seen.seconds, 1),
            "start_step": seen.start_step,
            "last_step": max(self.record.metrics, default=0),
            "steps_repeated": repeated,
            "checkpoints_lost": lost,
            "found_damaged": found,
            "first_step_seconds": None if started is None else round(started, 1),
            "leave_seconds": round(seen.leave_seconds, 2),
            "exit_code": seen.exit_code,
            "peak_memory_mb": max((mb for _, mb in seen.memory), default=0.0),
            "memory_growth_mb": None if growth is None else round(growth, 1),
            "then_damaged": self.damaged,
            "memory_mb": seen.memory,
        }
        self.segments.append(line)
        print(row(len(self.segments), line), flush=True)
        self.write()

    def undisturbed(self, seconds: float) -> int:
        """Trains afresh for so long and compares; returns how many steps were compared."""
        other = self.folder / "undisturbed"
        arguments = [*self.arguments, f"--workdir={other}"]
        arguments.append(f"--config.data.dir={self.workdir / 'data'}")
        log = self.folder / "undisturbed.log"
        seen = run_segment(arguments, other, log, "SIGTERM", seconds)
        if seen.exit_code != STOPPED:
            self.record.problems.append(f"undisturbed: exit code {seen.exit_code}; see {log}")
        compared = self.record.compare(other, "undisturbed", 0)
        self.write(undisturbed_steps_compared=compared, undisturbed_memory_mb=seen.memory)
        return compared

    def write(self, **more: Any) -> None:
        """Leaves soak.json as far as things are."""
        content = {"summary": summary(self.segments), "problems": self.record.problems}
        content |= {"arguments": self.arguments, **more, "segments": self.segments}
        write_json(self.folder / "soak.json", content)


def row(number: int | str, line: dict[str, Any]) -> str:
    """One segment of the table."""
    cells = ["-" if line[key] is None else str(line[key]) for key, _, _ in COLUMNS]
    return f"{number!s:>3} " + "".join(
        f"{cell:>{width}}" for cell, (_, _, width) in zip(cells, COLUMNS, strict=True)
    )


def prepare(folder: Path, arguments: list[str]) -> int:
    """Makes the recipe's data, once; returns the steps between checkpoints.

    Raises:
      ValueError: the recipe does not work.
    """
    from dir_jax.training.data import find_data
    from dir_jax.training.stop import StopRequest

    parsed = parse([*arguments, f"--workdir={folder / 'run'}"], __doc__)
    if isinstance(parsed, int):
        raise ValueError("train.py would not take this")
    (folder / "run").mkdir(parents=True, exist_ok=True)
    with StopRequest() as stop:
        find_data(parsed[0], folder / "run", stop)
    return int(parsed[0].train.checkpoint_every)


def soak(options: argparse.Namespace, further: list[str]) -> int:
    """Runs the whole thing; returns the exit code.

    Raises:
      ValueError, OSError: bad input.
    """
    folder, rng = Path(options.workdir).absolute(), random.Random(options.seed)
    if present_steps(folder / "run" / CHECKPOINTS_FOLDER):
        raise ValueError(f"{folder} holds a soak already; wanted a new folder")
    fields = [f"--config.{name}={value}" for name, value in FIELDS.items()]
    arguments = [f"--config={Path(options.config).absolute()}", *fields, *further]
    running = Soak(folder, arguments, prepare(folder, arguments), rng)
    print("    " + "".join(f"{title:>{width}}" for _, title, width in COLUMNS), flush=True)
    end = time.monotonic() + 60 * options.minutes
    names, weights = zip(*ENDINGS, strict=True)
    going = True
    while going and (left := end - time.monotonic()) > 0:
        after = options.kill_every * rng.uniform(0.2, 1.8)
        ending = rng.choices(names, weights)[0] if after < left else "SIGTERM"
        going = running.segment(ending, after, rng.random() < STEPPING_SHARE, left)
    compared = running.undisturbed(60 * options.undisturbed) if options.undisturbed else 0
    for name, value in summary(running.segments).items():
        print(f"{name:<32}{value}")
    print(f"{'undisturbed_steps_compared':<32}{compared}")
    for problem in running.record.problems:
        print(f"problem: {problem}")
    return 1 if running.record.problems else 0


def main(arguments: list[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workdir", required=True, help="a new folder for everything")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long")
    parser.add_argument(
        "--kill_every", type=float, default=150.0, help="seconds of training, on average"
    )
    parser.add_argument("--config", default="configs/smoke.py", help="recipe")
    parser.add_argument("--seed", type=int, default=0, help="of the kills")
    parser.add_argument(
        "--undisturbed", type=float, default=5.0, help="minutes of the run to compare with"
    )
    options, further = parser.parse_known_args(arguments)
    prepare_process()
    try:
        return soak(options, further)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
