"""Time, memory and XLA's own figures of things that are run several times.

python -m dir_jax.benchmark.measure REQUEST.json     # peak memory, in a process of its own
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.compilation_cache import compilation_cache

MATRIX_SIZE = 2048
COPY_BYTES = 256 * 2**20
CEILING_REPEATS = 5
_STATUS = pathlib.Path("/proc/self/status")
_CLEAR = pathlib.Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
"""Written to clear_refs it resets the peak resident size (Linux, proc(5))."""


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of one run.

    Attributes:
      seconds: median of all runs.
      fastest_s: of all runs.
      slowest_s: of all runs.
      runs: how many.
    """

    seconds: float
    fastest_s: float
    slowest_s: float
    runs: int


def progress(text: str) -> None:
    """Says what is being done, where somebody watches."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def first_line(error: Exception) -> str:
    """What an error says, short enough for a row of a table."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


def time_in_turn(
    runs: Mapping[str, Callable[[], object]],
    repeats: int,
    *,
    warm_up: int = 1,
    may_fail: Callable[[str], bool] = lambda name: False,
) -> dict[str, Timing | str]:
    """Times several things against each other.

    One round runs each of them once, so that whatever else the machine does weighs on all of them
    alike and the ratios of the medians mean something.

    Args:
      runs: name to a function that returns when its work is done.
      repeats: rounds that count.
      warm_up: rounds before them.
      may_fail: whether a name's errors are a result rather than the end.

    Returns:
      Name to `Timing`, or to the reason of its failure.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    failed: dict[str, str] = {}
    for number in range(warm_up + repeats):
        for name in (n for n in runs if n not in failed):
            progress(f"round {number + 1} of {warm_up + repeats}: {name}")
            try:
                spent, _ = once(runs[name])
            except Exception as error:
                if not may_fail(name):
                    raise
                failed[name] = first_line(error)
                continue
            if number >= warm_up:
                seconds[name].append(spent)
    progress("")
    timed = {
        name: Timing(statistics.median(spent), min(spent), max(spent), len(spent))
        for name, spent in seconds.items()
        if name not in failed
    }
    return timed | failed


def once(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of one call, and its result."""
    begin = time.perf_counter()
    result = run()
    return time.perf_counter() - begin, result


def xla_figures(program: Any) -> dict[str, float | int | None]:
    """What XLA says of a compiled program; None where it says nothing.

    Returns:
      xla_flops: floating-point operations as XLA counts them; xla_bytes: what all instructions
      together read and write; xla_temporary_bytes; xla_peak_bytes: arguments, results and
      temporaries together, without what is donated; xla_fusions: fused kernels.
    """
    cost, memory = program.cost_analysis() or {}, program.memory_analysis()
    temporary = peak = None
    if memory is not None:
        temporary = memory.temp_size_in_bytes
        peak = memory.argument_size_in_bytes + memory.output_size_in_bytes + temporary
        peak -= memory.alias_size_in_bytes
    return {
        "xla_flops": cost.get("flops"),
        "xla_bytes": cost.get("bytes accessed"),
        "xla_temporary_bytes": temporary,
        "xla_peak_bytes": peak,
        "xla_fusions": (program.as_text() or "").count(" fusion("),
    }


@contextlib.contextmanager
def fresh_cache() -> Iterator[str]:
    """An empty persistent compilation cache, which processes of their own can share.

    Yields:
      Its folder.
    """
    names = ("compilation_cache_dir", "persistent_cache_min_compile_time_secs")
    before = [getattr(jax.config, f"jax_{name}") for name in names]

    def configure(values):
        for name, value in zip(names, values, strict=True):
            jax.config.update(f"jax_{name}", value)
        compilation_cache.reset_cache()

    with tempfile.TemporaryDirectory() as folder:
        configure([folder, 0.0])
        try:
            yield folder
        finally:
            configure(before)


def ceilings() -> dict[str, float]:
    """What the device reaches at best: a large matrix product and a large copy, float32.

    Returns:
      matrix_gflop_s, and memory_gb_s of reading and writing together.
    """
    matrix = jax.random.normal(jax.random.key(0), (MATRIX_SIZE, MATRIX_SIZE))
    numbers = jnp.zeros(COPY_BYTES // 4, jnp.float32)
    multiply, copy = jax.jit(jnp.matmul), jax.jit(lambda x: x + 1)
    runs = {
        "matrix": lambda: multiply(matrix, matrix).block_until_ready(),
        "copy": lambda: copy(numbers).block_until_ready(),
    }
    times = time_in_turn(runs, CEILING_REPEATS)
    return {
        "matrix_gflop_s": 2 * MATRIX_SIZE**3 / times["matrix"].fastest_s / 1e9,
        "memory_gb_s": 2 * COPY_BYTES / times["copy"].fastest_s / 1e9,
    }


def _status(field: str) -> int | None:
    if not _STATUS.exists():
        return None
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return None


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


def peak_bytes(request: dict[str, Any]) -> int | None:
    """Peak memory of what a request names, in a fresh process; None when that cannot be known.

    On a GPU the device's own counter is read; on a CPU, the process's largest resident size during
    a run after the first (compiling does not count), less its size once everything is imported.

    Args:
      request: `config` (fields of the model), `variant`, `mode`, `batch`, `mano` (folder or
        None), `cache` (folder of compiled programs) and `reference` (a checkout, or None for our
        own network), `memory_format` (of the reference).
    """
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "request.json"
        file.write_text(json.dumps(request))
        settings = {
            "JAX_COMPILATION_CACHE_DIR": request["cache"],
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        result = subprocess.run(
            [sys.executable, "-m", "dir_jax.benchmark.measure", str(file)],
            capture_output=True,
            text=True,
            env=os.environ | settings,
            check=False,
        )
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        print(f"warning: peak memory was not measured: {last}", file=sys.stderr)
        return None
    return json.loads(result.stdout.splitlines()[-1])


def _peak_here(request: dict[str, Any]) -> int | None:
    from dir_jax.benchmark import competitors, programs
    from mano_jax import load_hands

    jnp.zeros(1).block_until_ready()
    if request["reference"]:
        import torch
    imported = _status("VmRSS")
    hands = load_hands(request["mano"])
    mode, batch, counter = request["mode"], request["batch"], None
    variant = programs.VARIANTS[request["variant"]]
    model = programs.variant_model(request["config"], hands, variant)
    if request["reference"]:
        network = competitors.load(request["reference"], model, request["memory_format"])
        run = getattr(competitors, mode)(network, batch)
        run()
        if network.device == "cuda":
            counter = torch.cuda.max_memory_allocated
    else:
        run = programs.build(model, programs.pseudo_variables(model), variant, mode, batch).run
        if jax.devices()[0].memory_stats():
            counter = lambda: jax.devices()[0].memory_stats().get("peak_bytes_in_use")  # noqa: E731
    resident = peak_resident_bytes(run)
    if counter is not None:
        return counter()
    return None if resident is None or imported is None else resident - imported


if __name__ == "__main__":
    print(json.dumps(_peak_here(json.loads(pathlib.Path(sys.argv[1]).read_text()))))
