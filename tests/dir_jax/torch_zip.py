"""Writes PyTorch's zip format without PyTorch, byte for byte of the form torch.save gives."""

from __future__ import annotations

import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from unittest import mock

import numpy as np

STORAGES = {"float32": "FloatStorage", "float64": "DoubleStorage", "int64": "LongStorage"}


class _Storage:
    def __init__(self, key: str, array: np.ndarray):
        self.key, self.array = key, array


class _Tensor:
    """Pickled as a call of torch's rebuild function on a storage."""

    def __init__(self, storage: _Storage):
        self.storage = storage


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


def save(path, state: dict[str, np.ndarray], wrap: str | None = "net") -> None:
    """Writes {wrap: state} (or the bare state) with the arrays as tensors."""
    modules = _fake_torch()

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            if not isinstance(obj, _Storage):
                return None
            kind = getattr(modules["torch"], STORAGES[str(obj.array.dtype)])
            return ("storage", kind, obj.key, "cpu", obj.array.size)

        def reducer_override(self, obj):
            if not isinstance(obj, _Tensor):
                return NotImplemented
            array = obj.storage.array
            strides = tuple(s // array.itemsize for s in array.strides)
            arguments = (obj.storage, 0, array.shape, strides, False, OrderedDict())
            return modules["torch._utils"]._rebuild_tensor_v2, arguments

    storages = [
        _Storage(str(i), np.array(a, order="C", copy=True)) for i, a in enumerate(state.values())
    ]
    tensors = OrderedDict(zip(state, (_Tensor(s) for s in storages), strict=True))
    buffer = io.BytesIO()
    with mock.patch.dict(sys.modules, modules):
        Pickler(buffer, protocol=2).dump({wrap: tensors, "epoch": 3} if wrap else tensors)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", buffer.getvalue())
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")
        for storage in storages:
            archive.writestr(f"archive/data/{storage.key}", storage.array.tobytes())
