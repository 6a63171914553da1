"""Computes one step of a training run again, to find out what went wrong in it.

    python -m dir_jax.training.replay --workdir RUN --step 1234

Reads RUN/config.json, takes the newest whole checkpoint before that step, repeats the steps in
between (to the bit, on as many devices as the run had) and then the step itself. Says which terms
are not finite, and leaves in RUN/replay_step_1234: batch.npz (what the network was fed),
photos.png (its photographs), before/ (parameters and statistics before the step, a folder that
every --checkpoint option takes). RUN itself is not changed otherwise.

Exit codes: 0 replayed, 2 bad input.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from dir_jax.pictures.drawing import contact_sheet, save_png
from dir_jax.training import settings
from dir_jax.training.data import find_data, frame_names, training_batches
from dir_jax.training.run import template_state
from dir_jax.training.start import Run, build_run, check_sources
from dir_jax.training.state import TrainState, restore_train_state
from dir_jax.training.stop import StopRequest
from dir_jax.weights import checkpoint_items
from dir_jax.weights.checkpoints import CheckpointError, present_steps, save_variables
from dir_jax.weights.workdir import CHECKPOINTS_FOLDER
from input_pipeline.files import whole_file


def replay(workdir: Path, step: int, data_dir: str = "") -> dict[str, Any]:
    """Replays one step and leaves what the module's docstring says.

    Args:
      workdir: of the run.
      step: its number, as in metrics.jsonl and nonfinite_step_*.json.
      data_dir: the prepared data, if they have been moved.

    Returns:
      "frames", "metrics" (by name), "not_finite" (names), "start_step", "folder".

    Raises:
      ValueError: no such run, or no checkpoint before that step.
    """
    config = ConfigDict(settings.read_config(workdir))
    config.data.dir = data_dir or config.data.dir
    config.parallel.update({"coordinator": "", "processes": 1, "process": 0})
    hands = check_sources(config)
    run = build_run(config, workdir, hands, find_data(config, workdir, StopRequest()))
    state = state_before(run, step)
    start = int(state.step)
    compiled = run.compiled_step()
    state = run.parallel.replicate(state)
    folder = workdir / f"replay_step_{step}"
    for number, batch in enumerate(training_batches(config, run.data, start), start + 1):
        if number == step:
            leave(folder, run, batch, jax.device_get(state), step)
        shared = run.parallel.shard({**batch, "stop": np.zeros(len(batch["index"]), np.float32)})
        state, metrics = compiled(state, shared)
        if number == step:
            break
    found = {name: float(value) for name, value in jax.device_get(metrics).items()}
    return {
        "frames": frame_names(run.data, "train", batch["index"]),
        "metrics": {name: found[name] for name in found if name not in ("finite", "stop")},
        "not_finite": sorted(name for name, value in found.items() if not np.isfinite(value)),
        "start_step": start,
        "folder": folder,
    }


def state_before(run: Run, step: int) -> TrainState:
    """The state of the newest whole checkpoint before a step, as read; nothing is set aside.

    Raises:
      CheckpointError: there is none.
    """
    folder = run.workdir / CHECKPOINTS_FOLDER
    for candidate in reversed([found for found in present_steps(folder) if found < step]):
        try:
            checkpoint = checkpoint_items.read_step(folder / str(candidate))
        except checkpoint_items.DamagedError as error:
            print(f"warning: checkpoint {candidate} is damaged: {error}", file=sys.stderr)
            continue
        return restore_train_state(template_state(run), checkpoint)
    raise CheckpointError(
        f"{folder} holds no checkpoint before step {step} (there are {present_steps(folder)}); "
        "a run in a new --workdir with the same recipe reaches the same step"
    )


def leave(folder: Path, run: Run, batch: dict[str, np.ndarray], state: Any, step: int) -> None:
    """Writes the batch, its photographs and the variables before the step."""
    with whole_file(folder / "batch.npz") as temporary:
        np.savez(temporary, **batch)
    images = list(batch["image"])
    save_png(folder / "photos.png", contact_sheet(images, min(len(images), 8)))
    save_variables(folder / "before", state.variables, {**run.meta(), "replayed": step})


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
    try:
        found = replay(Path(options.workdir), options.step, options.data)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, value in found["metrics"].items():
        print(f"{name:<28}{value:.6g}")
    print(f"replayed from the checkpoint of step {found['start_step']}")
    print("photographs: " + ", ".join(found["frames"]))
    print(f"not finite: {', '.join(found['not_finite']) or 'nothing, this time'}")
    print(f"batch, photographs and parameters before the step are in {found['folder']}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
