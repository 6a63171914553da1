"""Pieces of pickles that no honest program writes."""

import pickle
import struct

import numpy as np


class Call:
    """Pickles as a call of any function with any arguments."""

    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


DTYPE = b"cnumpy\ndtype\n(S'%s'\nI0\nI1\ntR"


def reconstructed(state, dtype=DTYPE % b"f8"):
    """An array whose state is given as pickle instructions."""
    head = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    return b"\x80\x02" + head + state.replace(b"DTYPE", dtype) + b"b."


EIGHT = b"U\x08abcdefgh"


def chumpy(kind, state):
    module = {"Ch": b"chumpy.ch", "Select": b"chumpy.reordering"}[kind]
    return b"c" + module + b"\n" + kind.encode() + b"\n)\x81" + state + b"b"


def array(values):
    return pickle.dumps(values, 2)[2:-1].replace(b"numpy._core.", b"numpy.core.")


def entries(**entries):
    items = b"".join(b"U" + struct.pack("B", len(k)) + k.encode() + v for k, v in entries.items())
    return b"}(" + items + b"u"


def csc(data, indices, indptr, shape):
    state = entries(
        data=array(np.array(data)), indices=array(np.array(indices)),
        indptr=array(np.array(indptr)), _shape=array(shape),
    )  # fmt: skip
    return b"\x80\x02cscipy.sparse.csc\ncsc_matrix\n)\x81" + state + b"b."


def select(values, indices):
    state = entries(a=array(values), idxs=array(indices))
    return b"\x80\x02" + chumpy("Select", state) + b"."
