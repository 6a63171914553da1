"""Everything that a GPU is asked for, by one command: python -m dir_jax.benchmark --gpu_report OUT.

Inference and the training step in float32, TF32 and bfloat16 with their peak memory, pictures a
second for one to three refinements beside the paper's on an A100, the input pipeline's rate beside
the step's, and the hand model at 16,384. Needs nothing but this package; what fails (memory, say)
is a line with the reason. OUT.json and OUT.md are written after each line.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import itertools
import tempfile
from collections.abc import Callable
from typing import Any

import jax

from dir_jax.benchmark import hands as hand_layers
from dir_jax.benchmark import programs
from dir_jax.benchmark.measure import (
    Figures,
    attempt,
    failure,
    once,
    progress,
    time_in_turn,
    xla_figures,
)
from dir_jax.benchmark.summary import network
from input_pipeline.files import write_bytes, write_json
from mano_jax import load_hands

BATCHES = [1, 8, 64]
HANDS = 16_384
PRECISIONS = {
    "float32": ("highest", "default"),
    "TF32": ("tensorfloat32", "default"),
    "bfloat16": ("default", "bfloat16"),
}
"""Name to jax_default_matmul_precision and the variant of the network."""

PAPER_FPS = {2: 31, 3: 23}
"""Pictures a second by refinements, one A100, PyTorch (the paper)."""


def write(arguments: argparse.Namespace, stamp: dict[str, str]) -> int:
    """Measures, prints and writes as it goes; returns the exit status.

    Args:
      arguments: of `python -m dir_jax.benchmark`; `set` and `batch` make it small for a try.
      stamp: when and on what it runs.
    """
    pair = load_hands(arguments.mano)
    config = network(arguments.model, arguments.set, pair).config
    batches = arguments.batch or BATCHES
    last = batches[-1]
    rows: list[Figures] = []

    def add(what: str, measured: Callable[..., Figures], *how: Any, **more: Any) -> None:
        progress(what)
        found = attempt(lambda: measured(*how) | more)
        # Out of memory, say: the other lines are still worth having.
        rows.append({"what": what} | (failure(found) if isinstance(found, Exception) else found))
        progress("")
        print(_line(rows[-1]))
        write_json(f"{arguments.gpu_report}.json", {**stamp, "rows": rows})
        head = "\n".join(f"{name}: {value}  " for name, value in stamp.items())
        lines = "\n".join(["| what | result |", "| --- | --- |", *map(_line, rows)])
        write_bytes(f"{arguments.gpu_report}.md", f"{head}\n\n{lines}\n".encode())

    timed = functools.partial(_network, config, pair, arguments.repeats)
    for precision, batch in itertools.product(PRECISIONS, batches):
        add(f"inference, batch {batch}, {precision}", timed, "forward", batch, precision)
    for precision in PRECISIONS:
        add(f"training step, batch {last}, {precision}", timed, "train_step", last, precision)
    wanted = max(row.get("per_s", 0) for row in rows[-len(PRECISIONS) :])
    for stages in (1, 2, 3):
        paper = {"paper_per_s": PAPER_FPS[stages]} if stages in PAPER_FPS else {}
        what = f"one picture at a time, T = {stages}, TF32"
        add(what, timed, "forward", 1, "TF32", stages, **paper)
    add("input pipeline", lambda: {"per_s": pipeline_rate(last), "step_needs_per_s": wanted})
    for mode in hand_layers.MODES:
        add(f"hand model, {HANDS:,} hands, {mode}", _hands, pair, mode)
    return 0 if any("failed" not in row for row in rows) else 1


def _line(row: Figures) -> str:
    figures = {n: float(f"{v:.4g}") if isinstance(v, float) else v for n, v in row.items()}
    what = figures.pop("what")
    return f"| {what} | {', '.join(f'{name} {value}' for name, value in figures.items())} |"


def _network(config, pair, repeats, mode, batch, precision, stages=None) -> Figures:
    matmul, variant = PRECISIONS[precision]
    chosen = programs.VARIANTS[variant]
    config = config if stages is None else dataclasses.replace(config, stages=stages)
    with jax.default_matmul_precision(matmul):
        model = programs.variant_model(config, pair, chosen)
        program = programs.build(model, programs.pseudo_variables(model), chosen, mode, batch)
        seconds = time_in_turn({"run": program.run}, repeats)["run"]["seconds"]
    statistics = jax.devices()[0].memory_stats() or {}
    peak = xla_figures(program.compiled)["xla_peak_bytes"]
    return {
        "seconds": seconds,
        "per_s": batch / seconds,
        "peak_gb": (peak or 0) / 1e9,
        "device_gb_so_far": statistics.get("peak_bytes_in_use", 0) / 1e9,
    }


def _hands(pair, mode: str) -> Figures:
    run = hand_layers.ours(pair, hand_layers.inputs(HANDS), mode)
    seconds = time_in_turn({"run": run}, 5)["run"]["seconds"]
    return {"seconds": seconds, "per_s": HANDS / seconds}


def pipeline_rate(batch_size: int, batches: int = 10) -> float:
    """Training crops a second from the input pipeline, of hands synthesised for it."""
    from input_pipeline import prepare, synthesize
    from input_pipeline.augment import AugmentConfig
    from input_pipeline.batches import TrainBatches

    with tempfile.TemporaryDirectory() as raw, tempfile.TemporaryDirectory() as data:
        made = ["--output", raw, "--train", "64", "--test", "8", "--seed", "0"]
        if synthesize.main(made) or prepare.main(["--source", raw, "--output", data]):
            raise ValueError("no photographs to measure with; the reason is above")
        stream = TrainBatches(data, batch_size=batch_size, seed=0, augment=AugmentConfig())
        with contextlib.closing(stream):
            for _ in itertools.islice(stream, 3):
                pass
            seconds, _ = once(lambda: list(itertools.islice(stream, batches)))
        return batches * batch_size / seconds
