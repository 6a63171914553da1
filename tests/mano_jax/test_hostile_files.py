"""Damaged and hostile files at random: Python's own audit says whether anything ran."""

import codecs
import io
import os
import pathlib
import pickle
import sys
import tempfile

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from mano_jax.load import ArraysFileError, read_npz
from mano_jax.unpickle import NUMPY_ONLY, OFFICIAL_MANO, UnpickleError, restricted_load
from tests.damage import damaged, edits
from tests.mano_jax.hostile_files import Call, csc, select

_WATCHED = ("exec", "compile", "open", "os.", "subprocess.", "socket.", "ctypes.", "shutil.")
_happened = None


def _watch(event, arguments):
    if _happened is not None and event.startswith(_WATCHED):
        _happened.append((event, str(arguments)[:100]))


@pytest.fixture(scope="module")
def watched():
    """Collects what Python's audit events say was opened, compiled, run or connected to."""
    for name in ("raw_unicode_escape", "unicode_escape", "latin1", "ascii", "utf-8"):
        codecs.lookup(name)  # their modules load on first use
    sys.addaudithook(_watch)  # cannot be taken away again; does nothing while _happened is None

    def events(data, allow):
        global _happened
        _happened = []
        try:
            restricted_load(data, allow)
        except UnpickleError:
            pass
        finally:
            happened, _happened = _happened, None
        return happened

    return events


_PLAIN = {"R": np.eye(3), "n": [1, "a", b"b", None, (np.float32(2),)], "s": {True}}
_SEEDS = [pickle.dumps(_PLAIN, protocol) for protocol in range(6)]
_SEEDS.append(csc([1.0, 2.0, 5.0], [0, 0, 1], [0, 2, 3], (2, 2)))
_SEEDS.append(select(np.ones((4, 3, 2)), np.arange(12)))
_PIECES = [
    b"cposix\nsystem\n", b"c__builtin__\neval\n", b"cnumpy\nndarray\n", b"cnumpy\ndtype\n",
    b"c_codecs\nencode\n", b"cchumpy.ch\nCh\n", b"ccopy_reg\n_reconstructor\n", b"(", b"t", b"R",
    b"b", b"\x81", b"}", b"]", b"0", b"2", b"\x85", b"\x86", b"q\x01", b"h\x01",
    b"\xff\xff\xff\x7f",
]  # fmt: skip
_EDITS = edits(_PIECES)


@hypothesis.settings(
    max_examples=500, deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)  # fmt: skip
@hypothesis.given(strategies.sampled_from(_SEEDS), _EDITS, strategies.booleans())
def test_whatever_a_file_holds_nothing_runs(watched, seed, edits, official):
    data = damaged(seed, edits)
    assert watched(data, OFFICIAL_MANO if official else NUMPY_ONLY) == []


def test_the_watch_sees_what_a_trusting_unpickler_would_run(watched, monkeypatch):
    hostile = pickle.dumps(Call(os.system, "true"))
    trusting = lambda data, *_: (pickle.loads(data), len(data))  # noqa: E731
    monkeypatch.setitem(restricted_load.__globals__, "record_pickle", trusting)
    assert [event for event, _ in watched(hostile, NUMPY_ONLY)] == ["os.system"]


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(_EDITS)
def test_damaged_npz_files_load_or_raise_the_one_error(edits):
    stream = io.BytesIO()
    np.savez_compressed(stream, a=np.arange(9.0), b=np.array("text"))
    data = damaged(stream.getvalue(), edits)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "arrays.npz"
        path.write_bytes(data)
        try:
            read_npz(path)
        except ArraysFileError:
            pass
