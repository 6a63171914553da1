"""Loading, checking and repairing hand models."""

import io
import pathlib

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import mano_jax
from mano_jax.constants import SIDES
from mano_jax.hand import ARRAY_FIELDS, ArraysFileError, read_npz
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


def test_arrays_of_two_different_hands_are_wanted(toy_arrays):
    with pytest.raises(mano_jax.HandError, match="no right hand"):
        mano_jax.load_pair({"left": toy_arrays["left"]})
    with pytest.raises(mano_jax.HandError, match="same v_template"):
        mano_jax.load_pair({"left": toy_arrays["left"], "right": toy_arrays["left"]})


@pytest.fixture(scope="module")
def open_arrays():
    """The shipped hands' arrays, which look like hands, as the official files hold them."""
    with np.load(pathlib.Path(mano_jax.__file__).parent / "open_hand" / "open_hand.npz") as file:
        return {s: {k[len(s) + 1 :]: file[k] for k in file if k.startswith(s)} for s in SIDES}


def test_a_turned_hand_keeps_its_side(open_arrays):
    """The side is told by the thumb, not by the axes that the official files happen to use."""
    turn = Rotation.from_rotvec([0.3, -2.0, 1.1]).as_matrix()
    for side, arrays in open_arrays.items():
        turned = arrays["hands_mean"].reshape(15, 3) @ turn.T
        changes = {"v_template": arrays["v_template"] @ turn.T, "hands_mean": turned.ravel()}
        assert mano_jax.hand_from_arrays({**arrays, **changes}, side).side == side


def test_npz_objects_bombs_and_damage_are_refused(tmp_path):
    path = tmp_path / "arrays.npz"
    np.savez(path, a=np.array([{}, None], dtype=object), allow_pickle=True)
    with pytest.raises(ArraysFileError, match="Object arrays cannot be loaded"):
        read_npz(path)
    np.savez_compressed(path, a=np.zeros(10_000_000))
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
