"""Official files load; hostile ones are refused before anything in them runs."""

import codecs
import io
import os
import pickle
import struct
import subprocess
import sys

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from mano_jax.unpickle import NUMPY_ONLY, OFFICIAL_MANO, UnpickleError, restricted_load
from tests.damage import damaged, edits
from tests.mano_jax.official_files import official_bytes

LISTS = pytest.mark.parametrize("allow", [None, OFFICIAL_MANO], ids=["numpy", "official"])


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


def load(data, allow=None):
    return restricted_load(data) if allow is None else restricted_load(data, allow)


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_official_form_gives_the_same_arrays(toy_arrays, protocol):
    data = official_bytes(toy_arrays["right"], protocol)
    assert b"chumpy.reordering" in data and b"scipy.sparse.csc\n" in data
    assert b"__builtin__" in data and b"numpy.core.multiarray" in data
    model = restricted_load(data, OFFICIAL_MANO)
    for name, wanted in toy_arrays["right"].items():
        assert model[name].dtype == wanted.dtype
        np.testing.assert_array_equal(model[name], wanted, err_msg=name)
    assert model["bs_style"] == "lbs"


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_and_arrays_of_any_protocol(protocol):
    value = {
        "mano_params": {"left": {"R": np.random.RandomState(0).normal(size=(1, 3, 3))}},
        "fortran": np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4)),
        "big_endian": np.arange(5, dtype=">i4"),
        "flags": np.array([True, False]),
        "empty": np.zeros((0, 3)),
        "scalar": np.float32(1.5),
        "list": [1, 2.5, None, "text", b"\x00\xff", (True,)],
    }
    value["again"] = value["fortran"]
    loaded = restricted_load(pickle.dumps(value, protocol))
    np.testing.assert_equal(loaded, value)
    assert loaded["again"] is loaded["fortran"]
    assert loaded["big_endian"].dtype == np.int32 and loaded["scalar"].dtype == np.float32


@LISTS
@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, "system"), (eval, "eval"), (exec, "exec"), (getattr, "getattr"),
        (subprocess.Popen, "Popen"), (np.load, "load"), (open, "open"), (__import__, "__import__"),
        (np.memmap, "memmap"), (pickle.loads, "loads"),
    ],
)  # fmt: skip
def test_calls_are_refused_by_name(allow, protocol, function, name, tmp_path):
    trace = tmp_path / "trace"
    data = pickle.dumps({"v_template": Call(function, f"touch {trace}")}, protocol)
    with pytest.raises(UnpickleError, match=rf"{name}.*nothing of it ran"):
        load(data, allow)
    assert not trace.exists()


def test_numpy_only_list_refuses_chumpy(toy_arrays):
    with pytest.raises(UnpickleError, match=r"chumpy|scipy"):
        restricted_load(official_bytes(toy_arrays["left"]))


@LISTS
def test_object_arrays_are_refused(allow, tmp_path):
    trace = tmp_path / "trace"
    inner = np.array([Call(os.system, f"touch {trace}"), 1], dtype=object)
    with pytest.raises(UnpickleError, match="system"):
        load(pickle.dumps(inner), allow)
    for harmless in (np.array([{}, 1], dtype=object), np.zeros(2, [("a", "f4"), ("b", "O")])):
        with pytest.raises(UnpickleError, match="dtype"):
            load(pickle.dumps(harmless), allow)
    assert not trace.exists()


