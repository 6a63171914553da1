"""Writes pickles of exactly the form of the official MANO files: Python 2, chumpy, old scipy."""

import contextlib
import io
import pathlib
import pickle
import struct
import sys
import types
import typing

import numpy as np


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
        if getattr(obj, "__name__", "") == "_reconstruct":
            self.write(b"cnumpy.core.multiarray\n_reconstruct\n")
            self.memoize(obj)
        else:
            super().save_global(obj, name)

    dispatch[types.FunctionType] = dispatch[type] = save_global
    dispatch[types.BuiltinFunctionType] = save_global


@contextlib.contextmanager
def _old_modules():
    """chumpy and scipy.sparse.csc as modules with empty classes, while pickling only."""
    classes = {
        "chumpy.ch": type("Ch", (), {"__module__": "chumpy.ch"}),
        "chumpy.reordering": type("Select", (), {"__module__": "chumpy.reordering"}),
        "scipy.sparse.csc": type("csc_matrix", (), {"__module__": "scipy.sparse.csc"}),
    }
    names = [*classes, "chumpy", "scipy", "scipy.sparse"]
    saved = {name: sys.modules.pop(name, None) for name in names}
    try:
        for name in names:
            sys.modules[name] = types.ModuleType(name)
        for name, made in classes.items():
            setattr(sys.modules[name], made.__name__, made)
        yield {made.__name__: made for made in classes.values()}
    finally:
        for name in names:
            del sys.modules[name]
            if saved[name] is not None:
                sys.modules[name] = saved[name]


def _filled(cls, **attributes):
    made = cls()
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
    with _old_modules() as classes:
        # MANO's shapedirs are the first 10 of the 20 directions that were computed.
        wide = np.concatenate([arrays["shapedirs"], 7 * np.ones((778, 3, 10))], axis=-1)
        indices = np.arange(wide.size).reshape(wide.shape)[:, :, :10].ravel()
        bookkeeping = {
            "_dirty_vars": {"x"},
            "_itr": None,
            "_make_dense": False,
            "_depends_on_deps": {"r": {"deps": {"a"}, "value": None, "out_of_date": True}},
        }
        select = _filled(
            classes["Select"],
            a=_filled(classes["Ch"], x=wide, **bookkeeping),
            idxs=indices,
            preferred_shape=(778, 3, 10),
            **bookkeeping,
        )
        sparse = _filled(classes["csc_matrix"], **_sparse_columns(arrays["J_regressor"]))
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
