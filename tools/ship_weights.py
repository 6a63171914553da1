"""A run's best weights as the file that is shipped, and what its half precision costs.

    python -m tools.ship_weights --workdir RUN --output dir_jax/weights/open_hands.safetensors

The numbers are written as float16 if that moves no joint of random pictures by more than 0.1 mm on
average, else as float32. What the file says of itself (network, hands, licence) comes from the run.
"""

from __future__ import annotations

import argparse
import pathlib
import sys

import jax
import numpy as np

from dir_jax.models.types import IMAGE_SIZE
from dir_jax.weights.loading import load_model, load_weights, save_weights
from input_pipeline.commands import command

WORTH_MM = 0.1
"""Half the size is worth this much."""


def moved_mm(model, variables, others, pictures: int = 4) -> float:
    """Mean distance, millimetres, between the joints by two sets of weights."""
    generator = np.random.default_rng(0)
    images = generator.normal(size=(pictures, IMAGE_SIZE, IMAGE_SIZE, 3)).astype(np.float32)
    run = jax.jit(lambda variables: model.apply(variables, images, train=False).stages[-1])
    first, second = (np.asarray(run(values).joints_xyz) for values in (variables, others))
    return 1000 * float(np.linalg.norm(first - second, axis=-1).mean())


@command
def main(arguments: list[str]) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--workdir", required=True, help="run, checkpoint or weights file")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="NAME.safetensors")
    options = parser.parse_args(arguments)
    loaded = load_model(options.workdir)
    config = loaded.meta["config"]["model"]
    about = {"hands": loaded.hands.name, "licence": "Apache-2.0"}
    for dtype in (np.float16, np.float32):
        save_weights(options.output, loaded.variables, config, dtype, **about)
        written, _ = load_weights(options.output)
        moved = moved_mm(loaded.model, loaded.variables, written)
        if moved <= WORTH_MM:
            break
    size = options.output.stat().st_size
    print(f"{options.output}: {np.dtype(dtype)}, {size:,} bytes, joints {moved:.3f} mm off")
    return 0


if __name__ == "__main__":
    sys.exit(main())
