"""Pickles read without running anything in them.

A pickle is a program: it names functions and calls them. Here every name is looked up in a short
list, and even the names on the list never reach the real thing. Each call or object in the file
becomes an inert `Recorded` value that remembers its name, arguments and state; `Values` then makes
numpy arrays out of those by itself, checking every size against the bytes present.

Python's own unpickler, written in Python, reads the instructions: unlike the one in C it makes room
for no more than the file holds, whatever lengths it claims. Instructions that no data file needs
are refused.

The formats: numpy's `ndarray.__reduce__` and `dtype.__reduce__`; scipy's `csc_matrix` attributes
(data, indices, indptr, _shape); chumpy's `Ch` (array x) and `Select` (a, idxs, preferred_shape:
the value is a.ravel()[idxs].reshape(preferred_shape)). Readers of other files give a list of names
and a subclass of `Values` of their own, as `dir_jax.weights.torch_files` does for PyTorch's.
"""

from __future__ import annotations

import io
import math
import os
import pathlib
import pickle
import struct
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")

Names = Mapping[tuple[str, str], str]
"""(module, name) that a pickle may name, to the kind of value it stands for."""

NUMPY_ONLY: Names = {
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

OFFICIAL_MANO: Names = {
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

_READS = 3_000_000
"""Most pieces read from a file, about three an instruction; official ones have some hundreds."""

_DEPTH = 40
"""Deepest nesting of values."""

_DTYPES = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}
_UNFINISHED = object()


class UnpickleError(ValueError):
    """A pickle that is damaged, or that names something outside the list of expected names."""


class BadValueError(ValueError):
    """Something in a pickle is not what it should be."""


DAMAGE = (
    *(pickle.UnpicklingError, BadValueError, ValueError, TypeError, KeyError, IndexError, EOFError),
    *(AttributeError, OverflowError, MemoryError, RecursionError, SyntaxError, AssertionError),
    struct.error,
)
"""Every error that reading a damaged pickle can end in."""


class Recorded:
    """A call or object that a pickle describes: kind, arguments, entries and state, never acted on.

    `__setstate__` is defined so that the unpickler hands every state over to it instead of setting
    attributes; on the class itself the same call fails.
    """

    __slots__ = ("arguments", "entries", "state")
    kind = ""

    def __new__(cls, *arguments: Any) -> Recorded:
        """Keeps the arguments, whatever they are."""
        self = object.__new__(cls)
        self.arguments, self.entries, self.state = arguments, {}, None
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries[key] = value


class _Pieces(io.BytesIO):
    """A file's bytes, given out whole and in a limited number of pieces."""

    reads = 0

    def read(self, size: int) -> bytes:
        self.reads += 1
        if self.reads > _READS:
            raise BadValueError(f"more than {_READS} pieces of it would have to be read")
        data = super().read(size)
        if len(data) < size:
            raise BadValueError("it ends too early")
        return data


class _Unpickler(pickle._Unpickler):
    """Makes `Recorded` values of everything named; follows only what a data file needs."""

    def __init__(self, stream: io.BytesIO, allow: Names, ids: list | None):
        super().__init__(stream, encoding="latin1")
        self._allow, self._ids = allow, ids
        self._classes: dict[str, type] = {}

    def find_class(self, module: str, name: str) -> type:
        if (module, name) not in self._allow:
            called = ascii(f"{module}.{name}"[:100])[1:-1]
            raise BadValueError(
                f"it names {called}, which such a file has no need of; nothing of it ran"
            )
        return self._class(self._allow[module, name])

    def persistent_load(self, pid: object) -> Recorded:
        if self._ids is None:
            self._refuse()
        self._ids.append(pid)
        return self._class("persistent_id")(pid)

    def _class(self, kind: str) -> type:
        if kind not in self._classes:  # new ones for each file: nothing a file does to them stays
            self._classes[kind] = type(kind, (Recorded,), {"__slots__": (), "kind": kind})
        return self._classes[kind]

    def _refuse(self) -> None:
        raise BadValueError("it reaches outside the file")

    def _frame(self) -> None:
        self.read(8)  # frames only say how far to read ahead

    def _bytearray(self) -> None:
        (length,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(length)))  # the original makes room before it reads

    dispatch: ClassVar = {
        **pickle._Unpickler.dispatch,
        **dict.fromkeys(map(ord, (pickle.EXT1, pickle.EXT2, pickle.EXT4)), _refuse),
        **dict.fromkeys(map(ord, (pickle.NEXT_BUFFER, pickle.READONLY_BUFFER)), _refuse),
        ord(pickle.FRAME): _frame,
        ord(pickle.BYTEARRAY8): _bytearray,
    }


def _bytes(value: Any) -> bytes:
    """Raw data: bytes, or a Python 2 string that was decoded as latin-1."""
    if isinstance(value, str):
        return value.encode("latin1")
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    raise BadValueError(f"raw data is a {type(value).__name__}")


def checked_shape(value: Any) -> tuple[int, ...]:
    """A shape that numpy can have.

    Raises:
      BadValueError: it is none.
    """
    shape = value if isinstance(value, tuple | list) else (value,)
    if len(shape) > 16 or not all(type(side) is int and 0 <= side < 2**40 for side in shape):
        raise BadValueError(f"an array has the shape {ascii(shape)[:100]}")
    return tuple(shape)


def _dtype(value: Any) -> np.dtype:
    """A plain numeric dtype; Python objects, records and strings are refused."""
    if not isinstance(value, Recorded) or value.kind != "dtype" or not value.arguments:
        raise BadValueError("an array's dtype is not a numpy dtype")
    name, order, state = value.arguments[0], "|", value.state
    if isinstance(name, str) and name[:1] in ("<", ">", "=", "|"):
        order, name = name[0], name[1:]
    if not isinstance(name, str) or name not in _DTYPES:
        raise BadValueError(f"an array has dtype {ascii(name)[:40]}; wanted plain numbers")
    if state is not None:
        if not isinstance(state, tuple) or len(state) < 5 or any(s is not None for s in state[2:5]):
            raise BadValueError("an array has a structured dtype; wanted plain numbers")
        order = state[1]
    if order not in ("<", ">", "=", "|"):
        raise BadValueError(f"a dtype has byte order {ascii(order)[:40]}")
    return np.dtype(name).newbyteorder(order if order in "<>" else "=")


def array_from_bytes(
    data: bytes, dtype: np.dtype, shape: tuple[int, ...], fortran: bool = False
) -> np.ndarray:
    """A read-only array in the machine's byte order.

    Raises:
      BadValueError: the bytes are not as many as dtype and shape need.
    """
    if math.prod(shape) * dtype.itemsize != len(data):
        raise BadValueError(f"an array of {dtype} and shape {shape} comes with {len(data)} bytes")
    if dtype.kind == "b":
        flat = np.frombuffer(data, np.uint8) != 0
    else:
        flat = np.frombuffer(data, dtype) if data else np.zeros(0, dtype)
    array = flat.reshape(shape, order="F" if fortran else "C")
    return array if dtype.isnative else array.astype(dtype.newbyteorder("="))


class Values:
    """Makes plain values out of recorded ones; each is made once, sharing is kept.

    A kind of the list of names is made by the method `_make_KIND(recorded, depth)`.

    Args:
      limit_bytes: largest total size of arrays that are computed instead of read.
    """

    def __init__(self, limit_bytes: int):
        self._left = limit_bytes
        self._made: dict[int, Any] = {}

    def plain(self, value: Any, depth: int = 0) -> Any:
        """The plain form of anything the unpickler returned.

        Raises:
          BadValueError: or another error of `DAMAGE`, when it has none.
        """
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            return value
        if isinstance(value, bytearray):
            return bytes(value)
        if depth > _DEPTH:
            raise BadValueError(f"values are nested deeper than {_DEPTH} levels")
        made = self._made.get(id(value))
        if made is _UNFINISHED:
            raise BadValueError("a value contains itself")
        if made is None:
            self._made[id(value)] = _UNFINISHED
            made = self._made[id(value)] = self._make(value, depth + 1)
        return made

    def _make(self, value: Any, depth: int) -> Any:
        if isinstance(value, dict):
            return {self.plain(k, depth): self.plain(v, depth) for k, v in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return type(value)([self.plain(item, depth) for item in value])
        if isinstance(value, Recorded):
            make = getattr(self, f"_make_{value.kind}", None)
            if make is not None:
                return make(value, depth)
            raise BadValueError(f"a bare {value.kind} where a value should be")
        raise BadValueError(f"a {type(value).__name__} where a value should be")

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise BadValueError("its arrays would grow far beyond the file")

    def _array(self, data: Any, dtype: Any, shape: Any, fortran: bool, depth: int) -> np.ndarray:
        dtype, shape = _dtype(dtype), checked_shape(shape)
        return array_from_bytes(_bytes(self.plain(data, depth)), dtype, shape, fortran)

    def _make_ndarray(self, value: Recorded, depth: int) -> np.ndarray:
        if not isinstance(value.state, tuple) or len(value.state) not in (4, 5):
            raise BadValueError("an array without its contents")
        shape, dtype, fortran, data = value.state[-4:]
        return self._array(data, dtype, shape, bool(fortran), depth)

    def _make_frombuffer(self, value: Recorded, depth: int) -> np.ndarray:
        data, dtype, shape, order = value.arguments
        return self._array(data, dtype, shape, order == "F", depth)

    def _make_scalar(self, value: Recorded, depth: int) -> np.generic:
        dtype, data = value.arguments
        return self._array(data, dtype, (), False, depth)[()]

    def _make_encode(self, value: Recorded, depth: int) -> bytes:
        text, encoding = value.arguments
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise BadValueError("bytes in an unknown encoding")
        return text.encode("latin1")

    def _make_empty_bytes(self, value: Recorded, depth: int) -> bytes:
        if value.arguments:
            raise BadValueError("bytes made of something else")
        return b""

    def _make_set(self, value: Recorded, depth: int) -> set:
        (items,) = value.arguments
        return set(self.plain(items, depth))

    def _make_instance(self, value: Recorded, depth: int) -> Any:
        """An object as protocols 0 and 1 write it: its class is the first argument."""
        if len(value.arguments) != 3 or not isinstance(value.arguments[0], type):
            raise BadValueError("an object without a class")
        if not issubclass(value.arguments[0], Recorded) or value.arguments[0].kind == "instance":
            raise BadValueError("an object of an unknown class")
        described = value.arguments[0]()
        described.state = value.state
        return self._make(described, depth)

    def _attributes(self, value: Recorded, names: tuple[str, ...], depth: int) -> list[Any]:
        if not isinstance(value.state, dict):
            raise BadValueError(f"a {value.kind} without its contents")
        return [self.plain(value.state.get(name), depth) for name in names]

    def _make_chumpy(self, value: Recorded, depth: int) -> np.ndarray:
        (array,) = self._attributes(value, ("x",), depth)
        if not isinstance(array, np.ndarray):
            raise BadValueError("a chumpy value without its array")
        return array

    def _make_select(self, value: Recorded, depth: int) -> np.ndarray:
        names = ("a", "idxs", "preferred_shape")
        array, indices, shape = self._attributes(value, names, depth)
        if not isinstance(array, np.ndarray) or not isinstance(indices, np.ndarray):
            raise BadValueError("a chumpy selection without its arrays")
        if indices.dtype.kind not in "iu":
            raise BadValueError(f"a chumpy selection by {indices.dtype}; wanted integers")
        self._spend(indices.size * array.itemsize)
        chosen = array.ravel()[indices]
        return chosen if shape is None else chosen.reshape(checked_shape(shape))

    def _make_csc(self, value: Recorded, depth: int) -> np.ndarray:
        """The dense form of scipy's compressed sparse columns."""
        names = ("data", "indices", "indptr", "_shape")
        data, rows, starts, shape = self._attributes(value, names, depth)
        shape = checked_shape(shape)
        arrays = (data, rows, starts)
        if len(shape) != 2 or not all(isinstance(a, np.ndarray) and a.ndim == 1 for a in arrays):
            raise BadValueError("a sparse matrix without its arrays")
        if rows.dtype.kind not in "iu" or starts.dtype.kind not in "iu":
            raise BadValueError("a sparse matrix indexed by something else than integers")
        counts = np.diff(starts.astype(np.int64))
        fits = len(counts) == shape[1] and starts[0] == 0 and starts[-1] == len(rows) == len(data)
        if not fits or (counts < 0).any() or (rows < 0).any() or (rows >= shape[0]).any():
            raise BadValueError("a sparse matrix whose indices do not fit its shape")
        self._spend(math.prod(shape) * 8)
        dense = np.zeros(shape, data.dtype)
        np.add.at(dense, (rows, np.repeat(np.arange(shape[1]), counts)), data)
        return dense


def record_pickle(
    data: bytes, start: int, allow: Names, ids: list | None = None
) -> tuple[Any, int]:
    """Reads one pickle out of a file's bytes; runs nothing.

    Args:
      data: the whole file.
      start: where the pickle starts.
      allow: names it may name.
      ids: takes the names of things outside the pickle ("persistent ids"); None refuses them.

    Returns:
      What it describes, for `Values.plain`, and where it ends.

    Raises:
      one of `DAMAGE`: it is damaged, or has something that is not allowed.
    """
    stream = _Pieces(data)
    stream.seek(start)
    return _Unpickler(stream, allow, ids).load(), stream.tell()


def restricted_load(
    file: str | os.PathLike | bytes, allow: Names = NUMPY_ONLY, *, limit_bytes: int = 2**28
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
    source, data = ("pickle", file) if isinstance(file, bytes) else (str(file), None)
    try:
        if data is None:
            with pathlib.Path(source).open("rb") as stream:
                data = stream.read(limit_bytes + 1)
        if len(data) > limit_bytes:
            raise UnpickleError(f"{source}: more than {limit_bytes} bytes; wanted at most those")
        recorded, _ = record_pickle(data, 0, allow)
        return Values(limit_bytes).plain(recorded)
    except UnpickleError:
        raise
    except OSError as error:
        raise UnpickleError(f"{source}: cannot be read: {error.strerror}") from error
    except DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise UnpickleError(f"{source}: cannot be unpickled: {reason}") from error
