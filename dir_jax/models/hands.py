"""From a hand's 64 numbers to its mesh and the mesh's image (docs/method.md, "Hand model")."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dir_jax.models.config import ModelConfig
from dir_jax.models.types import BETAS, CAMERA_SCALE, CAMERA_TRANSLATION, POSE, ROTATION, Stage
from mano_jax import HandPair, matrix_from_6d_robust, pca_to_axis_angle, pose_hand, tip_indices


def project_weak_perspective(xyz: jax.Array, params: jax.Array) -> jax.Array:
    """uv = s * xy + t.

    Args:
      xyz: (..., N, 3) metres.
      params: (..., 64).

    Returns:
      (..., N, 2) in [-1, 1] over the crop.
    """
    scale = params[..., CAMERA_SCALE, None, None]
    return scale * xyz[..., :2] + params[..., None, CAMERA_TRANSLATION]


def decode(hands: HandPair, params: jax.Array, offset: jax.Array, config: ModelConfig) -> Stage:
    """Meshes, joints and their projections of both hands.

    Computed in float32 at least, whatever the network's arithmetic.

    Args:
      hands: the hand models.
      params: (B, 2, 64).
      offset: (B, 3) in units of 0.15 m.
      config: its root joint, tips and rotations.
    """
    params = params.astype(jnp.promote_types(params.dtype, jnp.float32))
    offset = offset.astype(params.dtype)

    def one_side(hand, tip_vertices, params):  # params (B, 64)
        coefficients = params[..., POSE]
        return pose_hand(
            hand,
            matrix_from_6d_robust(params[..., ROTATION]),
            pca_to_axis_angle(hand, coefficients),
            params[..., BETAS],
            root_joint=config.root_joint,
            tips=tip_vertices,
            rotations=config.rotations,
        )

    both = jax.vmap(one_side, in_axes=(0, 0, 1), out_axes=1)
    mesh = both(hands.stacked(), tip_indices("both", config.tips), params)
    return Stage(
        params=params,
        offset=offset,
        joints_xyz=mesh.joints,
        vertices_xyz=mesh.vertices,
        joints_uv=project_weak_perspective(mesh.joints, params),
        vertices_uv=project_weak_perspective(mesh.vertices, params),
    )
