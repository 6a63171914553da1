"""Loading, checking and repairing hand models."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import mano_jax
from mano_jax.constants import SIDES
from mano_jax.hand import ARRAY_FIELDS, ArraysFileError, read_npz
from tests.mano_jax.official_files import open_arrays, write_official


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


def test_a_turned_hand_keeps_its_side():
    """The side is told by the thumb, not by the axes that the official files happen to use."""
    turn = Rotation.from_rotvec([0.3, -2.0, 1.1]).as_matrix()
    for side, arrays in open_arrays().items():
        turned = arrays["hands_mean"].reshape(15, 3) @ turn.T
        changes = {"v_template": arrays["v_template"] @ turn.T, "hands_mean": turned.ravel()}
        assert mano_jax.hand_from_arrays({**arrays, **changes}, side).side == side


def test_npz_files_do_not_unpack_beyond_a_limit(tmp_path):
    """(Objects in them, and damage: tests/hostile.)"""
    path = tmp_path / "arrays.npz"
    np.savez_compressed(path, a=np.zeros(10_000_000))
    assert path.stat().st_size < 100_000
    with pytest.raises(ArraysFileError, match="wanted at most 1000000"):
        read_npz(path, limit_bytes=1_000_000)
