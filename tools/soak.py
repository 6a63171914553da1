"""Trains for an hour while killing the training every few minutes, and says what was lost.

    python -m tools.soak --workdir DIR --minutes 60 --kill_every 150

Starts train.py again and again in DIR/run: most runs are ended by SIGKILL at a random moment (some
of them while a checkpoint is being written), some by SIGTERM; now and then the latest checkpoint
is damaged before the next start. Every step's metrics are compared, bit for bit, with what the
step gave when it was computed first, and at the end with a run that nobody disturbed. Further
--config.field=value go to train.py. Leaves DIR/soak.json, and what every start printed.

Exit codes: 0 nothing lost, nothing different; 1 something was; 2 bad input. Linux only.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import dir_jax
from dir_jax.training.command import parse, prepare_process
from dir_jax.training.data import find_data
from dir_jax.training.interruptions import STOPPED, StopRequest
from dir_jax.weights import CHECKPOINTS_FOLDER, METRICS_FILE, VALIDATION_FILE
from dir_jax.weights.checkpoints import best_step, present_steps, read_validation
from input_pipeline.commands import FAILED, command
from input_pipeline.files import write_json

TRAIN = Path(dir_jax.__file__).resolve().parent.parent / "train.py"
FIELDS = {
    "train.steps": 1_000_000,  # more than there is time for
    "train.checkpoint_every": 20,
    "validation.every": 100,
    "log.every": 1,
}
"""What the recipe's fields are set to, so that there is much to lose and every step is told."""
ENDINGS = {"SIGKILL": 0.55, "SIGKILL in write": 0.25, "SIGTERM": 0.20}
UNWANTED = ("ended by itself", "SIGTERM unheard")
DAMAGED_SHARE = 0.15
STEPPING_SHARE = 0.75
"""How many are ended some time after their first step; the others some time after their start,
which may be before it."""
POLL_SECONDS, MEMORY_SECONDS = 0.1, 5.0
SETTLING_SECONDS = 20.0
"""After the first step; memory is compared from here on."""
EXIT_LIMIT_SECONDS = 120.0
STARTED = re.compile(r"^steps\s+\d+ of .*?(\d+) done$", re.MULTILINE)
UNTIMED = "examples_per_second"
"""The one entry of a metrics line that may differ when a step is repeated."""
COLUMNS = {
    "ending": 18, "seconds": 9, "start_step": 12, "last_step": 11, "steps_repeated": 16,
    "checkpoints_lost": 18, "found_damaged": 15, "first_step_seconds": 20, "exit_seconds": 14,
    "peak_memory_mb": 16, "memory_growth_mb": 18,
}  # fmt: skip


@dataclasses.dataclass
class Segment:
    """train.py from its start until a signal ends it, as seen from outside.

    Attributes:
      ending: the signal, "SIGKILL in write" when it struck while a checkpoint was being written.
      seconds: from start to signal.
      start_step: steps done at the start, None when the end came before it said so.
      first_step_seconds: from start to the first new metrics line, None when there was none.
      exit_seconds: from signal to end.
      exit_code: as subprocess has it.
      memory: (seconds since start, resident megabytes).
    """

    ending: str
    seconds: float = 0.0
    start_step: int | None = None
    first_step_seconds: float | None = None
    exit_seconds: float = 0.0
    exit_code: int | None = None
    memory: list[tuple[float, float]] = dataclasses.field(default_factory=list)

    def memory_growth_mb(self) -> float | None:
        """Resident megabytes at the end over those soon after the first step; None if too short."""
        if self.first_step_seconds is None:
            return None
        settled = [mb for at, mb in self.memory if at > self.first_step_seconds + SETTLING_SECONDS]
        return round(settled[-1] - settled[0], 1) if len(settled) > 1 else None


