"""Time and memory of things that are run several times."""

from __future__ import annotations

import ctypes
import dataclasses
import pathlib
import statistics
import time
from collections.abc import Callable, Mapping

_STATUS = pathlib.Path("/proc/self/status")
_CLEAR = pathlib.Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
"""Written to clear_refs it resets the peak resident size (Linux, proc(5))."""


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of one run.

    Attributes:
      median: of all runs.
      low: fastest.
      high: slowest.
      runs: how many.
    """

    median: float
    low: float
    high: float
    runs: int


def time_in_turn(
    runs: Mapping[str, Callable[[], object]],
    repeats: int,
    *,
    warm_up: int = 1,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Timing]:
    """Times several things against each other.

    One round runs each of them once, so that whatever else the machine does weighs on all of them
    alike and the ratios of the medians mean something.

    Args:
      runs: name to a function that returns when its work is done.
      repeats: rounds that count.
      warm_up: rounds before them.
      progress: told what is running.

    Returns:
      Name to `Timing`.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(warm_up + repeats):
        for name, run in runs.items():
            progress(f"round {number + 1} of {warm_up + repeats}: {name}")
            begin = time.perf_counter()
            run()
            if number >= warm_up:
                seconds[name].append(time.perf_counter() - begin)
    return {
        name: Timing(statistics.median(all_runs), min(all_runs), max(all_runs), len(all_runs))
        for name, all_runs in seconds.items()
    }


def once(run: Callable[[], object]) -> tuple[float, object]:
    """Seconds of one call, and its result."""
    begin = time.perf_counter()
    result = run()
    return time.perf_counter() - begin, result


def resident_bytes() -> int | None:
    """Memory of this process now; None where the system does not say (not Linux)."""
    return _status("VmRSS")


def peak_resident_bytes(run: Callable[[], object]) -> int | None:
    """Largest memory of this process while `run` runs; None where the system does not say."""
    try:
        # What was freed long ago (compiling, say) must not count as in use.
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:
        return None
    run()
    return _status("VmHWM")


def _status(field: str) -> int | None:
    if not _STATUS.exists():
        return None
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return None
