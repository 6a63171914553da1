"""Writes PyTorch's two file formats without PyTorch, of the form that torch.save gives."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from unittest import mock

import numpy as np

STORAGES = {
    "float32": "FloatStorage", "float64": "DoubleStorage", "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage", "int64": "LongStorage", "int32": "IntStorage",
    "int16": "ShortStorage", "int8": "CharStorage", "uint8": "ByteStorage", "bool": "BoolStorage",
}  # fmt: skip
OLD_HEAD = b"".join(
    pickle.dumps(value, 2)
    for value in (
        0x1950A86A20F9469CFC6C,
        1001,
        {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4}},
    )
)
"""Magic number, version and facts about the machine, with which the older format begins."""


class _Storage:
    def __init__(self, key: str, array: np.ndarray, count: int | None = None):
        self.key, self.array, self.count = key, array, count or array.size


class _Tensor:
    """Pickled as a call of torch's rebuild function on a storage."""

    def __init__(self, storage: _Storage, offset: int, shape: tuple, strides: tuple):
        self.arguments = (storage, offset, shape, strides, False, OrderedDict())


def _fake_torch() -> dict[str, types.ModuleType]:
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2(*_):
        raise AssertionError("only its name is pickled")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = (
        "torch._utils",
        "_rebuild_tensor_v2",
    )
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    torch._utils = utils
    for name in STORAGES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch", "__qualname__": name}))
    return {"torch": torch, "torch._utils": utils}


def _dump(content, more: tuple = ()) -> bytes:
    modules = _fake_torch()

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            if not isinstance(obj, _Storage):
                return None
            kind = getattr(modules["torch"], STORAGES[str(obj.array.dtype)])
            return ("storage", kind, obj.key, "cpu", obj.count, *more)

        def reducer_override(self, obj):
            if isinstance(obj, _Tensor):
                return modules["torch._utils"]._rebuild_tensor_v2, obj.arguments
            return NotImplemented

    buffer = io.BytesIO()
    with mock.patch.dict(sys.modules, modules):
        Pickler(buffer, protocol=2).dump(content)
    return buffer.getvalue()


def _described(state: dict[str, np.ndarray], wrap: str | None):
    """What is pickled, and the storages: each tensor's numbers as they lie in memory."""
    storages, tensors = [], OrderedDict()
    for i, (name, array) in enumerate(state.items()):
        strides = tuple(s // array.itemsize for s in array.strides)
        flat = np.array(array if 0 in strides else array.ravel("K"))
        if 0 in strides and array.size:  # an expanded tensor keeps its numbers once
            flat = array[tuple(0 if s == 0 else slice(None) for s in strides)].ravel()
        storages.append(_Storage(str(i), flat.ravel()))
        tensors[name] = _Tensor(storages[-1], 0, array.shape, strides)
    return {wrap: tensors, "epoch": 3} if wrap else tensors, storages


def pickled(state: dict[str, np.ndarray], wrap: str | None = "net") -> bytes:
    """data.pkl of the zip format."""
    return _dump(_described(state, wrap)[0])


def pickled_tensor(offset: int, shape: tuple, strides: tuple, count: int) -> bytes:
    """data.pkl with one float32 tensor "a" in the storage "0", as described."""
    storage = _Storage("0", np.zeros(1, np.float32), count)
    return _dump({"a": _Tensor(storage, offset, shape, strides)})


def save(path, state: dict[str, np.ndarray], wrap: str | None = "net") -> None:
    """Writes {wrap: state} (or the bare state) with the arrays as tensors, as a zip file."""
    content, storages = _described(state, wrap)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", _dump(content))
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")
        for storage in storages:
            archive.writestr(f"archive/data/{storage.key}", storage.array.tobytes())


def save_old(path, state: dict[str, np.ndarray], wrap: str | None = "net") -> None:
    """The same in the format before version 1.6: a row of pickles, then of storages."""
    content, storages = _described(state, wrap)
    parts = [OLD_HEAD, _dump(content, (None,)), pickle.dumps([s.key for s in storages], 2)]
    for storage in storages:
        parts += [struct.pack("<q", storage.array.size), storage.array.tobytes()]
    with open(path, "wb") as file:
        file.write(b"".join(parts))
