"""How fast training examples are made, where the time goes, and beside the PyTorch code's loader.

    python -m tools.pipeline_speed --data DATA [--reference CHECKOUT] [--json FILE]

Run it on an otherwise idle machine. The reference does per example what its training set does:
three JPEGs decoded, two hands posed on the CPU, three images warped, colour and noise. Ours leaves
posing and drawing to the device (`dir_jax.losses.targets`); that cost is not in these figures.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from input_pipeline.commands import command
from input_pipeline.files import write_json

WARM_UP_BATCHES = 5
_STAGE_REPEATS = 40
_REFERENCE_EXAMPLES = 64


def time_pipeline(data_dir: str, config: str, batch_size: int, batches: int) -> dict[str, float]:
    """Speed of the augmented training batches.

    Returns:
      examples_per_second; cpu_ms_per_example over all threads; first_batch_s from the call to the
      first batch (reading, tracing and compiling).
    """
    from input_pipeline.augment import AugmentConfig
    from input_pipeline.batches import TrainBatches

    begin = time.perf_counter()
    stream = TrainBatches(
        data_dir, config=config, batch_size=batch_size, seed=0, augment=AugmentConfig()
    )
    next(stream)
    first = time.perf_counter() - begin
    for _ in itertools.islice(stream, WARM_UP_BATCHES):
        pass
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in itertools.islice(stream, batches):
        pass
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    stream.close()
    examples = batches * batch_size
    return {
        "examples_per_second": examples / wall,
        "cpu_ms_per_example": 1e3 * cpu / examples,
        "first_batch_s": first,
    }


def time_stages(data_dir: str, config: str) -> dict[str, float]:
    """CPU milliseconds an example of every stage by itself (motion blur: when it is drawn)."""
    import tensorflow as tf

    from input_pipeline import augment, dataset
    from input_pipeline.batches import parse

    source = dataset.open_split(data_dir, "train", config)
    numbers = itertools.cycle(range(len(source)))
    serialized = tf.constant(source.read([0])[0])
    example, image = parse(serialized)
    ranges = augment.AugmentConfig()
    seed = augment.example_seed(0, 0, 0)
    turn, _, _ = augment.geometry(40.0, 1.0, (3.0, 4.0), False, example["camera"])
    wide = augment.warp(image, turn, border=augment.REACH)
    sharp = wide[augment.REACH : -augment.REACH, augment.REACH : -augment.REACH]

    def draw_and_geometry():
        draws = augment.draw(seed, ranges)
        return augment.geometry(
            draws["rotation_degrees"],
            draws["scale"],
            draws["translation_px"],
            draws["flip"],
            example["camera"],
        )

    gain = tf.constant([1.1, 1.0, 0.9])
    stages: dict[str, Callable] = {
        "parse and decode": tf.function(lambda: parse(serialized)),
        "draw and geometry": tf.function(draw_and_geometry),
        "warp": tf.function(lambda: augment.warp(image, turn, border=augment.REACH)),
        "motion blur": tf.function(lambda: augment.blur(wide, 9, 0.5)),
        "colour and noise": tf.function(lambda: augment.recolour(sharp, gain, 3.0, 2.55, seed)),
    }
    costs = {"read": _cpu_ms(lambda: source.read([next(numbers)]))}
    return costs | {name: _cpu_ms(stage) for name, stage in stages.items()}


def _cpu_ms(stage: Callable) -> float:
    for _ in range(3):
        stage()
    begin = time.process_time()
    for _ in range(_STAGE_REPEATS):
        stage()
    return 1e3 * (time.process_time() - begin) / _STAGE_REPEATS


def time_reference(
    data_dir: str, config: str, checkout: pathlib.Path, batch_size: int, batches: int, workers: int
) -> dict[str, float]:
    """The PyTorch code's loader on the same images.

    Returns:
      examples_per_second, cpu_ms_per_example.

    Raises:
      ValueError: the checkout is not one, torch is missing, or its loader failed.
    """
    import mano_jax
    from input_pipeline import dataset
    from tools import reference_loader

    if not (checkout / "dataset" / "interhand.py").is_file():
        raise ValueError(
            f"{checkout} is not a checkout of the PyTorch code: dataset/interhand.py is missing"
        )
    source = dataset.open_split(data_dir, "train", config)
    count = min(len(source), _REFERENCE_EXAMPLES)
    records = [source[index] for index in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        reference_loader.write_processed(pathlib.Path(folder), records, mano_jax.open_hands())
        options = {"batch_size": batch_size, "batches": batches, "workers": workers}
        options |= {"reference": checkout, "folder": folder}
        command = [sys.executable, "-m", "tools.reference_loader"]
        command += [text for name, value in options.items() for text in (f"--{name}", str(value))]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(f"the PyTorch code's loader could not be run: {last}")
    return json.loads(result.stdout.splitlines()[-1])


def _report(result: dict) -> None:
    ours = result["pipeline"]
    cores = result["cores"]
    print(f"training pipeline on {cores} cores, batches of {result['batch_size']}:")
    print(f"  {ours['examples_per_second']:.0f} examples/s")
    print(f"  {ours['cpu_ms_per_example']:.2f} ms of CPU an example")
    print(f"  first batch after {ours['first_batch_s']:.1f} s")
    print(f"  16 such cores would make {16e3 / ours['cpu_ms_per_example']:.0f} examples/s")
    print("CPU time of single stages, ms an example:")
    for name, cost in result["stages_ms"].items():
        print(f"  {name:<18} {cost:6.2f}")
    if "reference" in result:
        theirs = result["reference"]
        faster = ours["examples_per_second"] / theirs["examples_per_second"]
        cheaper = theirs["cpu_ms_per_example"] / ours["cpu_ms_per_example"]
        print(f"PyTorch code's loader, {theirs['workers']} workers:")
        print(
            f"  {theirs['examples_per_second']:.0f} examples/s: ours is {faster:.1f} times faster"
        )
        print(
            f"  {theirs['cpu_ms_per_example']:.2f} ms of CPU an example: {cheaper:.1f} times ours"
        )


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.pipeline_speed", description="Measures the training pipeline."
    )
    add = parser.add_argument
    add("--data", required=True, help="folder written by input_pipeline.prepare --output")
    add("--config", default="interacting", help="which prepared configuration")
    add("--batch_size", type=int, default=32)
    add("--batches", type=int, default=40, help="batches to measure")
    add("--reference", type=pathlib.Path, help="a checkout of the PyTorch code, to compare with")
    add("--json", type=pathlib.Path, help="write the figures here too")
    options = parser.parse_args(arguments)
    for name in ("batch_size", "batches"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} is {getattr(options, name)}; wanted 1 or more")
    return options


def _run(options: argparse.Namespace) -> dict:
    data = (options.data, options.config)
    size, batches = options.batch_size, options.batches
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    result = {"cores": cores, "batch_size": size}
    result["pipeline"] = time_pipeline(*data, size, batches)
    result["stages_ms"] = time_stages(*data)
    if options.reference:
        print("measuring the PyTorch code's loader", file=sys.stderr)
        few = max(2, batches // 4)
        figures = time_reference(*data, options.reference, size, few, cores)
        result["reference"] = {**figures, "workers": cores}
    return result


@command
def main(arguments: list[str]) -> int:
    """The command; returns its exit status."""
    options = _options(arguments)
    result = _run(options)
    if options.json:
        write_json(options.json, result)
    _report(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
