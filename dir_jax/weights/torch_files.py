"""PyTorch weight files without PyTorch, and without executing anything in them.

Two formats of `torch.save` are read. The zip form (written since version 1.6) has a pickle,
`NAME/data.pkl`, that names storages by persistent ids, and each storage's bytes in `NAME/data/KEY`.
The older form is a row of pickles (a magic number, a version, facts about the machine, the object,
the keys of its storages) followed by each storage's count of numbers and its bytes. The pickles go
through `mano_jax.unpickle`: tensors are built here, every size, stride and offset checked.
"""

from __future__ import annotations

import math
import os
import pathlib
import pickle
import sys
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dir_jax.weights import WeightsError
from input_pipeline.files import whole_file
from mano_jax.unpickle import (
    NUMPY_ONLY,
    BadValueError,
    Recorded,
    Values,
    array_from_bytes,
    checked_shape,
    record_pickle,
)

SUFFIXES = (".pth", ".pt", ".safetensors")

_STORAGES = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "BFloat16Storage": "u2",  # becomes float32, which holds the same numbers
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "b1",
}
_NAMES = {
    **NUMPY_ONLY,
    **{("torch", name): name for name in _STORAGES},
    ("torch._utils", "_rebuild_tensor"): "tensor",
    ("torch._utils", "_rebuild_tensor_v2"): "tensor",
    ("torch._utils", "_rebuild_parameter"): "parameter",
    ("torch", "Size"): "size",
    ("collections", "OrderedDict"): "ordered_dict",
}
"""What the pickles of weights and optimiser states name; anything else is refused."""

_MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
"""How the older format begins; its version, 1001, follows."""


def _storage_type(pid: Any) -> np.dtype:
    """dtype of the storage that a persistent id names; bfloat16 comes as its 16 bits."""
    if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
        raise BadValueError("a persistent id that is no storage")
    if not isinstance(pid[1], type) or getattr(pid[1], "kind", None) not in _STORAGES:
        raise BadValueError("a storage of an unknown type")
    if len(pid) == 6 and pid[5] is not None:
        raise BadValueError("a storage that is a view of another; save it again with torch")
    return np.dtype(_STORAGES[pid[1].kind])


class _Tensors(Values):
    """Makes arrays of the tensors that a pickle describes.

    Args:
      storage: a key's bytes.
      limit_bytes: largest total size of tensors that do not lie in their storage as they are.
      order: byte order.
    """

    def __init__(self, storage: Callable[[str], bytes], limit_bytes: int, order: str = "<"):
        super().__init__(limit_bytes)
        self._storage, self._order = storage, order
        self._flat: dict[tuple[str, str], np.ndarray] = {}

    def _make_persistent_id(self, value: Recorded, depth: int) -> np.ndarray:
        """A storage, as a flat array; each is read once, however many tensors lie in it."""
        pid = value.arguments[0]
        dtype, count = _storage_type(pid).newbyteorder(self._order), checked_shape(pid[4])
        kind, key = pid[1].kind, str(pid[2])
        if (kind, key) not in self._flat:
            flat = array_from_bytes(self._storage(key), dtype, count)
            if kind == "BFloat16Storage":
                flat = (flat.astype(np.uint32) << 16).view(np.float32)
            self._flat[kind, key] = flat
        return self._flat[kind, key]

    def _make_tensor(self, value: Recorded, depth: int) -> np.ndarray:
        storage, offset, shape, strides = value.arguments[:4]
        flat = self.plain(storage, depth)
        shape, strides = (checked_shape(self.plain(v, depth)) for v in (shape, strides))
        (offset,) = checked_shape(offset)
        if not isinstance(flat, np.ndarray) or flat.ndim != 1 or len(shape) != len(strides):
            raise BadValueError("a tensor without its storage")
        size = math.prod(shape)
        last = sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
        if size and offset + last >= len(flat):
            raise BadValueError(f"a tensor of shape {shape} reaches beyond its storage")
        steps = [stride * flat.itemsize for stride in strides]
        view = np.lib.stride_tricks.as_strided(flat[offset:], shape, steps, writeable=False)
        if not view.flags.c_contiguous:
            self._spend(size * flat.itemsize)
        return np.ascontiguousarray(view).reshape(shape)

    def _make_parameter(self, value: Recorded, depth: int) -> Any:
        return self.plain(value.arguments[0], depth)

    def _make_size(self, value: Recorded, depth: int) -> tuple:
        return tuple(self.plain(value.arguments[0], depth))

    def _make_ordered_dict(self, value: Recorded, depth: int) -> dict:
        """Python 3 sets its entries one by one, Python 2 gives them as pairs."""
        pairs = self.plain(value.arguments[0], depth) if value.arguments else []
        return dict(pairs) | self.plain(value.entries, depth)


