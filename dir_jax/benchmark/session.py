"""Runs one mode at one batch size: our variants and the PyTorch code against each other."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable
from typing import Any

from dir_jax.benchmark import analysis, examples, memory, programs, torch_programs, variants
from dir_jax.benchmark.summary import operations
from dir_jax.benchmark.timing import Timing, once, time_in_turn
from dir_jax.models.network import DIR, create_model


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
      model: the default network.
      names: of variants.
      repeats: rounds that count.
      reference: a checkout of the PyTorch code, or None.
      torch_compile: whether it is also run through torch.compile (inference).
      mano: folder of the hands, or None, for processes of their own.
      cache: folder of the persistent compilation cache.
    """

    model: DIR
    names: list[str]
    repeats: int
    reference: str | None
    torch_compile: bool
    mano: str | None
    cache: str


def progress(text: str) -> None:
    """Says what is being done, where somebody watches."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def measure(plan: Plan, mode: str, batch: int) -> dict[str, Any]:
    """All figures of one mode and batch size.

    Returns:
      `variants` and `reference`: name to figures; `gflop_per_image`: of matrix products and
      convolutions of inference (`dir_jax.benchmark.summary`).
    """
    runs: dict[str, Callable[[], Any]] = {}
    chosen = variants.choose(plan.names, mode)
    ours: dict[str, dict[str, Any]] = {}
    results: dict[str, Any] = {}
    for name, variant in chosen.items():
        progress(f"{mode}, batch {batch}: compiling {name}")
        ours[name], program = _prepare(plan, variant, mode, batch)
        results[name], runs[name] = program.result, program.run
    for name, variant in chosen.items():
        against = _against(chosen, variant)
        comparable = against is not None and results[against].keys() == results[name].keys()
        apart = programs.difference(results[name], results[against]) if comparable else None
        limit = variant.tolerance if mode == "forward" else None
        agrees = None if apart is None or limit is None else apart <= limit
        ours[name] |= {"difference": apart, "agrees": agrees}
    theirs = {}
    if plan.reference:
        theirs = _reference(plan, mode, batch, results["default"], runs)
    times = time_in_turn(runs, plan.repeats, progress=progress)
    progress("")
    for name, timing in times.items():
        (ours if name in ours else theirs)[name] |= _figures(timing)
    runs.clear()
    ours["default"]["peak_bytes"] = _peak(plan, mode, batch, "default")
    for name in theirs:
        way, memory_format = name.split(" ")
        if way == "eager":
            theirs[name]["peak_bytes"] = _peak(plan, mode, batch, "default", memory_format)
    gflop = sum(operations(plan.model).values()) / 1e9
    return {"variants": ours, "reference": theirs, "gflop_per_image": gflop}


def _against(chosen: dict[str, variants.Variant], variant: variants.Variant) -> str | None:
    """The variant whose result this one must have, if it is being measured."""
    if not variant.against:
        return "default"
    return next((n for n, other in chosen.items() if other.against == variant.against), None)


def _prepare(plan: Plan, variant: variants.Variant, mode: str, batch: int):
    base = dataclasses.replace(plan.model.config, **variant.against)
    model = programs.with_fields(create_model(base, plan.model.hands), variant)
    weights = examples.pseudo_variables(model)
    cold, cached, program = analysis.compile_twice(
        lambda: programs.build(model, weights, variant, mode, batch)
    )
    xla = analysis.analyse(program.compiled)
    figures = {
        "purpose": variant.purpose,
        "compile_s": cold,
        "compile_cached_s": cached,
        "xla_flops": xla.flops,
        "xla_bytes": xla.traffic_bytes,
        "xla_peak_bytes": xla.peak_bytes,
        "peak_bytes": None,
    }
    return figures, program


def _reference(plan, mode, batch, result, runs) -> dict[str, dict[str, Any]]:
    """Adds the PyTorch code's runs to `runs`; returns what is known before they are timed."""
    found = {}
    for memory_format in torch_programs.FORMATS:
        state = examples.pseudo_state(plan.model)
        network = torch_programs.load(plan.reference, plan.model, state, memory_format)
        ways = {"eager": {}}
        if plan.torch_compile and mode == "forward":
            ways["compile"] = {"compiled": True}
        for way, options in ways.items():
            name = f"{way} {memory_format}"
            progress(f"{mode}, batch {batch}: PyTorch {name}, first run")
            run = getattr(torch_programs, mode)(network, batch, **options)
            first, theirs = once(run)
            apart = programs.difference(result, theirs) if mode == "forward" else None
            runs[name] = run
            found[name] = {"first_s": first, "difference": apart, "peak_bytes": None}
    return found


def _figures(timing: Timing) -> dict[str, Any]:
    return {
        "seconds": timing.median,
        "fastest_s": timing.low,
        "slowest_s": timing.high,
        "runs": timing.runs,
    }


def _peak(plan: Plan, mode: str, batch: int, variant: str, memory_format: str | None = None):
    progress(f"{mode}, batch {batch}: peak memory")
    return memory.measure(
        {
            "config": dataclasses.asdict(plan.model.config),
            "variant": variant,
            "mode": mode,
            "batch": batch,
            "mano": plan.mano,
            "cache": plan.cache,
            "reference": plan.reference if memory_format else None,
            "memory_format": memory_format,
        }
    )


def stamp() -> dict[str, str]:
    """When and on what the figures were measured."""
    import jax

    device = jax.devices()[0]
    return {
        "time": time.strftime("%Y-%m-%d %H:%M:%S"),
        "jax": jax.__version__,
        "device": f"{device.platform} {device.device_kind}",
    }
