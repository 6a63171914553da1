"""Loading, checking and repairing hand models."""

import io
import pathlib
import pickle
import tempfile
import zipfile

import hypothesis
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import mano_jax
from mano_jax.constants import SIDES
from mano_jax.hand import ARRAY_FIELDS, ArraysFileError, read_npz, write_npz
from tests.damage import damaged, edits
from tests.mano_jax.official_files import write_official


def test_official_folder_equals_arrays(tmp_path, toy_arrays, pair):
    loaded = mano_jax.load_pair(write_official(tmp_path, toy_arrays))
    for side in ("left", "right"):
        for name in ("v_template", "shapedirs", "posedirs", "J_regressor", "lbs_weights", "faces"):
            found, wanted = getattr(loaded[side], name), getattr(pair[side], name)
            np.testing.assert_array_equal(found, wanted, err_msg=f"{side} {name}")
            assert found.dtype == (np.int32 if name == "faces" else np.float64)
        assert loaded[side].side == side
    assert str(tmp_path) in loaded.name and "MANO" in loaded.licence


def test_only_the_left_shapes_are_repaired_and_saved_pairs_stay(tmp_path, toy_arrays, pair):
    wrong, right = toy_arrays["left"]["shapedirs"], toy_arrays["right"]["shapedirs"]
    np.testing.assert_array_equal(pair.left.shapedirs[:, 0], -wrong[:, 0])
    np.testing.assert_array_equal(pair.left.shapedirs[:, 1:], wrong[:, 1:])
    np.testing.assert_array_equal(pair.right.shapedirs, right)
    # A mirrored right hand moves like the left one: what the repair is for.
    mirrored = pair.right.shapedirs * np.array([-1.0, 1, 1])[:, None]
    np.testing.assert_array_equal(pair.left.shapedirs, mirrored)
    mano_jax.save_npz(pair, tmp_path)
    again = mano_jax.load_pair(tmp_path)
    for side in SIDES:
        for name in ARRAY_FIELDS:
            np.testing.assert_array_equal(getattr(again[side], name), getattr(pair[side], name))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["MANO_LEFT.npz", "MANO_RIGHT.npz"]
    np.testing.assert_array_equal(toy_arrays["left"]["shapedirs"], wrong)  # input untouched


def _changed(arrays, name, value):
    return {**arrays, "left": {**arrays["left"], name: value}}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("shapedirs", lambda a: a[..., :9], r"shapedirs .*, 3, 9\); wanted \(778, 3, 10\)"),
        ("v_template", lambda a: a[:-1], r"v_template has shape \(777, 3\); wanted \(778, 3\)"),
        ("posedirs", lambda a: a.reshape(-1), r"posedirs .* wanted \(778, 3, 135\)"),
        ("J_regressor", lambda a: a.T, r"J_regressor .* wanted \(16, 778\)"),
        ("weights", lambda a: a * np.nan, r"weights holds 12448 values that are not finite"),
        ("weights", lambda a: a * 2, r"a row of weights sums to 2; wanted 1"),
        ("hands_mean", lambda a: a.astype("S8"), r"hands_mean has dtype \|S8; wanted numbers"),
        ("hands_mean", lambda a: a.astype(object), r"hands_mean has dtype object; wanted numbers"),
        ("f", lambda a: a + 1000, r"f names vertices 1000 to .*; wanted 0 to 777"),
        ("kintree_table", lambda a: a[:, ::-1], r"kintree_table .*; wanted \(0, 1, 2, 0"),
    ],
)  # fmt: skip
def test_every_array_is_checked(toy_arrays, name, change, message):
    value = change(toy_arrays["left"][name])
    with pytest.raises(mano_jax.HandError, match=f"left: {message}"):
        mano_jax.load_pair(_changed(toy_arrays, name, value))


def test_errors_name_the_file(tmp_path, toy_arrays):
    with pytest.raises(mano_jax.HandError, match="no such folder"):
        mano_jax.load_pair(tmp_path / "absent")
    with pytest.raises(mano_jax.HandError, match=r"neither MANO_LEFT\.pkl nor MANO_LEFT\.npz"):
        mano_jax.load_pair(tmp_path)
    write_official(tmp_path, toy_arrays)
    left = tmp_path / "MANO_LEFT.pkl"
    whole = left.read_bytes()
    left.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(mano_jax.HandError, match=r"MANO_LEFT\.pkl: cannot be unpickled"):
        mano_jax.load_pair(tmp_path)
    left.write_bytes(pickle.dumps({"f": np.zeros(3)}))
    with pytest.raises(mano_jax.HandError, match=r"MANO_LEFT\.pkl: v_template, .* missing"):
        mano_jax.load_pair(tmp_path)
    left.write_bytes(pickle.dumps([1]))
    with pytest.raises(mano_jax.HandError, match="holds a list; wanted a dict"):
        mano_jax.load_pair(tmp_path)
    left.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(mano_jax.HandError, match=r"MANO_LEFT\.pkl: cannot be unpickled"):
        mano_jax.load_pair(tmp_path)
    left.unlink()
    (tmp_path / "MANO_LEFT.npz").write_bytes(b"not a zip")
    with pytest.raises(mano_jax.HandError, match=r"MANO_LEFT\.npz cannot be read as npz"):
        mano_jax.load_pair(tmp_path)
    with pytest.raises(mano_jax.HandError, match="no right hand"):
        mano_jax.load_pair({"left": toy_arrays["left"]})
    with pytest.raises(mano_jax.HandError, match="same v_template"):
        mano_jax.load_pair({"left": toy_arrays["left"], "right": toy_arrays["left"]})