def _from_zip(path: pathlib.Path) -> Any:
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        packed = any(info.compress_type != zipfile.ZIP_STORED for info in infos)
        if packed or sum(info.file_size for info in infos) > size:
            raise BadValueError("its entries are compressed or overlap, as torch.save's never do")
        found = [i.filename for i in infos if i.filename.split("/")[1:] == ["data.pkl"]]
        if len(found) != 1:
            raise BadValueError("it is a zip file without the data.pkl that torch.save writes")
        folder = found[0].removesuffix("data.pkl")
        order = f"{folder}byteorder"
        big = order in archive.namelist() and archive.read(order).strip() == b"big"
        recorded, _ = record_pickle(archive.read(found[0]), 0, _NAMES, [])

        def storage(key: str) -> bytes:
            return archive.read(f"{folder}data/{key}")

        return _Tensors(storage, size, ">" if big else "<").plain(recorded)


def _from_row(data: bytes) -> Any:
    if not data.startswith(_MAGIC):
        raise BadValueError("it is in neither format of torch.save, or cut off")
    version, position = record_pickle(data, len(_MAGIC), {})
    machine, position = record_pickle(data, position, {})
    if version != 1001 or not machine.get("little_endian", True):
        raise BadValueError(f"version {version} on a machine with {machine} is not supported")
    ids: list = []
    recorded, position = record_pickle(data, position, _NAMES, ids)
    keys, position = record_pickle(data, position, {})
    itemsizes = {str(pid[2]): _storage_type(pid).itemsize for pid in ids}
    storages = {}
    for key in keys:
        start = position + 8
        count = int.from_bytes(data[position:start], "little")
        position = start + count * itemsizes[key]
        storages[key] = data[start:position]
    return _Tensors(storages.__getitem__, len(data)).plain(recorded)


def _read(path: pathlib.Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        return load_file(path)
    return _from_zip(path) if zipfile.is_zipfile(path) else _from_row(path.read_bytes())


def _as_arrays(state: dict, path: pathlib.Path) -> dict[str, np.ndarray]:
    arrays = {}
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            raise WeightsError(f"{path}: {name!r} is {type(value).__name__}; wanted a tensor")
        if value.dtype.kind not in "fiub":
            raise WeightsError(f"{path}: {name} has dtype {value.dtype}; wanted numbers")
        arrays[name.removeprefix("module.")] = value
    return arrays


def read_state_dict(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Tensors by name from a `.pth`, `.pt` or `.safetensors` file.

    A checkpoint that keeps its weights under `net` (the authors'), `state_dict` or `model` is
    unpacked, and the `module.` prefix of DataParallel is dropped. Only tensors, numbers and plain
    containers are admitted; a file that names any other class is refused before it runs.

    Raises:
      WeightsError: missing, unreadable, refused, or without tensors.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; wanted a PyTorch weight file (.pth)")
    try:
        state = _read(path)
    except Exception as error:  # any byte may be damaged: zipfile and safetensors have their own
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise WeightsError(
            f"{path} cannot be read as tensors ({reason}); wanted a state dict saved by torch.save"
        ) from None
    for key in ("net", "state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not state:
        raise WeightsError(f"{path} holds {type(state).__name__}; wanted a dict of tensors")
    return _as_arrays(state, path)


def write_state_dict(
    path: str | os.PathLike,
    state: Mapping[str, np.ndarray],
    meta: Mapping[str, str] | None = None,
) -> None:
    """Writes tensors for PyTorch, atomically: `.safetensors`, or `.pth` with the dict under `net`.

    Only a `.safetensors` file has a place for `meta`.

    Raises:
      WeightsError: another suffix, or a dtype that PyTorch lacks.
    """
    path = pathlib.Path(path)
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"{path}: wanted a file name ending in {', '.join(SUFFIXES)}")
    with whole_file(path) as temporary:
        if path.suffix == ".safetensors":
            from safetensors.numpy import save_file

            save_file(dict(state), temporary, dict(meta or {}))
        else:
            _write_zip(temporary, state)


def _write_zip(path: pathlib.Path, state: Mapping[str, np.ndarray]) -> None:
    """What torch.save({"net": state}) writes; nothing of PyTorch is needed to name its types."""

    def plain(value: Any) -> bytes:
        return pickle.dumps(value, 2)[2:-1]  # without head and STOP

    types = {np.dtype(kind): name for name, kind in _STORAGES.items() if name[:2] != "BF"}
    empty = b"ccollections\nOrderedDict\n)R"
    parts = [b"\x80\x02}", plain("net"), empty, b"("]
    with zipfile.ZipFile(path, "w") as archive:
        for key, (name, array) in enumerate(state.items()):
            if array.dtype not in types:
                raise WeightsError(f"{name} has dtype {array.dtype}, which .pth files cannot hold")
            strides = tuple(math.prod(array.shape[i + 1 :]) for i in range(array.ndim))
            storage = [b"(", plain("storage"), f"ctorch\n{types[array.dtype]}\n".encode()]
            storage += [plain(str(key)), plain("cpu"), plain(array.size), b"tQ"]
            layout = [plain(0), plain(array.shape), plain(strides), plain(False), empty]
            call = b"ctorch._utils\n_rebuild_tensor_v2\n("
            parts += [plain(name), call, *storage, *layout, b"tR"]
            archive.writestr(f"archive/data/{key}", array.tobytes())
        archive.writestr("archive/data.pkl", b"".join([*parts, b"us."]))
        archive.writestr("archive/byteorder", sys.byteorder)
        archive.writestr("archive/version", "3\n")