def run_segment(
    arguments: list[str],
    workdir: Path,
    log: Path,
    ending: str,
    after: float,
    *,
    stepping: bool = False,
    limit: float = float("inf"),
) -> Segment:
    """Starts train.py and ends it.

    Args:
      arguments: of train.py, but for --workdir.
      workdir: its work folder.
      log: file for what it prints.
      ending: "SIGKILL", "SIGTERM", or "SIGKILL in write": at the first checkpoint being written
        after the time is up.
      after: seconds until the signal.
      stepping: count them from the first step, not from the start.
      limit: seconds from the start after which the signal comes in any case.

    Returns:
      What was seen; its `ending` is "ended by itself" when no signal was needed.
    """
    found = Segment(ending)
    before = _inode(workdir / METRICS_FILE)
    begin = time.monotonic()
    with open(log, "w") as output:
        child = subprocess.Popen(
            [sys.executable, str(TRAIN), *arguments, f"--workdir={workdir}"],
            stdout=output, stderr=subprocess.STDOUT, cwd=TRAIN.parent,
        )  # fmt: skip
    try:
        while child.poll() is None:
            due = after + (found.first_step_seconds or limit) if stepping else after
            if _time_to_end(found, workdir, min(due, limit)):
                break
            time.sleep(POLL_SECONDS if found.seconds < due else 0.002)
            found.seconds = time.monotonic() - begin
            _look(found, child.pid, workdir, log, before)
        _end(child, found)
    finally:
        if child.poll() is None:  # this program was interrupted
            child.kill()
            child.wait()
    _look(found, child.pid, workdir, log, before)
    return found


def _time_to_end(found: Segment, workdir: Path, after: float) -> bool:
    if found.seconds < after or found.ending != "SIGKILL in write":
        return found.seconds >= after
    writing = any((workdir / CHECKPOINTS_FOLDER).glob("*.orbax-checkpoint-tmp*"))
    if not writing and found.seconds > after + 120:  # it never came; do not wait for ever
        found.ending = "SIGKILL"
        return True
    return writing


