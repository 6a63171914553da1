"""The MANO hand model in JAX: loading, posing, rotations, fitting, and hands free to ship.

Needs jax and numpy only. Metres and radians throughout; joints in the order wrist, then four each
of thumb, index, middle, ring and pinky.
"""

from mano_jax.fitting import Fit, fit
from mano_jax.hand import Hand, HandError, HandPair
from mano_jax.load import hand_from_arrays, load_hands, load_pair, open_hands, save_npz
from mano_jax.rotations import (
    axis_angle_from_matrix,
    matrix_from_6d,
    matrix_from_6d_robust,
    matrix_from_axis_angle,
    sixd_from_matrix,
)
from mano_jax.skinning import (
    HandMesh,
    axis_angle_to_pca,
    joints_from_vertices,
    pca_to_axis_angle,
    pose_hand,
    rest_joints,
    tip_indices,
)

__all__ = [
    "Fit",
    "Hand",
    "HandError",
    "HandMesh",
    "HandPair",
    "axis_angle_from_matrix",
    "axis_angle_to_pca",
    "fit",
    "hand_from_arrays",
    "joints_from_vertices",
    "load_hands",
    "load_pair",
    "matrix_from_6d",
    "matrix_from_6d_robust",
    "matrix_from_axis_angle",
    "open_hands",
    "pca_to_axis_angle",
    "pose_hand",
    "rest_joints",
    "save_npz",
    "sixd_from_matrix",
    "tip_indices",
]
