"""Writes inference as one file that runs without this code: serialised StableHLO.

    python -m dir_jax.export (--workdir DIR | --checkpoint PATH | --torch_checkpoint DIR.pth)
                             --output FILE [--platforms cpu cuda] [--separate_weights]

The program takes uint8 photographs (B, 256, 256, 3), any B, and gives the outputs named in
`OUTPUTS`. docs/examples/run_exported.py, which needs only jax and numpy, shows how to run it.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from dir_jax.models.network import DIR, normalise_images
from dir_jax.models.types import IMAGE_SIZE, LENGTH_SCALE
from dir_jax.weights.loading import add_model_arguments, load_named_model
from input_pipeline.commands import command
from input_pipeline.files import whole_file, write_bytes

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
OUTPUTS = ("vertices_xyz", "joints_xyz", "vertices_uv", "joints_uv", "params", "offset_xyz")
"""(B, 2, 778, 3) and (B, 2, 21, 3) metres from each hand's root joint; (B, 2, 778, 2) and
(B, 2, 21, 2) in [-1, 1] over the crop; (B, 2, 64); (B, 3) metres from the left wrist to the right
one. Hands in the order left, right."""


def inference(model: DIR):
    """`function(variables, images)` of uint8 photographs; a dict of `OUTPUTS`."""

    def function(variables: Any, images: jax.Array) -> dict[str, jax.Array]:
        last = model.apply(variables, normalise_images(images), train=False).stages[-1]
        found = {name: getattr(last, name) for name in OUTPUTS if name != "offset_xyz"}
        return found | {"offset_xyz": last.offset * LENGTH_SCALE}

    return function


def export_inference(
    model: DIR,
    variables: Any,
    platforms: tuple[str, ...] = PLATFORMS[:2],
    separate_weights: bool = False,
) -> bytes:
    """Inference as serialised StableHLO, for any batch size.

    Args:
      model: the network.
      variables: its weights.
      platforms: where it shall run.
      separate_weights: leave the weights out; the program's first argument is then a dict of
        them, named as by `flat_weights`.

    Returns:
      What `jax.export.deserialize` reads.
    """
    function = inference(model)
    size = jax.export.symbolic_shape("batch")[0]
    images = jax.ShapeDtypeStruct((size, IMAGE_SIZE, IMAGE_SIZE, 3), jnp.uint8)
    if separate_weights:

        def program(flat, images):
            return function(traverse_util.unflatten_dict(flat, sep="/"), images)

        weights = flat_weights(variables)
        shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), weights)
        exported = jax.export.export(jax.jit(program), platforms=platforms)(shapes, images)
    else:
        constants = jax.tree.map(np.asarray, variables)
        program = jax.jit(lambda images: function(constants, images))
        exported = jax.export.export(program, platforms=platforms)(images)
    return exported.serialize()


def flat_weights(variables: Any) -> dict[str, np.ndarray]:
    """Weights by slash-separated names, numpy."""
    flat = traverse_util.flatten_dict(dict(variables), sep="/")
    return {name: np.asarray(value) for name, value in flat.items()}


def weights_file(output: pathlib.Path) -> pathlib.Path:
    """Where the weights lie that belong to a program without any: FILE.weights.npz."""
    return output.with_name(f"{output.name}.weights.npz")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dir_jax.export", description=__doc__.splitlines()[0]
    )
    add_model_arguments(parser)
    parser.add_argument("--output", required=True, metavar="FILE")
    parser.add_argument("--platforms", nargs="+", default=PLATFORMS[:2], choices=PLATFORMS)
    parser.add_argument(
        "--separate_weights",
        action="store_true",
        help="weights beside the program, in FILE.weights.npz, instead of inside it",
    )
    return parser


@command
def main(argv: list[str]) -> int:
    """Runs the command; returns its exit status."""
    arguments = _parser().parse_args(argv)
    output = pathlib.Path(arguments.output)
    if not output.parent.is_dir():
        raise ValueError(f"--output: there is no folder {output.parent}")
    loaded = load_named_model(arguments)
    platforms = tuple(arguments.platforms)
    separate = arguments.separate_weights
    print(f"exporting for {', '.join(platforms)}")
    data = export_inference(loaded.model, loaded.variables, platforms, separate)
    if separate:
        with whole_file(weights_file(output)) as temporary, open(temporary, "wb") as file:
            np.savez(file, **flat_weights(loaded.variables))
    write_bytes(output, data)
    print(f"{output}: {len(data) / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