def _end(child: subprocess.Popen, found: Segment) -> None:
    if child.poll() is not None:
        found.ending, found.exit_code = "ended by itself", child.returncode
        return
    begin = time.monotonic()
    child.send_signal(signal.SIGTERM if found.ending == "SIGTERM" else signal.SIGKILL)
    try:
        found.exit_code = child.wait(EXIT_LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        found.ending = "SIGTERM unheard"
        child.kill()
        found.exit_code = child.wait()
    found.exit_seconds = time.monotonic() - begin


def _look(found: Segment, pid: int, workdir: Path, log: Path, before: int | None) -> None:
    last = found.memory[-1][0] if found.memory else -MEMORY_SECONDS
    if found.seconds - last >= MEMORY_SECONDS and (megabytes := _resident_mb(pid)):
        found.memory.append((round(found.seconds, 1), megabytes))
    if found.start_step is None:
        if said := STARTED.search(log.read_text(errors="replace")):
            found.start_step = int(said[1])
        return
    metrics = workdir / METRICS_FILE
    # A resumed run puts a new file in the old one's place, without the steps to be repeated.
    if found.first_step_seconds is None and _inode(metrics) not in (None, before):
        if metrics.read_text().count("\n") > found.start_step:
            found.first_step_seconds = found.seconds


def _resident_mb(pid: int) -> float:
    """Resident memory of a process in megabytes, 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"^VmRSS:\s+(\d+) kB", text, re.MULTILINE)
    return round(int(found[1]) / 1024, 1) if found else 0.0


def _inode(path: Path) -> int | None:
    return path.stat().st_ino if path.exists() else None


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


class Lines:
    """All lines that a run has ever written, to compare with those of a step that it repeats.

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
            for step, line in lines.items():
                if (first := known.get(step, line)) != line:
                    text = f"{name} differs at step {step}: {line}, first {first}"
                    self.problems.append(f"{segment}: {text}")
            if name == METRICS_FILE:
                began = len(lines) if start_step is None else start_step
                repeated = sum(step in known for step in lines if step > began)
                if sorted(lines) != list(range(1, len(lines) + 1)):
                    self.problems.append(f"{segment}: {name} has gaps")
            known.update(lines)
        return repeated


def best_so_far(checkpoints: Path) -> float:
    """The smallest validation recorded beside a checkpoint, infinite when there is none."""
    step = best_step(checkpoints)
    return float("inf") if step is None else read_validation(checkpoints / str(step))["mpjpe_mm"]


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
        self.lines = Lines()
        self.segments: list[dict[str, Any]] = []
        self.damaged: int | None = None

    def segment(self, ending: str, after: float, stepping: bool, limit: float) -> bool:
        """Runs, ends (see `run_segment`) and checks one; returns whether to continue."""
        name = f"segment {len(self.segments) + 1}"
        before, best = present_steps(self.checkpoints), best_so_far(self.checkpoints)
        damaged, aside = self.damaged, self._set_aside()
        log = self.folder / f"{name.replace(' ', '_')}.log"
        seen = run_segment(
            self.arguments, self.workdir, log, ending, after, stepping=stepping, limit=limit
        )
        repeated = self.lines.compare(self.workdir, name, seen.start_step)
        found, lost, started = self._set_aside() - aside, 0, seen.start_step is not None
        if started:  # sound checkpoints that were passed over
            lost = sum(step > seen.start_step for step in before if step != damaged)
        worse = damaged is None and best_so_far(self.checkpoints) > best
        problems = [
            (lost, f"began at step {seen.start_step} with checkpoints {before}"),
            (found > (damaged is not None), f"{found} checkpoints found damaged"),
            (damaged and not found and started, "missed the damaged one"),
            (worse, "lost the best"),
            (seen.ending in UNWANTED, f"{seen.ending}, exit code {seen.exit_code}; see {log}"),
            *self._after_progress(seen),
        ]
        self.lines.problems += [f"{name}: {text}" for wrong, text in problems if wrong]
        if found or started:
            self.damaged = None
        self._note(seen, repeated, lost, found)
        return seen.ending != "ended by itself"

    def _set_aside(self) -> int:
        return len(list(self.workdir.glob("damaged_checkpoints/*")))

    def _after_progress(self, seen: Segment) -> list[tuple[bool, str]]:
        """What must be on disk after a segment that made steps."""
        if seen.first_step_seconds is None:
            return []
        last = max(read_lines(self.workdir / METRICS_FILE))
        newest = max(present_steps(self.checkpoints), default=0)
        # A step's line is written before its checkpoint: the last line itself proves nothing.
        due = max(last - 1, 0) // self.every * self.every
        found = [(newest < due, f"step {last} is in the metrics, but no checkpoint {due}")]
        if seen.ending == "SIGTERM":
            found.append((seen.exit_code != STOPPED, f"SIGTERM gave exit code {seen.exit_code}"))
            found.append((newest != last, f"SIGTERM left step {last} with checkpoint {newest}"))
        return found

    def _note(self, seen: Segment, repeated: int, lost: int, found: int) -> None:
        """Writes the segment down, and now and then damages the latest checkpoint."""
        if self.damaged is None and self.rng.random() < DAMAGED_SHARE:
            self.damaged = damage_latest(self.checkpoints, self.rng)
        line = {
            **dataclasses.asdict(seen),
            "last_step": max(self.lines.metrics, default=0),
            "steps_repeated": repeated,
            "checkpoints_lost": lost,
            "found_damaged": found,
            "peak_memory_mb": max((mb for _, mb in seen.memory), default=0.0),
            "memory_growth_mb": seen.memory_growth_mb(),
            "then_damaged": self.damaged,
        }
        for name in ("seconds", "first_step_seconds", "exit_seconds"):
            line[name] = None if line[name] is None else round(line[name], 2)
        self.segments.append(line)
        cells = (f"{'-' if line[k] is None else line[k]!s:>{w}}" for k, w in COLUMNS.items())
        print("".join(cells), flush=True)
        self.write()

    def undisturbed(self, seconds: float) -> int:
        """Trains afresh for so long and compares; returns how many steps were compared."""
        other, log = self.folder / "undisturbed", self.folder / "undisturbed.log"
        arguments = [*self.arguments, f"--config.data.dir={self.workdir / 'data'}"]
        seen = run_segment(arguments, other, log, "SIGTERM", seconds)
        if seen.exit_code != STOPPED:
            self.lines.problems.append(f"undisturbed: exit code {seen.exit_code}; see {log}")
        compared = self.lines.compare(other, "undisturbed", 0)
        self.write(undisturbed_steps_compared=compared, undisturbed_memory_mb=seen.memory)
        return compared

    def summary(self) -> dict[str, Any]:
        """Totals over all segments."""

        def column(name: str, ending: str = "") -> list[Any]:
            chosen = [s for s in self.segments if s["ending"].startswith(ending)]
            return [s[name] for s in chosen if s[name] is not None]

        started = column("first_step_seconds")
        return {
            "segments": len(self.segments),
            "killed": len(column("ending", "SIGKILL")),
            "killed_in_a_checkpoint_write": len(column("ending", "SIGKILL in write")),
            "terminated": column("ending").count("SIGTERM"),
            "slowest_exit_seconds": max(column("exit_seconds", "SIGTERM"), default=None),
            "steps": max(column("last_step"), default=0),
            "steps_repeated": sum(column("steps_repeated")),
            "checkpoints_lost": sum(column("checkpoints_lost")),
            "checkpoints_damaged_on_purpose": len(column("then_damaged")),
            "checkpoints_found_damaged": sum(column("found_damaged")),
            "first_step_seconds": [min(started), max(started)] if started else None,
            "peak_memory_mb": max(column("peak_memory_mb"), default=0),
            "largest_memory_growth_mb": max(column("memory_growth_mb"), default=None),
        }

    def write(self, **more: Any) -> None:
        """Leaves soak.json as far as things are."""
        content = {"summary": self.summary(), "problems": self.lines.problems}
        content |= {"arguments": self.arguments, **more, "segments": self.segments}
        write_json(self.folder / "soak.json", content)


@command
def main(arguments: list[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.soak", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--workdir", required=True, type=Path, help="a new folder for everything")
    add("--minutes", type=float, default=60.0, help="how long")
    add("--kill_every", type=float, default=150.0, help="seconds of training, on average")
    add("--config", default="configs/smoke.py", type=Path, help="recipe")
    add("--seed", type=int, default=0, help="of the kills")
    add("--undisturbed", type=float, default=5.0, help="minutes of the run to compare with")
    options, further = parser.parse_known_args(arguments)
    prepare_process()
    folder, rng = options.workdir.absolute(), random.Random(options.seed)
    if present_steps(folder / "run" / CHECKPOINTS_FOLDER):
        raise ValueError(f"{folder} holds a soak already; wanted a new folder")
    fields = [f"--config.{name}={value}" for name, value in FIELDS.items()]
    arguments = [f"--config={options.config.absolute()}", *fields, *further]
    config, _ = parse([*arguments, f"--workdir={folder / 'run'}"])
    (folder / "run").mkdir(parents=True, exist_ok=True)
    with StopRequest() as stop:
        find_data(config, folder / "run", stop)
    soak = Soak(folder, arguments, int(config.train.checkpoint_every), rng)
    print("".join(f"{name:>{width}}" for name, width in COLUMNS.items()), flush=True)
    end, going = time.monotonic() + 60 * options.minutes, True
    while going and (left := end - time.monotonic()) > 0:
        after = options.kill_every * rng.uniform(0.2, 1.8)
        ending = rng.choices([*ENDINGS], [*ENDINGS.values()])[0] if after < left else "SIGTERM"
        going = soak.segment(ending, after, rng.random() < STEPPING_SHARE, left)
    compared = soak.undisturbed(60 * options.undisturbed) if options.undisturbed else 0
    for name, value in (soak.summary() | {"undisturbed_steps_compared": compared}).items():
        print(f"{name:<32}{value}")
    for problem in soak.lines.problems:
        print(f"problem: {problem}")
    return FAILED if soak.lines.problems else 0


if __name__ == "__main__":
    sys.exit(main())
