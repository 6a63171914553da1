"""Writes inference as one file that runs without this code: serialised StableHLO, or ONNX.

    python -m dir_jax.export [--workdir DIR | --checkpoint PATH | --torch_checkpoint DIR.pth]
                             --output FILE [--platforms cpu cuda] [--separate_weights]
    python -m dir_jax.export --format onnx --output FILE.onnx

The program takes uint8 crops (B, 256, 256, 3) and gives the outputs named in `OUTPUTS`; StableHLO
for any B, ONNX for B = 1. docs/examples/run_exported.py and run_onnx.py, which need jax or
onnxruntime and numpy, show how to run it. `--check PHOTOS` compares what was written
with this code.

ONNX is written by jax2onnx, which translates the traced program operation by operation. The other
way, jax2tf and then tf2onnx, is closed: jax2tf wraps StableHLO as one operation, and
tf2onnx cannot look into it.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from dir_jax.models.network import DIR, normalise_images
from dir_jax.models.types import IMAGE_SIZE, LENGTH_SCALE
from dir_jax.prediction.photos import open_photo
from dir_jax.weights.loading import add_model_arguments, load_named_model
from input_pipeline.commands import FailedError, command
from input_pipeline.files import whole_file, write_bytes

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
OUTPUTS = ("vertices_xyz", "joints_xyz", "vertices_uv", "joints_uv", "params", "offset_xyz")
"""(B, 2, 778, 3) and (B, 2, 21, 3) metres from each hand's root joint; (B, 2, 778, 2) and
(B, 2, 21, 2) in [-1, 1] over the crop; (B, 2, 64); (B, 3) metres from the left wrist to the right
one. Hands in the order left, right."""


DRIFT = 1e-3
"""Largest distance of a vertex from ours, in sizes of its hand, that `--check` lets pass."""

Program = Callable[[np.ndarray], dict[str, np.ndarray]]
"""uint8 crops (B, 256, 256, 3) to `OUTPUTS`."""


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


def export_onnx(model: DIR, variables: Any) -> bytes:
    """Inference as an ONNX file with the weights in it, opset 23, for a batch of one."""
    import jax2onnx  # an extra of the installation

    constants = jax.tree.map(np.asarray, variables)

    def program(images):
        found = inference(model)(constants, images)
        return tuple(found[name] for name in OUTPUTS)

    images = jax.ShapeDtypeStruct((1, IMAGE_SIZE, IMAGE_SIZE, 3), jnp.uint8)
    written = jax2onnx.to_onnx(
        program,
        [images],
        model_name="dir_jax",
        input_names=["images"],
        output_names=list(OUTPUTS),
    )
    return written.SerializeToString()


def stablehlo_program(data: bytes, weights: Any = None) -> Program:
    """Runs what `export_inference` wrote, with `flat_weights` if they were left out."""
    run = jax.jit(jax.export.deserialize(bytearray(data)).call)
    first = () if weights is None else (jax.device_put(weights),)
    return lambda images: jax.device_get(run(*first, images))


def onnx_program(data: bytes) -> Program:
    """Runs what `export_onnx` wrote, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # else a line for every constant that it has no use for
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return lambda images: dict(
        zip(OUTPUTS, session.run(list(OUTPUTS), {"images": images}), strict=True)
    )


def drift(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> float:
    """The farthest that a vertex lies from ours, in the longest side of its hand's extent."""
    vertices = ours["vertices_xyz"]
    apart = np.linalg.norm(theirs["vertices_xyz"] - vertices, axis=-1).max(-1)
    return float((apart / np.ptp(vertices, axis=2).max(-1)).max())


def check(programs: dict[str, Program], names: Sequence[str]) -> None:
    """Prints each program's milliseconds a photo, from file to numbers, and its drift.

    Args:
      programs: by name; the first one is what the others are compared with.
      names: photos, each seen whole.

    Raises:
      PhotoError: a photo that cannot be read.
      FailedError: a drift above `DRIFT`.
    """
    milliseconds: dict[str, list[float]] = {name: [] for name in programs}
    worst = dict.fromkeys(programs, 0.0)
    for number, name in enumerate([names[0], *names]):  # the first one also compiles
        answers = {}
        for kind, program in programs.items():
            begin = time.perf_counter()
            answers[kind] = program(open_photo(name).crop()[None])
            if number:
                milliseconds[kind].append(1000 * (time.perf_counter() - begin))
        ours = next(iter(answers.values()))
        worst |= {kind: max(worst[kind], drift(ours, found)) for kind, found in answers.items()}
    for kind, times in milliseconds.items():
        print(
            f"{kind}: {statistics.median(times):.0f} ms a photo "
            f"({min(times):.0f} to {max(times):.0f}), drift {worst[kind]:.1e} of the hand's size"
        )
    if max(worst.values()) > DRIFT:
        raise FailedError(f"the file answers otherwise: by more than {DRIFT} of a hand's size")


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
    parser.add_argument("--format", choices=("stablehlo", "onnx"), default="stablehlo")
    parser.add_argument("--platforms", nargs="+", default=PLATFORMS[:2], choices=PLATFORMS)
    parser.add_argument(
        "--separate_weights",
        action="store_true",
        help="weights beside the program, in FILE.weights.npz, instead of inside it",
    )
    parser.add_argument(
        "--check", nargs="+", metavar="PHOTO", help="compare the file with this code on photos"
    )
    return parser


@command
def main(argv: list[str]) -> int:
    """Runs the command; returns its exit status."""
    arguments = _parser().parse_args(argv)
    output = pathlib.Path(arguments.output)
    if not output.parent.is_dir():
        raise ValueError(f"--output: there is no folder {output.parent}")
    separate = arguments.separate_weights
    if arguments.format == "onnx" and separate:
        raise ValueError("--separate_weights is of StableHLO; an ONNX file holds its weights")
    loaded = load_named_model(arguments)
    if arguments.format == "onnx":
        print("exporting; this takes minutes")
        data = export_onnx(loaded.model, loaded.variables)
    else:
        print(f"exporting for {', '.join(arguments.platforms)}")
        platforms = tuple(arguments.platforms)
        data = export_inference(loaded.model, loaded.variables, platforms, separate)
    weights = flat_weights(loaded.variables) if separate else None
    if weights:
        with whole_file(weights_file(output)) as temporary, open(temporary, "wb") as file:
            np.savez(file, **weights)
    write_bytes(output, data)
    print(f"{output}: {len(data) / 1e6:.1f} MB")
    if arguments.check:
        run, variables = jax.jit(inference(loaded.model)), jax.device_put(loaded.variables)
        programs = {
            "this code": lambda images: jax.device_get(run(variables, images)),
            arguments.format: onnx_program(data)
            if arguments.format == "onnx"
            else stablehlo_program(data, weights),
        }
        check(programs, arguments.check)
    return 0


if __name__ == "__main__":
    sys.exit(main())
