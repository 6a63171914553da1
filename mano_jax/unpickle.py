"""Pickles read without running anything in them.

A pickle is a program: it names functions and calls them. Here every name is looked up in a short
list, and even the names on the list never reach the real thing. Each call or object in the file
becomes an inert `Recorded` value that remembers its name, arguments and state; `pickle_values`
then makes numpy arrays out of those by itself, checking every size against the bytes present.

Before that, the file's instructions are read without executing them, so that a forbidden name, an
instruction no data file needs or an absurd length is refused while nothing has happened yet.
"""

from __future__ import annotations

import io
import os
import pathlib
import pickle
import pickletools
from collections.abc import Iterator
from typing import Any

from mano_jax.pickle_values import BadValueError, Recorded, Values

_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")

NUMPY_ONLY = {
    **{(module, "_reconstruct"): "ndarray" for module in _MULTIARRAY},
    **{(module, "scalar"): "scalar" for module in _MULTIARRAY},
    **{(module, "_frombuffer"): "frombuffer" for module in _NUMERIC},
    ("numpy", "ndarray"): "ndarray_class",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
    ("__builtin__", "bytes"): "empty_bytes",  # all that protocols 0 to 2 use the name for
    ("builtins", "bytes"): "empty_bytes",
}
"""What pickled dicts, lists, numbers, strings and plain numpy arrays name, any protocol."""

OFFICIAL_MANO = {
    **NUMPY_ONLY,
    ("chumpy.ch", "Ch"): "chumpy",
    ("chumpy.reordering", "Select"): "select",
    ("scipy.sparse.csc", "csc_matrix"): "csc",
    ("scipy.sparse._csc", "csc_matrix"): "csc",
    ("__builtin__", "set"): "set",
    ("builtins", "set"): "set",
    ("__builtin__", "object"): "object_class",
    ("builtins", "object"): "object_class",
    ("copy_reg", "_reconstructor"): "instance",
    ("copyreg", "_reconstructor"): "instance",
}
"""What MANO_LEFT.pkl and MANO_RIGHT.pkl name (Python 2, with chumpy and scipy of 2017)."""

_FORBIDDEN = {"PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"}
"""Instructions that reach outside the file."""

_FRAME_BYTES = 9
"""Length of the instruction FRAME with its argument."""

_INSTRUCTIONS = 1_000_000
"""Most instructions in a file; official ones have some hundreds."""

_DAMAGE = (
    *(pickle.UnpicklingError, BadValueError, ValueError, TypeError, KeyError, IndexError, EOFError),
    *(AttributeError, OverflowError, MemoryError, RecursionError, SyntaxError, AssertionError),
)


class UnpickleError(ValueError):
    """A pickle that is damaged, or that names something outside the list of expected names."""


def _check_name(module: str, name: str, allow: dict[tuple[str, str], str]) -> str:
    if (module, name) not in allow:
        called = ascii(f"{module}.{name}"[:100])[1:-1]
        raise BadValueError(
            f"it names {called}, which such a file has no need of; nothing of it ran"
        )
    return allow[module, name]


def _instructions(data: bytes) -> Iterator[tuple[str, Any, int]]:
    """Name, argument and position of each; `pickletools.genops`, but for strings beyond ASCII."""
    stream = io.BytesIO(data)
    name = ""
    while name != "STOP":
        position = stream.tell()
        code = stream.read(1).decode("latin1")
        if code not in pickletools.code2op:
            raise BadValueError(
                f"byte {position} is no instruction" if code else "it ends too early"
            )
        name, argument = pickletools.code2op[code].name, pickletools.code2op[code].arg
        if name == "STRING":  # Python 2 wrote any byte here
            yield name, stream.readline(), position
        else:
            yield name, argument.reader(stream) if argument else None, position


