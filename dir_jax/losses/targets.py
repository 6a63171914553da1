"""Labels of a batch, made on the device from hand parameters.

The data pipeline sends parameters and one matrix per example, not meshes or drawn maps: posing two
hands and drawing 32x32 maps costs a GPU next to nothing, and would cost the host several times the
rest of its work.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from dir_jax.losses.rasterize import NEAR, nearest_faces
from dir_jax.models.types import (
    IMAGE_SIZE,
    MAP_SIZE,
    SEGMENTATION_CLASSES,
    Targets,
)
from mano_jax import HandPair, pose_hand, tip_indices
from mano_jax.constants import FACES, SIDES, VERTICES


def pose_batch(batch: Mapping[str, jax.Array], hands: HandPair, tips: str = "intaghand"):
    """Meshes of a batch in the stored photograph's camera, before augmentation.

    Args:
      batch: global_orient (B, 2, 3, 3), hand_pose (B, 2, 15, 3), betas (B, 2, 10), transl
        (B, 2, 3); hands in the order left, right.
      hands: the hand models.
      tips: convention of the fingertips.

    Returns:
      `mano_jax.HandMesh` of vertices (B, 2, 778, 3) and joints (B, 2, 21, 3), metres.
    """
    pose = jax.vmap(
        lambda hand, tip, *parameters: pose_hand(hand, *parameters, tips=tip),
        in_axes=(0, 0, 1, 1, 1, 1),
        out_axes=1,
    )
    names = ("global_orient", "hand_pose", "betas", "transl")
    return pose(hands.stacked(), tip_indices("both", tips), *(batch[name] for name in names))


def project(camera: jax.Array, points_xyz: jax.Array) -> jax.Array:
    """Pinhole projection to uv.

    Args:
      camera: (B, 3, 3) intrinsics of the crop, pixels.
      points_xyz: (B, ..., 3) metres, camera axes.

    Returns:
      (B, ..., 2) in [-1, 1] over the crop. Points at or behind the camera plane give finite
      numbers without meaning.
    """
    homogeneous = _apply(camera, points_xyz)
    pixels = homogeneous[..., :2] / jnp.maximum(homogeneous[..., 2:], NEAR)
    return pixels * (2.0 / IMAGE_SIZE) - 1.0


def _apply(matrices: jax.Array, points: jax.Array) -> jax.Array:
    # Full precision: TF32 would move points by a pixel.
    return jnp.einsum("bij,b...j->b...i", matrices, points, precision=jax.lax.Precision.HIGHEST)


def dense_colours(hands: HandPair) -> np.ndarray:
    """Colours (778, 3) in [0, 1] that name the places on a hand, the same for both hands.

    They are the right hand's template coordinates, each axis stretched to [0, 1]; a left hand's
    vertex has the colour of the right hand's vertex of the same number, its mirror image, so that
    a mirrored picture keeps its colours. (The released code takes such a table from IntagHand's
    `v_color.pkl`, which is not free to ship.)
    """
    template = np.asarray(hands.right.v_template)
    low, high = template.min(axis=0), template.max(axis=0)
    return (template - low) / (high - low)


def label_maps(
    vertices_uv: jax.Array,
    depth: jax.Array,
    hand_valid: jax.Array,
    hands: HandPair,
    colours: np.ndarray,
    size: int = MAP_SIZE,
) -> tuple[jax.Array, jax.Array]:
    """Draws both hands' label maps, sampled at the cells' centres.

    Args:
      vertices_uv: (B, 2, 778, 2) projected vertices of the left and right model.
      depth: (B, 2, 778) metres.
      hand_valid: (B, 2) bool; a hand without parameters is not drawn.
      hands: for the triangles.
      colours: (778, 3) correspondence colours of either hand.
      size: side of the maps.

    Returns:
      which: (B, S, S) int32, 0 where no hand is seen, 1 the left model, 2 the right one.
      dense: (B, S, S, 3) colours, 0 where no hand is seen.
    """
    batch = depth.shape[0]
    faces = np.concatenate([hands["left"].faces, hands["right"].faces + VERTICES])
    visible = nearest_faces(
        vertices_uv.reshape(batch, -1, 2),
        depth.reshape(batch, -1),
        faces,
        jnp.repeat(hand_valid, FACES, axis=1),
        size,
    )
    which = jnp.where(visible.face < 0, 0, 1 + visible.face // FACES)
    both = jnp.asarray(np.concatenate([colours, colours]), vertices_uv.dtype)
    corner_colours = both[jnp.asarray(faces)[visible.face]]
    return which, jnp.sum(visible.weights[..., None] * corner_colours, axis=-2)


def targets_from_batch(
    batch: Mapping[str, jax.Array],
    hands: HandPair,
    tips: str = "intaghand",
    colours: np.ndarray | None = None,
) -> Targets:
    """Labels of a batch; call it inside `jit` with `hands` fixed.

    Poses both hands, moves them as the image was moved (`motion`), swaps them where the image was
    mirrored, projects them, and draws the 32x32 maps at the centres of the cells. (The released
    code takes the nearest corner pixel for the segmentation, which lies 3.5 pixels off.)

    Args:
      batch: as from `input_pipeline.batches`: parameters, motion, flip, camera, hand_valid, and
        joint_valid where there are annotated joints.
      hands: the hand models.
      tips: convention of the fingertips among the label joints; the released code trains with
        IntagHand's.
      colours: (778, 3) correspondence colours; `dense_colours(hands)` when None.

    Returns:
      `Targets`; segmentation in the class order of `SEGMENTATION_CLASSES`. Of a hand without
      parameters only zeros are known (`hand_valid`); if its annotated joints say that it is in the
      photograph all the same, what is not the other hand may be this one (`pixel_valid`).
    """
    batch = {name: jnp.asarray(value) for name, value in batch.items()}
    mesh = pose_batch(batch, hands, tips)
    vertices_xyz = _apply(batch["motion"], mesh.vertices)
    joints_xyz = _apply(batch["motion"], mesh.joints)
    vertices_uv = project(batch["camera"], vertices_xyz)
    joints_uv = project(batch["camera"], joints_xyz)
    colours = dense_colours(hands) if colours is None else colours
    which, dense = label_maps(
        vertices_uv, vertices_xyz[..., 2], batch["hand_valid"], hands, colours
    )

    flip, hand_valid = batch["flip"], batch["hand_valid"]
    classes = jnp.array([0, *(SEGMENTATION_CLASSES.index(side) for side in SIDES)], jnp.int32)
    # A mirrored left hand is a right hand.
    which = jnp.where(flip[:, None, None] & (which > 0), 3 - which, which)
    swap = flip[:, None, None, None]
    joints_xyz, vertices_xyz, joints_uv, vertices_uv = (
        jnp.where(swap, labels[:, ::-1], labels)
        for labels in (joints_xyz, vertices_xyz, joints_uv, vertices_uv)
    )
    return Targets(
        joints_xyz=joints_xyz,
        vertices_xyz=vertices_xyz,
        joints_uv=joints_uv,
        vertices_uv=vertices_uv,
        segmentation=classes[which],
        dense=dense,
        hand_valid=jnp.where(flip[:, None], hand_valid[:, ::-1], hand_valid),
        pixel_valid=_pixel_valid(which, hand_valid, batch.get("joint_valid")),
    )


def _pixel_valid(which, hand_valid, joint_valid):
    """Cells (B, S, S) whose label is known: all, unless a hand was seen but has no parameters."""
    if joint_valid is None:
        return None
    unknown = (joint_valid.any(axis=-1) & ~hand_valid).any(axis=-1)
    return (which > 0) | ~unknown[:, None, None]
