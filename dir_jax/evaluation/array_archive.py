"""Arrays of an npz file without reading them into memory."""

from __future__ import annotations

import math
import os
import pathlib
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np

_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
"""A zip archive's local file header (PKWARE APPNOTE 4.3.7); its last two numbers are the lengths
of name and extra field that precede the data."""

_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, ValueError, TypeError, SyntaxError, KeyError),
    *(OSError, EOFError, OverflowError, NotImplementedError, RuntimeError, MemoryError, IndexError),
)
"""What damaged zip members and npy headers make the readers raise."""


class ArchiveError(ValueError):
    """An npz file that cannot be read, or holds what it should not."""


class ArrayArchive(Mapping):
    """The arrays of an npz file by name, mapped from disk; nothing is unpickled.

    What `numpy.savez` wrote is mapped where it lies; members of `numpy.savez_compressed` are first
    unpacked into a temporary folder, which goes away with this object.

    Args:
      path: the npz file.

    Raises:
      ArchiveError: no such file, no npz file, a damaged one, or one with Python objects.
    """

    def __init__(self, path: str | os.PathLike):
        self._path = pathlib.Path(path)
        self._folder = tempfile.TemporaryDirectory(prefix="dir_jax_npz_")
        if not self._path.is_file():
            raise ArchiveError(f"{path}: no such file; wanted an npz file")
        try:
            with zipfile.ZipFile(self._path) as archive:
                self._check_room(archive.infolist())
                self._arrays = {
                    member.filename.removesuffix(".npy"): self._map(archive, member)
                    for member in archive.infolist()
                    if member.filename.endswith(".npy")
                }
        except ArchiveError:
            raise
        except _DAMAGE as error:
            reason = str(error)[:200]  # zipfile quotes headers, however long a damaged file's are
            raise ArchiveError(f"{path}: not a whole npz file ({reason})") from None

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def __iter__(self):
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def _map(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
        with archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            read = {(1, 0): np.lib.format.read_array_header_1_0}
            header = read.get(version, np.lib.format.read_array_header_2_0)
            shape, fortran, dtype = header(file)
            start, where = file.tell(), f"{self._path}: {member.filename}"
            if dtype.hasobject:
                raise ArchiveError(
                    f"{where} holds Python objects; wanted numbers or text of a fixed width"
                )
            declared, held = math.prod(shape) * dtype.itemsize, member.file_size - start
            if min(shape, default=0) < 0 or declared != held:
                raise ArchiveError(f"{where} declares {declared} bytes and holds {held}")
            if 0 in shape or shape == ():
                return np.frombuffer(file.read(), dtype).reshape(shape)
            if member.compress_type == zipfile.ZIP_STORED:
                while file.read(1 << 22):  # at the end zipfile compares the checksum
                    pass
                path, offset = self._path, self._data_offset(member) + start
            else:
                path, offset = self._unpacked(file), 0
        order = "F" if fortran else "C"
        return np.memmap(path, dtype, mode="r", offset=offset, shape=shape, order=order)

    def _check_room(self, members: list[zipfile.ZipInfo]) -> None:
        """A small file may claim to unpack into more than the disk holds."""
        unpacked = sum(m.file_size for m in members if m.compress_type != zipfile.ZIP_STORED)
        free = shutil.disk_usage(self._folder.name).free
        if unpacked > free:
            raise ArchiveError(
                f"{self._path} unpacks to {unpacked} bytes; {tempfile.gettempdir()} has {free} free"
            )

    def _unpacked(self, file) -> str:
        with tempfile.NamedTemporaryFile(dir=self._folder.name, delete=False) as out:
            shutil.copyfileobj(file, out, 1 << 22)
        return out.name

    def _data_offset(self, member: zipfile.ZipInfo) -> int:
        with open(self._path, "rb") as file:
            file.seek(member.header_offset)
            signature, *_, name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
        if signature != b"PK\x03\x04":
            raise ArchiveError(f"{self._path}: damaged at {member.filename}")
        return member.header_offset + _LOCAL_HEADER.size + name + extra