@pytest.mark.parametrize(
    "data",
    [
        reconstructed(b"(I1\n(I1099511627776\ntDTYPEI0\n" + EIGHT + b"t"),  # declares 8 TB
        reconstructed(b"(I1\n(I-1\ntDTYPEI0\n" + EIGHT + b"t"),
        reconstructed(b"(I1\n(I2\ntDTYPEI0\n" + EIGHT + b"t"),  # reads past its data
        reconstructed(b"(I1\n(I4294967296\nI4294967296\ntDTYPEI0\n" + EIGHT + b"t"),  # wraps to 0
        reconstructed(b"(I1\n(I1\ntDTYPEI0\n(lt"),
        reconstructed(b"(I1\n(I1\ntDTYPEI0\n" + EIGHT + b"t", DTYPE % b"O8"),
        reconstructed(b"(I1\n(I1\ntDTYPEI0\n" + EIGHT + b"t", DTYPE % b"V8"),
        # A dtype whose state claims records with objects in them.
        reconstructed(
            b"(I1\n(I1\ntDTYPEI0\n" + EIGHT + b"t",
            b"cnumpy\ndtype\n(S'f8'\nI0\nI1\ntR(I3\nS'|'\nN(S'a'\nt}S'a'\n(S'O'\nI0\ntsI8\nI1\nI27\ntb",
        ),
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(I0\ntS'b'\ntR.",
        b"\x80\x02cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'O'\nI0\nI1\ntRS'x'\ntR.",
        b"\x80\x02cnumpy\nndarray\n.",  # the bare class
        b"\x80\x02cnumpy\nndarray\n}S'__setstate__'\nNsb.",  # state given to a class
        b"\x80\x02cnumpy\nndarray\nN}S'state'\nI1\ns\x86b.",  # attributes set on a class
        b"\x80\x02cnumpy\ndtype\n(S'f8'\ntRcnumpy\ndtype\n(ta.",  # append to something recorded
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f",  # a frame of 2**63 bytes
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x0fabc.",  # bytes beyond the file
        b"\x80\x04\x96\xff\xff\xff\xff\xff\xff\xff\x0fabc.",
        b"\x80\x02T\xff\xff\xff\x7fabc.",
        b"\x80\x02]q\x00h\x00a.",  # a list that contains itself
        b"\x80\x02" + 5000 * b"](" + b"N" + 5000 * b"e" + b".",
        b"\x80\x02\x82\x01.", b"\x80\x02I1\nQ.", b"P1\n.", b"\x80\x05\x97.",  # outside the file
        b"L" + 100000 * b"9" + b"L\n.",
        b"\x80\x02(iposix\nsystem\n.", b"\x80\x04\x8c\x05posix\x8c\x06system\x93.",
        b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.",
        b"\x80\x02c__builtin__\nbytes\nJ\xff\xff\xff\x7f\x85R.",
        b"", b".", b"\x80", b"\x80\x09N.", b"N", b"0.", b"\xff\xfe", 1000 * b"(",
    ],
)  # fmt: skip
@LISTS
def test_hostile_and_broken_pickles_raise_one_error(data, allow):
    with pytest.raises(UnpickleError) as caught:
        load(data, allow)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_sparse_matrices_sum_what_is_listed_twice():
    loaded = restricted_load(csc([1.0, 2.0, 5.0], [0, 0, 1], [0, 2, 3], (2, 2)), OFFICIAL_MANO)
    np.testing.assert_array_equal(loaded, [[3.0, 0.0], [0.0, 5.0]])


@pytest.mark.parametrize(
    "data",
    [
        csc([1.0], [2], [0, 1], (2, 1)),
        csc([1.0], [-1], [0, 1], (2, 1)),
        csc([1.0], [0], [0, 1], (2**35, 1)),
        csc([1.0], [0], [0, 5], (2, 1)),
        csc([1.0], [0], [1, 0], (2, 1)),
        csc([1.0], [0], [0, 1], (2, 7)),
        csc([1.0], [0.5], [0, 1], (2, 1)),
        b"\x80\x02" + chumpy("Ch", b"}") + b".",
        b"\x80\x02" + chumpy("Ch", b"N") + b".",
        b"\x80\x02cchumpy.ch\nCh\n.",
        select(np.ones(3), np.array([3])),
        select(np.ones(3), np.array([-4])),
        select(np.ones(3), np.ones(1)),
        b"ccopy_reg\n_reconstructor\n(cposix\nsystem\nc__builtin__\nobject\nNtR.",
        b"ccopy_reg\n_reconstructor\n(ccopy_reg\n_reconstructor\nc__builtin__\nobject\nNtR.",
        b"ccopy_reg\n_reconstructor\n(c__builtin__\nset\nc__builtin__\nobject\nNtR.",
        b"ccopy_reg\n_reconstructor\n(I3\nc__builtin__\nobject\nNtR.",
    ],
)  # fmt: skip
def test_misused_stand_ins_are_refused(data):
    with pytest.raises(UnpickleError):
        restricted_load(data, OFFICIAL_MANO)


def test_selections_cannot_multiply_memory():
    """Many small selections that share one long index list: 1 MB that would become 8 GB."""
    stream = io.BytesIO()
    stream.write(b"\x80\x02" + array(np.zeros(100_000, np.int64)) + b"q\x300")
    select = chumpy("Select", entries(a=array(np.ones(1))) + b"U\x04idxsh\x30s")
    stream.write(b"](" + 10_000 * select + b"e.")
    with pytest.raises(UnpickleError, match="grow"):
        restricted_load(stream.getvalue(), OFFICIAL_MANO)


def test_frames_cannot_hide_instructions():
    """A frame that ends within a number makes Python's unpickler skip the bytes left in it.

    It would take the payload from its third byte on for instructions, here one that remembers
    value 2147483632 and so asks for 34 GB.
    """
    payload = b"\x00\x00r\xf0\xff\xff\x7f.".ljust(16, b"\x00")
    frame = b"\x95" + (3).to_bytes(8, "little")
    data = b"\x80\x04" + frame + b"B" + (16).to_bytes(4, "little") + payload + b"."
    assert restricted_load(data) == payload


def test_limits_and_missing_files(tmp_path):
    with pytest.raises(UnpickleError, match="cannot be read"):
        restricted_load(tmp_path / "none.pkl")
    (tmp_path / "big.pkl").write_bytes(pickle.dumps(bytes(1000)))
    with pytest.raises(UnpickleError, match="more than 100 bytes"):
        restricted_load(tmp_path / "big.pkl", limit_bytes=100)


# Damage at random: Python's own audit says whether anything ran.

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