def _scan(data: bytes, allow: dict[tuple[str, str], str]) -> bytes:
    """Reads the instructions without executing them; raises on the first unacceptable one.

    Returns:
      The same instructions without frames. Those only say how far to read ahead; where they are
      wrong, Python's unpickler would skip bytes and so execute others than were looked at here.
    """
    kept, frame_end = [], 0
    for count, (instruction, argument, position) in enumerate(_instructions(data)):
        if count > _INSTRUCTIONS:
            raise BadValueError(f"more than {_INSTRUCTIONS} instructions")
        if instruction in _FORBIDDEN:
            raise BadValueError(f"instruction {instruction} reaches outside the file")
        if instruction in ("GLOBAL", "INST"):
            module, _, name = argument.partition(" ")
            _check_name(module, name, allow)
        elif instruction in ("PUT", "BINPUT", "LONG_BINPUT"):
            # The unpickler would make room for as many values as the largest number says.
            if not 0 <= argument <= count + 1:
                raise BadValueError(f"value {argument} is remembered where {count + 1} exist")
        elif instruction == "FRAME":
            kept.append(data[frame_end:position])
            frame_end = position + _FRAME_BYTES
    return b"".join([*kept, data[frame_end:]])


class _Unpickler(pickle.Unpickler):
    """Makes `Recorded` values of everything named."""

    def __init__(self, data: bytes, allow: dict[tuple[str, str], str]):
        super().__init__(io.BytesIO(data), encoding="latin1")
        self._allow = allow
        self._classes: dict[str, type] = {}

    def find_class(self, module: str, name: str) -> type:
        kind = _check_name(module, name, self._allow)
        if kind not in self._classes:  # new ones for each file: nothing a file does to them stays
            self._classes[kind] = type(kind, (Recorded,), {"__slots__": (), "kind": kind})
        return self._classes[kind]

    def persistent_load(self, pid: object) -> None:
        raise BadValueError("a persistent id reaches outside the file")


def _read(path: pathlib.Path, limit_bytes: int) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(limit_bytes + 1)
    except OSError as error:
        raise UnpickleError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > limit_bytes:
        raise UnpickleError(f"{path}: more than {limit_bytes} bytes; wanted a pickle below that")
    return data


def restricted_load(
    file: str | os.PathLike | bytes,
    allow: dict[tuple[str, str], str] = NUMPY_ONLY,
    *,
    limit_bytes: int = 2**28,
) -> Any:
    """Reads a pickle of plain values and numeric numpy arrays; runs nothing.

    Args:
      file: path, or the pickle's bytes.
      allow: `NUMPY_ONLY`, or `OFFICIAL_MANO` for chumpy values and scipy matrices besides, which
        come out as arrays.
      limit_bytes: largest file, and largest sum of arrays computed from it.

    Returns:
      Nested dicts, lists, tuples, sets, strings, numbers, and read-only numpy arrays. Strings of
      Python 2 are taken as latin-1. Arrays of Python objects and structured arrays are refused.

    Raises:
      UnpickleError: names the file and what is wrong with it.
    """
    if isinstance(file, bytes):
        source, data = "pickle", file
    else:
        source, data = str(file), _read(pathlib.Path(file), limit_bytes)
    try:
        recorded = _Unpickler(_scan(data, allow), allow).load()
        return Values(limit_bytes).plain(recorded)
    except _DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise UnpickleError(f"{source}: cannot be unpickled: {reason}") from error


def load_official(file: str | os.PathLike) -> dict[str, Any]:
    """Reads an official MANO pickle (MANO_LEFT.pkl, MANO_RIGHT.pkl) with numpy alone.

    Args:
      file: path.

    Returns:
      The file's entries by name; chumpy values and sparse matrices as dense arrays.

    Raises:
      UnpickleError: names the file and what is wrong with it.
    """
    model = restricted_load(file, OFFICIAL_MANO)
    if not isinstance(model, dict):
        raise UnpickleError(f"{file}: holds a {type(model).__name__}; wanted a dict of arrays")
    return model
