"""The MANO hand model in JAX: loading, posing, rotations, fitting, and hands free to ship.

Needs jax and numpy, and scipy for fits. Metres and radians throughout; joints in the order wrist,
then four each of thumb, index, middle, ring and pinky.
"""

from typing import TYPE_CHECKING, Any

from mano_jax.hand import (
    Hand,
    HandError,
    HandPair,
    hand_from_arrays,
    load_hands,
    load_pair,
    open_hands,
    save_npz,
)
from mano_jax.rotations import matrix_from_6d, matrix_from_6d_robust, matrix_from_axis_angle
from mano_jax.skinning import (
    HandMesh,
    axis_angle_to_pca,
    joints_from_vertices,
    pca_to_axis_angle,
    pose_hand,
    rest_joints,
    tip_indices,
)

if TYPE_CHECKING:
    from mano_jax.fitting import Fit, fit

__all__ = [
    "Fit",
    "Hand",
    "HandError",
    "HandMesh",
    "HandPair",
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
    "tip_indices",
]


def __getattr__(name: str) -> Any:
    """`fit` when it is first asked for: few programs do."""
    if name in ("Fit", "fit"):
        from mano_jax import fitting

        return getattr(fitting, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
