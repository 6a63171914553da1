"""npz files, read without trusting them: no pickles, and no memory that the file doesn't fill."""

from __future__ import annotations

import io
import os
import pathlib
import tempfile
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np

_LIMIT_BYTES = 2**31


class ArraysFileError(ValueError):
    """A file of arrays that cannot be read."""


def _read_array(data: bytes) -> np.ndarray:
    """An npy file's array; the sizes in its header are compared with the bytes that are there."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"npy version {version}")
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never loaded")
    if any(side < 0 for side in shape):
        raise ValueError(f"it declares the shape {shape}")
    count = 1
    for side in shape:
        count *= side
    held = len(data) - stream.tell()
    if count * dtype.itemsize != held:
        raise ValueError(f"it declares {count * dtype.itemsize} bytes and holds {held}")
    array = np.frombuffer(data, dtype, count, stream.tell()) if held else np.zeros(count, dtype)
    return array.reshape(shape, order="F" if fortran else "C")


def read_npz(
    file: str | os.PathLike, *, limit_bytes: int = _LIMIT_BYTES, only: tuple[str, ...] | None = None
) -> dict[str, np.ndarray]:
    """Reads every array of an npz file (numpy's format, uncompressed or deflated).

    Args:
      file: path.
      limit_bytes: largest total size after decompression.
      only: names to read; None reads all.

    Returns:
      Read-only arrays by name.

    Raises:
      ArraysFileError: names the file, the array and what is wrong with it.
    """
    path = pathlib.Path(file)
    arrays, name = {}, None
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(info.file_size for info in archive.infolist())
            if total > limit_bytes:
                raise ValueError(f"it holds {total} bytes; wanted at most {limit_bytes}")
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                if only is None or name in only:
                    arrays[name] = _read_array(archive.read(info))
    except FileNotFoundError:
        raise ArraysFileError(f"{path}: no such file") from None
    except (
        *(ValueError, TypeError, SyntaxError, KeyError, EOFError, OSError, OverflowError),
        *(RecursionError, MemoryError, NotImplementedError, RuntimeError, AttributeError),
        *(zipfile.BadZipFile, zlib.error, IndexError),
    ) as error:
        where = f"{path}: {name}" if name else f"{path}"
        raise ArraysFileError(f"{where} cannot be read as npz: {error}") from error
    return arrays


def write_npz(file: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a compressed npz file that appears under its name only when complete.

    Args:
      file: path.
      arrays: arrays by name.
    """
    path = pathlib.Path(file)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            np.savez_compressed(stream, **arrays)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise
