"""Turns what a pickle says about objects into plain values and numpy arrays, checking every size.

The formats: numpy's `ndarray.__reduce__` and `dtype.__reduce__`; scipy's `csc_matrix` attributes
(data, indices, indptr, _shape); chumpy's `Ch` (array x) and `Select` (a, idxs, preferred_shape:
the value is a.ravel()[idxs].reshape(preferred_shape)).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_DEPTH = 40
_TYPES = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}
_UNFINISHED = object()


class BadValueError(ValueError):
    """Something in a pickle is not what it should be."""


class Recorded:
    """One call or object that a pickle describes: its kind, arguments and state, never acted on.

    `__setstate__` is defined so that the unpickler hands every state over to it instead of setting
    attributes; on the class itself the same call fails.
    """

    __slots__ = ("arguments", "state")
    kind = ""

    def __new__(cls, *arguments: Any) -> Recorded:
        """Keeps the arguments, whatever they are."""
        self = object.__new__(cls)
        self.arguments = arguments
        self.state = None
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _bytes(value: Any) -> bytes:
    """Raw data: bytes, or a Python 2 string that was decoded as latin-1."""
    if isinstance(value, str):
        return value.encode("latin1")
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    raise BadValueError(f"raw data is a {type(value).__name__}")


def _shape(value: Any) -> tuple[int, ...]:
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
    if not isinstance(name, str) or name not in _TYPES:
        raise BadValueError(f"an array has dtype {ascii(name)[:40]}; wanted plain numbers")
    if state is not None:
        if not isinstance(state, tuple) or len(state) < 5 or any(s is not None for s in state[2:5]):
            raise BadValueError("an array has a structured dtype; wanted plain numbers")
        order = state[1]
    if order not in ("<", ">", "=", "|"):
        raise BadValueError(f"a dtype has byte order {ascii(order)[:40]}")
    return np.dtype(name).newbyteorder(order if order in "<>" else "=")


def _array(data: bytes, dtype: np.dtype, shape: tuple[int, ...], fortran: bool) -> np.ndarray:
    if math.prod(shape) * dtype.itemsize != len(data):
        raise BadValueError(f"an array of {dtype} and shape {shape} comes with {len(data)} bytes")
    if dtype.kind == "b":
        flat = np.frombuffer(data, np.uint8) != 0
    else:
        flat = np.frombuffer(data, dtype) if data else np.zeros(0, dtype)
    array = flat.reshape(shape, order="F" if fortran else "C")
    # Other code need not know of foreign byte orders.
    return array if dtype.isnative else array.astype(dtype.newbyteorder("="))


class Values:
    """Makes plain values out of recorded ones; each is made once, sharing is kept.

    Args:
      limit_bytes: largest total size of arrays that are computed instead of read.
    """

    def __init__(self, limit_bytes: int):
        self._left = limit_bytes
        self._made: dict[int, Any] = {}

    def plain(self, value: Any, depth: int = 0) -> Any:
        """The plain form of anything the unpickler returned.

        Raises:
          BadValueError: or another of Python's errors, when it has none.
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

    def _make_ndarray(self, value: Recorded, depth: int) -> np.ndarray:
        state = value.state
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise BadValueError("an array without its contents")
        shape, dtype, fortran, data = state[-4:]
        dtype = _dtype(dtype)
        return _array(_bytes(self.plain(data, depth)), dtype, _shape(shape), bool(fortran))

    def _make_frombuffer(self, value: Recorded, depth: int) -> np.ndarray:
        data, dtype, shape, order = value.arguments
        data = _bytes(self.plain(data, depth))
        return _array(data, _dtype(dtype), _shape(shape), order == "F")

    def _make_scalar(self, value: Recorded, depth: int) -> np.generic:
        dtype, data = value.arguments
        return _array(_bytes(self.plain(data, depth)), _dtype(dtype), (), False)[()]

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
        return chosen if shape is None else chosen.reshape(_shape(shape))

    def _make_csc(self, value: Recorded, depth: int) -> np.ndarray:
        """The dense form of scipy's compressed sparse columns."""
        names = ("data", "indices", "indptr", "_shape")
        data, rows, starts, shape = self._attributes(value, names, depth)
        shape = _shape(shape)
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
