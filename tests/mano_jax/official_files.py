"""Writes pickles of exactly the form of the official MANO files: Python 2, chumpy, old scipy."""

import functools
import io
import pathlib
import pickle
import struct
import types
import typing

import numpy as np

import mano_jax
from mano_jax.constants import SIDES

_OLD = {
    "_reconstruct": "numpy.core.multiarray", "Ch": "chumpy.ch", "Select": "chumpy.reordering",
    "csc_matrix": "scipy.sparse.csc",
}  # fmt: skip


class _Python2Pickler(pickle._Pickler):
    """Protocol 2 as Python 2 wrote it: every string a byte string, numpy under its old path."""

    dispatch: typing.ClassVar = dict(pickle._Pickler.dispatch)

    def __init__(self, stream, protocol=2):
        super().__init__(stream, protocol=protocol, fix_imports=True)

    def _save_string(self, value):
        data = value.encode("latin1") if isinstance(value, str) else value
        if self.proto == 0:
            self.write(b"S" + repr(data)[1:].encode("ascii") + b"\n")
        elif len(data) < 256:
            self.write(b"U" + struct.pack("<B", len(data)) + data)
        else:
            self.write(b"T" + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = _save_string

    def save_global(self, obj, name=None):
        if obj.__name__ in _OLD:
            self.write(f"c{_OLD[obj.__name__]}\n{obj.__name__}\n".encode())
            self.memoize(obj)
        else:
            super().save_global(obj, name)

    dispatch[types.FunctionType] = dispatch[type] = save_global
    dispatch[types.BuiltinFunctionType] = save_global


def _filled(name, **attributes):
    made = type(name, (), {})()
    made.__dict__.update(attributes)
    return made


def _sparse_columns(dense):
    columns, rows = np.nonzero(dense.T)
    counts = np.bincount(columns, minlength=dense.shape[1])
    return {
        "_shape": dense.shape,
        "data": dense[rows, columns],
        "format": "csc",
        "indices": rows.astype(np.int32),
        "indptr": np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        "maxprint": 50,
    }


def official_bytes(arrays, protocol=2):
    """`arrays` (official names, dense) as the official files hold them."""
    # MANO's shapedirs are the first 10 of the 20 directions that were computed.
    wide = np.concatenate([arrays["shapedirs"], 7 * np.ones((778, 3, 10))], axis=-1)
    indices = np.arange(wide.size).reshape(wide.shape)[:, :, :10].ravel()
    deps = {"r": {"deps": {"a"}, "value": None, "out_of_date": True}}
    bookkeeping = {"_dirty_vars": {"x"}, "_itr": None, "_make_dense": False}
    bookkeeping["_depends_on_deps"] = deps
    inner = _filled("Ch", x=wide, **bookkeeping)
    select = _filled("Select", a=inner, idxs=indices, preferred_shape=(778, 3, 10), **bookkeeping)
    sparse = _filled("csc_matrix", **_sparse_columns(arrays["J_regressor"]))
    model = {**arrays, "shapedirs": select, "J_regressor": sparse}
    model |= {"bs_style": "lbs", "bs_type": "lrotmin"}
    stream = io.BytesIO()
    _Python2Pickler(stream, protocol).dump(model)
    return stream.getvalue()


def write_official(folder, arrays_by_side):
    folder = pathlib.Path(folder)
    for side, arrays in arrays_by_side.items():
        (folder / f"MANO_{side.upper()}.pkl").write_bytes(official_bytes(arrays))
    return folder


@functools.cache
def open_arrays() -> dict:
    """The shipped hands' arrays, which look like hands, as the official files hold them."""
    with np.load(pathlib.Path(mano_jax.__file__).parent / "open_hand" / "open_hand.npz") as file:
        return {s: {k[len(s) + 1 :]: file[k] for k in file if k.startswith(s)} for s in SIDES}
