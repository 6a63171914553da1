"""One segment of a soak: train.py from its start until a signal ends it, watched from outside."""

from __future__ import annotations

import dataclasses
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import dir_jax
from dir_jax.weights.workdir import CHECKPOINTS_FOLDER, METRICS_FILE

TRAIN = Path(dir_jax.__file__).resolve().parent.parent / "train.py"
POLL_SECONDS = 0.1
MEMORY_SECONDS = 5.0
SETTLING_SECONDS = 20.0
"""After the first step; memory is compared from here on."""
LEAVE_LIMIT_SECONDS = 120.0
STARTED = re.compile(r"^steps\s+\d+ of .*?(\d+) done$", re.MULTILINE)


@dataclasses.dataclass
class Segment:
    """What was seen from outside.

    Attributes:
      ending: the signal, "SIGKILL in write" when it struck while a checkpoint was being written.
      seconds: from start to signal.
      start_step: steps done at the start, None when the end came before it said so.
      first_step_seconds: from start to the first new metrics line, None when there was none.
      leave_seconds: from signal to end.
      exit_code: as subprocess has it.
      memory: (seconds since start, resident megabytes).
    """

    ending: str
    seconds: float = 0.0
    start_step: int | None = None
    first_step_seconds: float | None = None
    leave_seconds: float = 0.0
    exit_code: int | None = None
    memory: list[tuple[float, float]] = dataclasses.field(default_factory=list)

    @property
    def memory_growth_mb(self) -> float | None:
        """Resident megabytes at the end over those soon after the first step; None if too short."""
        if self.first_step_seconds is None:
            return None
        settled = [mb for at, mb in self.memory if at > self.first_step_seconds + SETTLING_SECONDS]
        return settled[-1] - settled[0] if len(settled) > 1 else None


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
      arguments: of train.py.
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
            [sys.executable, str(TRAIN), *arguments],
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
        found.exit_code = child.wait(LEAVE_LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        found.ending = "SIGTERM unheard"
        child.kill()
        found.exit_code = child.wait()
    found.leave_seconds = time.monotonic() - begin


def _look(found: Segment, pid: int, workdir: Path, log: Path, before: int | None) -> None:
    last = found.memory[-1][0] if found.memory else -MEMORY_SECONDS
    if found.seconds - last >= MEMORY_SECONDS and (megabytes := resident_mb(pid)):
        found.memory.append((round(found.seconds, 1), megabytes))
    if found.start_step is None:
        if said := STARTED.search(log.read_text(errors="replace")):
            found.start_step = int(said[1])
        return
    metrics = workdir / METRICS_FILE
    # A run that goes on puts a new file in the old one's place, without the steps to be repeated.
    if found.first_step_seconds is None and _inode(metrics) not in (None, before):
        if metrics.read_text().count("\n") > found.start_step:
            found.first_step_seconds = found.seconds


def resident_mb(pid: int) -> float:
    """Resident memory of a process in megabytes, 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"^VmRSS:\s+(\d+) kB", text, re.MULTILINE)
    return round(int(found[1]) / 1024, 1) if found else 0.0


def _inode(path: Path) -> int | None:
    return path.stat().st_ino if path.exists() else None
