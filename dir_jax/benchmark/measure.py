"""Time, memory and XLA's own figures of things that are run several times."""

from __future__ import annotations

import contextlib
import ctypes
import pathlib
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.compilation_cache import compilation_cache

from input_pipeline.commands import one_line
from input_pipeline.workers import pool

Figures = dict[str, Any]
"""What is known of something that was run, by name; {"failed": reason} of what cannot be run."""

MATRIX_SIZE = 2048
_CACHE = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
_STATUS = pathlib.Path("/proc/self/status")
_CLEAR = pathlib.Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
"""Written to clear_refs it resets the peak resident size (Linux, proc(5))."""


def progress(text: str) -> None:
    """Says what is being done, where somebody watches."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def attempt(run: Callable[[], Any]) -> Any:
    """What a function returns, or the exception that it raises."""
    try:
        return run()
    except Exception as error:  # of somebody else's code, or of memory: a row, not the end
        return error


def failure(error: Exception) -> Figures:
    """What an error says, short enough for a row of a table."""
    lines = str(error).strip().splitlines()
    return {"failed": next(iter(lines), type(error).__name__)[:200]}


def once(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of one call, and its result."""
    begin = time.perf_counter()
    result = run()
    return time.perf_counter() - begin, result


def time_in_turn(
    runs: Mapping[str, Callable[[], Any] | Exception],
    repeats: int,
    *,
    warm_up: int = 1,
    may_fail: Callable[[str], bool] = lambda name: False,
) -> dict[str, Figures]:
    """Times several things against each other.

    One round runs each of them once, so that whatever else the machine does weighs on all of them
    alike and the ratios of the medians mean something.

    Args:
      runs: name to a function that returns when its work is done, or to why there is none.
      repeats: rounds that count.
      warm_up: rounds before them, at least one.
      may_fail: whether a name's errors are a result rather than the end.

    Returns:
      By name `seconds` (the median), `fastest_s`, `slowest_s`, `runs`, and of the first call
      `first_s` and its `result`; or `failed`.
    """
    found: dict[str, Figures] = {}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(warm_up + repeats):
        for name, run in runs.items():
            if "failed" in found.get(name, ()):
                continue
            progress(f"round {number + 1} of {warm_up + repeats}: {name}")
            done = run if isinstance(run, Exception) else attempt(lambda run=run: once(run))
            if isinstance(done, Exception):
                if not may_fail(name):
                    raise done
                found[name] = failure(done)
                continue
            spent, result = done
            found.setdefault(name, {"first_s": spent, "result": result})
            if number >= warm_up:
                seconds[name].append(spent)
    progress("")
    for name, spent in seconds.items():
        if "failed" not in found[name]:
            found[name] |= {"seconds": statistics.median(spent), "runs": len(spent)}
            found[name] |= {"fastest_s": min(spent), "slowest_s": max(spent)}
    return found


def xla_figures(program: Any) -> Figures:
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
    before = [getattr(jax.config, name) for name in _CACHE]
    with tempfile.TemporaryDirectory() as folder:
        _keep_compiled(folder, 0.0)
        try:
            yield folder
        finally:
            _keep_compiled(*before)


def _keep_compiled(*values: Any) -> None:
    for name, value in zip(_CACHE, values, strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def matrix_gflop_s() -> float:
    """What the device reaches at best: a large matrix product, float32."""
    matrix = jax.random.normal(jax.random.key(0), (MATRIX_SIZE, MATRIX_SIZE))
    multiply = jax.jit(jnp.matmul)
    times = time_in_turn({"matrix": lambda: multiply(matrix, matrix).block_until_ready()}, 5)
    return 2 * MATRIX_SIZE**3 / times["matrix"]["fastest_s"] / 1e9


def _status(field: str) -> int | None:
    found = _STATUS.exists() and re.search(rf"^{field}:\s+(\d+)", _STATUS.read_text(), re.MULTILINE)
    return 1024 * int(found[1]) if found else None


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


def bytes_of_a_call(run: Callable[[], object]) -> int | None:
    """Memory that a call takes and gives back, its result included; None on a GPU, or unknown."""
    before = peak_resident_bytes(lambda: None)
    if jax.default_backend() != "cpu" or before is None:
        return None
    return max(peak_resident_bytes(run) - before, 0)


def peak_bytes(cache: str, request: Mapping[str, Any]) -> int | None:
    """Peak memory of what a request names, in a fresh process; None when that cannot be known.

    On a GPU the device's own counter is read; on a CPU, the process's largest resident size during
    a run after the first (compiling does not count), less its size once everything is imported.

    Args:
      cache: folder of compiled programs.
      request: `config` (fields of the model), `mode`, `batch` and `mano` (folder or None); of the
        PyTorch code also `reference` (the checkout) and `memory_format`.
    """
    try:
        with pool(1) as submit:
            return submit(_peak_here, cache, **request).result()
    except Exception as error:  # of somebody else's code, or of memory
        print(f"warning: peak memory was not measured: {one_line(error)}", file=sys.stderr)
        return None


def _peak_here(
    cache: str, config: Mapping[str, Any], mode: str, batch: int, mano: str | None, **reference: str
) -> int | None:
    """`peak_bytes`, in the process whose memory it is."""
    from dir_jax.benchmark import competitors, programs
    from mano_jax import load_hands

    _keep_compiled(cache, 0.0)
    jnp.zeros(1).block_until_ready()
    if reference:
        import torch
    imported, counter = _status("VmRSS"), None
    variant = programs.VARIANTS["default"]
    model = programs.variant_model(config, load_hands(mano), variant)
    if reference:
        run = competitors.build(**reference, model=model, mode=mode, batch=batch)
        run()
        if competitors.device() == "cuda":
            counter = torch.cuda.max_memory_allocated
    else:
        run = programs.build(model, programs.pseudo_variables(model), variant, mode, batch).run
        if jax.devices()[0].memory_stats():
            counter = lambda: jax.devices()[0].memory_stats().get("peak_bytes_in_use")  # noqa: E731
    resident = peak_resident_bytes(run)
    if counter is not None:
        return counter()
    return None if resident is None or imported is None else resident - imported