@pytest.fixture(scope="module")
def open_arrays():
    """The shipped hands' arrays, which look like hands, as the official files hold them."""
    with np.load(pathlib.Path(mano_jax.__file__).parent / "open_hand" / "open_hand.npz") as file:
        return {s: {k[len(s) + 1 :]: file[k] for k in file if k.startswith(s)} for s in SIDES}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: {"left": h["right"], "right": h["left"]}, "LEFT.*thumb lies as a right hand's"),
        (lambda h: {**h, "right": h["left"]}, r"RIGHT.*thumb lies as a left .*swapped"),
        (lambda h: {s: _with(h[s], "v_template", 1000) for s in h}, "192 m long; .* not mm"),
        (lambda h: {s: _with(h[s], "v_template", 0) for s in h}, "v_template holds only zeros"),
        (lambda h: {**h, "right": _with(h["right"], "shapedirs", 0)}, "RIGHT.*shapedirs .* zeros"),
    ],
)
@pytest.mark.parametrize("form", ["official", "npz"])
def test_swapped_scaled_and_empty_hands_are_refused(tmp_path, open_arrays, form, change, message):
    for side, arrays in change(open_arrays).items():
        if form == "npz":
            write_npz(tmp_path / f"MANO_{side.upper()}.npz", arrays)
        else:
            write_official(tmp_path, {side: arrays})
    with pytest.raises(mano_jax.HandError, match=message) as caught:
        mano_jax.load_pair(tmp_path)
    assert "\n" not in str(caught.value)


def _with(arrays, name, factor):
    return {**arrays, name: factor * arrays[name]}


def test_a_turned_hand_keeps_its_side(open_arrays):
    """The side is told by the thumb, not by the axes that the official files happen to use."""
    turn = Rotation.from_rotvec([0.3, -2.0, 1.1]).as_matrix()
    for side, arrays in open_arrays.items():
        turned = arrays["hands_mean"].reshape(15, 3) @ turn.T
        changes = {"v_template": arrays["v_template"] @ turn.T, "hands_mean": turned.ravel()}
        assert mano_jax.hand_from_arrays({**arrays, **changes}, side).side == side


def _npy(header_shape, data=b"", descr="'<f8'"):
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {header_shape}, }}"
    header = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data


@pytest.mark.parametrize(
    "content",
    [
        _npy("(1099511627776,)"),  # declares 8 TB
        _npy("(4294967296, 4294967296)"),  # whose byte count wraps round to zero
        _npy("(-1,)"),
        _npy("(2,)", bytes(8)),
        _npy("(1,)", bytes(8), "'|O'"),
        _npy("(1,)", bytes(8), "[('a', '|O')]"),
        _npy("(__import__('os').system('true'),)"),
        _npy("(1,)", bytes(8))[:20],
        b"\x93NUMPY\x09\x00", b"", b"plain text",
    ],
)  # fmt: skip
def test_hostile_npz_members_are_refused(tmp_path, content):
    path = tmp_path / "arrays.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("betas.npy", content)
    try:  # what is no array at all comes as its bytes, and is refused as one later
        assert isinstance(read_npz(path)["betas"].item(), bytes)
    except ArraysFileError as error:
        assert str(error).startswith(f"{path} cannot be read as npz") and "\n" not in str(error)


def test_npz_objects_bombs_and_damage_are_refused(tmp_path):
    path = tmp_path / "arrays.npz"
    np.savez(path, a=np.array([{}, None], dtype=object), allow_pickle=True)
    with pytest.raises(ArraysFileError, match="Object arrays cannot be loaded"):
        read_npz(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", _npy("(10000000,)", bytes(80_000_000)))
    assert path.stat().st_size < 100_000
    with pytest.raises(ArraysFileError, match="wanted at most 1000000"):
        read_npz(path, limit_bytes=1_000_000)
    stream = io.BytesIO()
    np.savez_compressed(stream, a=np.random.RandomState(0).normal(size=1000))
    damaged = bytearray(stream.getvalue())
    damaged[2000] ^= 255
    path.write_bytes(damaged)
    with pytest.raises(ArraysFileError, match=r"arrays\.npz"):
        read_npz(path)


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(edits([b"PK\x01\x02", b"\x93NUMPY\x01\0", b"|O", b"(4, 6)"]))
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
