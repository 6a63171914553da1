"""Runs a program written by `python -m dir_jax.export`. Needs nothing but jax and numpy.

    python run_exported.py --program FILE [--weights FILE.weights.npz] --images IMAGES.npy
                           --output RESULT.npz

IMAGES.npy: uint8 (B, 256, 256, 3) RGB crops. The file can be copied anywhere: it imports nothing
of this project.
"""

import argparse
import sys

import jax
import numpy as np


def main(argv=None):
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", required=True, metavar="FILE")
    parser.add_argument("--weights", metavar="FILE", help="if exported with --separate_weights")
    parser.add_argument("--images", required=True, metavar="FILE.npy")
    parser.add_argument("--output", required=True, metavar="FILE.npz")
    arguments = parser.parse_args(argv)
    try:
        result = run(arguments.program, arguments.weights, arguments.images)
        with open(arguments.output, "wb") as file:
            np.savez(file, **result)
    except (ValueError, OSError) as error:
        print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
    for name, value in result.items():
        print(f"{name:<14} {value.shape} {value.dtype}")
    return 0


def run(program, weights, images):
    """Results by name, numpy.

    Args:
      program: file written by dir_jax.export.
      weights: its weights file, or None if they are inside.
      images: npy file, uint8 (B, 256, 256, 3).

    Raises:
      ValueError: a file that is not what it should be.
      OSError: a file that cannot be read.
    """
    with open(program, "rb") as file:
        data = bytearray(file.read())
    try:
        exported = jax.export.deserialize(data)
    except Exception as error:  # a damaged file fails in the reader's depths, in many ways
        raise ValueError(f"{program} is not an exported program") from error
    pictures = np.load(images, allow_pickle=False)
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[1:] != (256, 256, 3):
        raise ValueError(
            f"{images} holds {pictures.dtype} {pictures.shape}; wanted uint8 (B, 256, 256, 3)"
        )
    arguments = [pictures]
    if weights:
        with np.load(weights, allow_pickle=False) as file:
            arguments.insert(0, {name: file[name] for name in file.files})
    return {name: np.asarray(value) for name, value in exported.call(*arguments).items()}


if __name__ == "__main__":
    sys.exit(main())
