"""MediaPipe's two hand networks from TensorFlow Lite files to the package's safetensors files.

    npm pack @mediapipe/hands@0.4.1675469240
    pip install tflite
    python -m tools.convert_mediapipe --package mediapipe-hands-0.4.1675469240.tgz \
        --output dir_jax/weights

Source: Google's `hand_landmark_full.tflite` and, inside `hands_solution_packed_assets.data`,
`palm_detection_full.tflite`, of the npm package named above (the wheel mediapipe 0.10.21 on PyPI
holds the same files), known by their SHA-256. Licence: Apache-2.0; its notice lies beside the
result, and every file's metadata names source, checksum and licence. Numbers are copied as they
are, float16; only the order of a kernel's axes changes. Names are those that
`dir_jax.models.mediapipe` reads.
"""

from __future__ import annotations

import argparse
import hashlib
import pathlib
import sys
import tarfile
from collections.abc import Iterator

import numpy as np

from dir_jax.models.mediapipe import (
    LANDMARK_BLOCKS,
    LANDMARK_FILE,
    PALM_BLOCKS,
    PALM_FILE,
    PALM_LEVELS,
)
from input_pipeline.commands import command

PACKAGE = "@mediapipe/hands@0.4.1675469240"
SOURCES = {
    LANDMARK_FILE: (
        "package/hand_landmark_full.tflite",
        slice(None),
        "8c026882c9ec059ce0f8e75266bee5a9a23c341a40e0000df755374d3d1b9b68",
    ),
    PALM_FILE: (
        "package/hands_solution_packed_assets.data",
        slice(11, 2341291),
        "2f25e740121983f68ffc05f99991d524dc0ea812134f6316a26125816941ee85",
    ),
}
"""By result: member of the package, its bytes that are the model, and their SHA-256."""


def read_model(package: pathlib.Path, name: str) -> bytes:
    """The TensorFlow Lite file that becomes `name`.

    Raises:
      ValueError: no such file, or other bytes than the known ones.
    """
    member, part, sha256 = SOURCES[name]
    with tarfile.open(package) as archive:
        if member not in archive.getnames():
            raise ValueError(f"{package}: {member} is missing; wanted {PACKAGE}")
        data = archive.extractfile(member).read()[part]
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"{package}: {member} is not that of {PACKAGE} (its SHA-256 differs)")
    return data


def layers(data: bytes) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Operations with weights in the file's order: their kind, and their weights.

    Kernels lie as (out, h, w, in), depthwise ones as (1, h, w, channels).
    """
    import tflite

    model = tflite.Model.GetRootAsModel(data, 0)
    graph = model.Subgraphs(0)
    kinds = {
        tflite.BuiltinOperator.CONV_2D: "convolution",
        tflite.BuiltinOperator.DEPTHWISE_CONV_2D: "depthwise",
        tflite.BuiltinOperator.FULLY_CONNECTED: "linear",
        tflite.BuiltinOperator.PRELU: "prelu",
    }
    stored: dict[int, int] = {}  # tensors behind DEQUANTIZE, to what they were made from
    for number in range(graph.OperatorsLength()):
        operator = graph.Operators(number)
        code = model.OperatorCodes(operator.OpcodeIndex())
        code = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        inputs = [int(i) for i in operator.InputsAsNumpy()]
        if code == tflite.BuiltinOperator.DEQUANTIZE:
            stored[int(operator.Outputs(0))] = inputs[0]
        elif code in kinds:
            yield kinds[code], [_array(model, graph, stored.get(i, i)) for i in inputs[1:]]


def _array(model, graph, number: int) -> np.ndarray:
    import tflite

    tensor = graph.Tensors(number)
    types = {tflite.TensorType.FLOAT16: np.float16, tflite.TensorType.FLOAT32: np.float32}
    values = model.Buffers(tensor.Buffer()).DataAsNumpy().tobytes()
    array = np.frombuffer(values, types[tensor.Type()])
    return array.reshape(tensor.ShapeAsNumpy())


def landmark_names() -> Iterator[tuple[str, str]]:
    """Kind and name of the landmark network's layers in the file's order."""
    yield from (("convolution", "stem"), ("depthwise", "stem.depthwise"))
    yield "convolution", "stem.project"
    for number, block in enumerate(LANDMARK_BLOCKS):
        yield "convolution", f"block{number:02d}.expand"
        yield "depthwise", f"block{number:02d}.depthwise"
        if block.features:
            yield "convolution", f"block{number:02d}.project"
    for head in ("handedness", "presence", "points", "world"):
        yield "linear", f"head.{head}"


def palm_names() -> Iterator[tuple[str, str]]:
    """Kind and name of the palm network's layers in the file's order."""

    def block(name):
        return ("depthwise", f"{name}.depthwise"), ("convolution", f"{name}.project"), (
            "prelu", name)  # fmt: skip

    yield from (("convolution", "stem"), ("prelu", "stem"))
    for level, _ in enumerate(PALM_LEVELS):
        if level:
            yield from block(f"level{level}.down")
        for number in range(PALM_BLOCKS):
            yield from block(f"level{level}.block{number}")
    for stride in (16, 8):
        yield from (("convolution", f"up{stride}"), ("prelu", f"up{stride}"))
        for number in range(2):
            yield from block(f"up{stride}.block{number}")
        yield from (("convolution", f"up{stride}.scores"), ("convolution", f"up{stride}.boxes"))


def converted(data: bytes, names: Iterator[tuple[str, str]]) -> dict[str, np.ndarray]:
    """Weights under their names; kernels as (h, w, in, out), (h, w, channels) or (in, out).

    Raises:
      ValueError: the file's layers are not those that were named.
    """
    result = {}
    for (kind, arrays), (wanted, name) in zip(layers(data), names, strict=True):
        if kind != wanted:
            raise ValueError(f"{name}: the file has a {kind} where a {wanted} should be")
        if kind == "prelu":
            result[f"{name}.slope"] = arrays[0].reshape(-1)
            continue
        kernel, bias = arrays
        if kind == "depthwise":
            kernel = kernel[0]
        elif kind == "linear":
            kernel = kernel.T
        else:
            kernel = kernel.transpose(1, 2, 3, 0)
            kernel = kernel[0, 0] if kernel.shape[:2] == (1, 1) else kernel
        result[f"{name}.kernel"], result[f"{name}.bias"] = kernel, bias
    return {name: np.ascontiguousarray(array) for name, array in result.items()}


@command
def main(arguments: list[str]) -> int:
    """The command; returns the exit status."""
    from safetensors.numpy import save_file

    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--package", type=pathlib.Path, required=True, help="what npm pack left")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="folder")
    options = parser.parse_args(arguments)
    for name, names in ((LANDMARK_FILE, landmark_names()), (PALM_FILE, palm_names())):
        member, _, sha256 = SOURCES[name]
        weights = converted(read_model(options.package, name), names)
        metadata = {
            "source": f"{PACKAGE}, {member}",
            "source_sha256": sha256,
            "licence": "Apache-2.0, Copyright The MediaPipe Authors",
        }
        save_file(weights, options.output / name, metadata)
        size = (options.output / name).stat().st_size
        kinds = ", ".join(sorted({str(array.dtype) for array in weights.values()}))
        print(f"{options.output / name}: {len(weights)} arrays ({kinds}), {size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
