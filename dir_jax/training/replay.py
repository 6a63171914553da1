"""Computes one step of a training run again, to find out what went wrong in it.

    python -m dir_jax.training.replay --workdir RUN --step 1234

Reads RUN/config.json, takes the newest whole checkpoint before that step, repeats the steps in
between (bit for bit, on as many devices as the run had) and then the step itself. Says which terms
are not finite, and leaves in RUN/replay_step_1234: batch.npz (what the network was fed),
photos.png (its photographs), before/ (parameters and statistics before the step, a folder that
every --checkpoint option takes). RUN itself is not changed otherwise.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from configs.base import check
from dir_jax.models.network import create_model, variable_shapes
from dir_jax.pictures.drawing import contact_sheet, save_png
from dir_jax.training.data import find_data, frame_names, training_batches
from dir_jax.training.devices import Parallel
from dir_jax.training.interruptions import StopRequest
from dir_jax.training.run import build, read_config, total_steps
from dir_jax.training.step import restore_train_state
from dir_jax.weights import CHECKPOINTS_FOLDER
from dir_jax.weights.checkpoints import CheckpointError, present_steps, read_newest, save_variables
from input_pipeline.commands import command
from input_pipeline.files import whole_file
from mano_jax import load_hands


def replay(workdir: Path, step: int, data_dir: str = "") -> dict[str, Any]:
    """Replays one step and leaves what the module's docstring says.

    Args:
      workdir: of the run.
      step: its number, as in metrics.jsonl and nonfinite_step_*.json.
      data_dir: the prepared data, if they have been moved.

    Returns:
      "frames", "metrics" (by name), "not_finite" (names), "start_step", "folder".

    Raises:
      ValueError: no such run, no such step, or no checkpoint before it.
    """
    saved = read_config(workdir)
    if saved is None:
        raise ValueError(f"{workdir} holds no config.json; wanted the --workdir of a run")
    check(saved)
    config = ConfigDict(saved)
    config.data.dir = data_dir or config.data.dir
    data = find_data(config, workdir, StopRequest())
    steps = total_steps(config, data.sizes["train"])
    if not 1 <= step <= steps:
        raise ValueError(f"--step is {step}; wanted 1 to {steps}, the steps of this run")
    folder = workdir / CHECKPOINTS_FOLDER
    checkpoint, damaged = read_newest(folder, before=step)
    for number, reason in damaged.items():
        print(f"warning: checkpoint {number} is damaged: {reason}", file=sys.stderr)
    if checkpoint is None:
        raise CheckpointError(
            f"{folder} holds no checkpoint before step {step} (there are {present_steps(folder)}); "
            "a run in a new --workdir with the same recipe reaches the same step"
        )
    parallel = Parallel(config.parallel.backend)
    model = create_model(config.model.to_dict(), load_hands(config.mano))
    optimizer, train_step = build(config, parallel, model, steps)
    state = restore_train_state(variable_shapes(model), optimizer, checkpoint)
    start = int(state.step)
    state = parallel.replicate(state)
    for number, batch in enumerate(training_batches(config, data, start), start + 1):
        if number == step:
            variables = jax.device_get(state.variables)
        state, metrics = train_step(state, parallel.shard(batch))
        if number == step:
            break
    output = workdir / f"replay_step_{step}"
    with whole_file(output / "batch.npz") as temporary:
        np.savez(temporary, **batch)
    images = list(batch["image"])
    save_png(output / "photos.png", contact_sheet(images, min(len(images), 8)))
    about = {name: checkpoint.meta[name] for name in ("config", "hands", "hands_sha256", "steps")}
    save_variables(output / "before", variables, {**about, "replayed": step})
    found = {name: float(value) for name, value in jax.device_get(metrics).items()}
    return {
        "frames": frame_names(data, "train", batch["index"]),
        "metrics": {name: value for name, value in found.items() if name != "finite"},
        "not_finite": sorted(name for name, value in found.items() if not np.isfinite(value)),
        "start_step": start,
        "folder": output,
    }


@command
def main(arguments: list[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m dir_jax.training.replay",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workdir", required=True, help="of the training run")
    parser.add_argument("--step", type=int, required=True, help="which step")
    parser.add_argument("--data", default="", help="the prepared data, if they have been moved")
    options = parser.parse_args(arguments)
    found = replay(Path(options.workdir), options.step, options.data)
    for name, value in found["metrics"].items():
        print(f"{name:<28}{value:.6g}")
    print(f"replayed from the checkpoint of step {found['start_step']}")
    print("photographs: " + ", ".join(found["frames"]))
    print(f"not finite: {', '.join(found['not_finite']) or 'nothing, this time'}")
    print(f"batch, photographs and parameters before the step are in {found['folder']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
