"""Runs a file written by `python -m dir_jax.export --format onnx`: onnxruntime, numpy, Pillow.

    python run_onnx.py --model FILE.onnx --image PHOTO --box x,y,w,h --output RESULT.npz

The file can be copied anywhere: it imports nothing of this project.
"""

import argparse

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

SIDE = 256
ROOM = 1.25  # the box fills four fifths of the crop, as in training


def crop_of(photo, box):
    """The square (256, 256, 3) uint8 around a box; black where the photo ends."""
    x, y, width, height = box
    half = ROOM * max(width, height) / 2
    left, top, scale = x + width / 2 - half, y + height / 2 - half, 2 * half / SIDE
    matrix = (scale, 0, left, 0, scale, top)
    how = Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    return np.asarray(photo.transform((SIDE, SIDE), *how))


def main():
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("--model", "--image", "--box", "--output"):
        parser.add_argument(name, required=True)
    arguments = parser.parse_args()
    photo = ImageOps.exif_transpose(Image.open(arguments.image)).convert("RGB")
    crop = crop_of(photo, [float(value) for value in arguments.box.split(",")])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # else a line for every constant that it has no use for
    session = onnxruntime.InferenceSession(arguments.model, options)
    names = [output.name for output in session.get_outputs()]
    result = dict(zip(names, session.run(names, {"images": crop[None]}), strict=True))
    np.savez(arguments.output, **result)
    for name, value in result.items():
        print(f"{name:<14} {value.shape}")  # what they are: `OUTPUTS` in dir_jax/export.py


if __name__ == "__main__":
    main()
