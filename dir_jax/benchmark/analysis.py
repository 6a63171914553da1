"""What XLA says about programs, and what the machine can do at best."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.compilation_cache import compilation_cache

from dir_jax.benchmark.timing import once, time_in_turn

MATRIX_SIZE = 2048
COPY_BYTES = 256 * 2**20
CEILING_REPEATS = 5


@dataclasses.dataclass(frozen=True)
class Analysis:
    """XLA's figures of one or several programs; None where it gives none.

    Attributes:
      flops: floating-point operations as XLA counts them.
      traffic_bytes: bytes that all instructions together read and write.
      peak_bytes: arguments, results and temporaries together, without what is donated.
    """

    flops: float | None
    traffic_bytes: float | None
    peak_bytes: int | None


def analyse(programs: tuple[Any, ...]) -> Analysis:
    """Adds up operations and traffic of programs run one after the other; the largest peak."""
    costs = [program.cost_analysis() or {} for program in programs]
    memories = [program.memory_analysis() for program in programs]
    peaks = [_peak(memory) for memory in memories if memory is not None]
    return Analysis(
        _sum(cost.get("flops") for cost in costs),
        _sum(cost.get("bytes accessed") for cost in costs),
        max(peaks) if peaks else None,
    )


def _sum(values) -> float | None:
    known = [value for value in values if value is not None]
    return float(sum(known)) if known else None


def _peak(memory) -> int:
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )


@contextlib.contextmanager
def fresh_cache() -> Iterator[str]:
    """An empty persistent compilation cache, used for everything compiled in the block.

    Yields:
      Its folder.
    """
    settings = {
        "jax_compilation_cache_dir": None,
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    with tempfile.TemporaryDirectory() as folder:
        settings["jax_compilation_cache_dir"] = folder
        try:
            _configure(settings)
            yield folder
        finally:
            _configure(before)


def _configure(settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def compile_twice(build: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds to trace, compile and run once from nothing, then with the persistent cache filled.

    Call it within `fresh_cache`.

    Returns:
      cold seconds, cached seconds, and what the second call built.
    """
    jax.clear_caches()
    cold, built = once(build)
    del built
    jax.clear_caches()
    cached, built = once(build)
    return cold, cached, built


def ceilings() -> dict[str, float]:
    """What the device reaches at best: a large matrix product and a large copy, float32.

    Returns:
      matrix_gflop_s, and memory_gb_s of reading and writing together.
    """
    matrix = jax.random.normal(jax.random.key(0), (MATRIX_SIZE, MATRIX_SIZE))
    numbers = jnp.zeros(COPY_BYTES // 4, jnp.float32)
    multiply, copy = jax.jit(jnp.matmul), jax.jit(lambda x: x + 1)
    times = time_in_turn(
        {
            "matrix": lambda: multiply(matrix, matrix).block_until_ready(),
            "copy": lambda: copy(numbers).block_until_ready(),
        },
        CEILING_REPEATS,
    )
    return {
        "matrix_gflop_s": 2 * MATRIX_SIZE**3 / times["matrix"].low / 1e9,
        "memory_gb_s": 2 * COPY_BYTES / times["copy"].low / 1e9,
    }
