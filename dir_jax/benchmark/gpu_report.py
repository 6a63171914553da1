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
import itertools
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax

from dir_jax.benchmark import hands as hand_layers
from dir_jax.benchmark import programs
from dir_jax.benchmark.measure import first_line, progress, time_in_turn, xla_figures
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
    rows: list[dict[str, Any]] = []

    def add(what: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        progress(what)
        try:
            found = run()
        except Exception as error:  # out of memory: the other lines are still worth having
            found = {"failed": first_line(error)}
        progress("")
        rows.append({"what": what, **found})
        print(_line(rows[-1]))
        write_json(f"{arguments.gpu_report}.json", {**stamp, "rows": rows})
        head = "\n".join(f"{name}: {value}  " for name, value in stamp.items())
        lines = "\n".join(["| what | result |", "| --- | --- |", *map(_line, rows)])
        write_bytes(f"{arguments.gpu_report}.md", f"{head}\n\n{lines}\n".encode())
        return found

    def timed(mode: str, batch: int, precision: str, **fields: Any) -> dict[str, Any]:
        matmul, variant = PRECISIONS[precision]
        changed = dataclasses.replace(config, **fields)
        with jax.default_matmul_precision(matmul):
            return _network(changed, pair, variant, mode, batch, arguments.repeats)

    for precision, batch in itertools.product(PRECISIONS, batches):
        what = f"inference, batch {batch}, {precision}"
        add(what, lambda p=precision, b=batch: timed("forward", b, p))
    last, steps = batches[-1], []
    for precision in PRECISIONS:
        what = f"training step, batch {last}, {precision}"
        steps.append(add(what, lambda p=precision: timed("train_step", last, p)))
    for stages in (1, 2, 3):
        paper = {"paper_per_s": PAPER_FPS[stages]} if stages in PAPER_FPS else {}
        add(
            f"one picture at a time, T = {stages}, TF32",
            lambda t=stages, paper=paper: timed("forward", 1, "TF32", stages=t) | paper,
        )
    wanted = max((step.get("per_s", 0) for step in steps), default=0)
    add("input pipeline", lambda: {"per_s": pipeline_rate(last), "step_needs_per_s": wanted})
    for mode in hand_layers.MODES:
        add(f"hand model, {HANDS:,} hands, {mode}", lambda mode=mode: _hands(pair, mode))
    return 0 if any("failed" not in row for row in rows) else 1


def _line(row: dict[str, Any]) -> str:
    figures = {n: float(f"{v:.4g}") if isinstance(v, float) else v for n, v in row.items()}
    what = figures.pop("what")
    return f"| {what} | {', '.join(f'{name} {value}' for name, value in figures.items())} |"


def _network(config, pair, variant, mode, batch, repeats) -> dict[str, Any]:
    chosen = programs.VARIANTS[variant]
    model = programs.variant_model(config, pair, chosen)
    program = programs.build(model, programs.pseudo_variables(model), chosen, mode, batch)
    timing = time_in_turn({"run": program.run}, repeats)["run"]
    statistics = jax.devices()[0].memory_stats() or {}
    peak = xla_figures(program.compiled)["xla_peak_bytes"]
    return {
        "seconds": timing.seconds,
        "per_s": batch / timing.seconds,
        "peak_gb": (peak or 0) / 1e9,
        "device_gb_so_far": statistics.get("peak_bytes_in_use", 0) / 1e9,
    }


def _hands(pair, mode: str) -> dict[str, Any]:
    run = hand_layers.ours(pair, hand_layers.inputs(HANDS), mode)
    timing = time_in_turn({"run": run}, 5)["run"]
    return {"seconds": timing.seconds, "per_s": HANDS / timing.seconds}


def pipeline_rate(batch_size: int, batches: int = 10) -> float:
    """Training crops a second from the input pipeline, of hands synthesised for it."""
    from input_pipeline.augment import AugmentConfig
    from input_pipeline.batches import TrainBatches

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        raw, data = (str(pathlib.Path(folder) / name) for name in ("raw", "data"))
        made = ["--output", raw, "--train", "64", "--test", "8", "--seed", "0"]
        for module, options in (
            ("synthesize", made),
            ("prepare", ["--source", raw, "--output", data]),
        ):
            command = [sys.executable, "-m", f"input_pipeline.{module}", *options]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise ValueError((done.stderr.strip().splitlines() or [f"{module} failed"])[-1])
        stream = TrainBatches(data, batch_size=batch_size, seed=0, augment=AugmentConfig())
        stack.callback(stream.close)
        for _ in itertools.islice(stream, 3):
            pass
        begin = time.perf_counter()
        for _ in itertools.islice(stream, batches):
            pass
        return batches * batch_size / (time.perf_counter() - begin)
