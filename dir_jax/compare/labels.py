"""Random but plausible labels for one training step, in both codes' forms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from dir_jax.models.types import IMAGE_SIZE, MAP_SIZE, Targets
from mano_jax import HandPair, matrix_from_6d_robust, pca_to_axis_angle, pose_hand
from mano_jax.constants import SIDES

CELL = IMAGE_SIZE // MAP_SIZE


def maps_as_the_reference(
    segmentation: np.ndarray, dense: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Full-size label maps at 32x32, sampled as the reference does.

    torch's nearest takes the upper left pixel of each 8x8 cell; its bilinear the mean of the four
    pixels around the cell's centre.

    Args:
      segmentation: (B, 256, 256) class numbers.
      dense: (B, 256, 256, 3).

    Returns:
      (B, 32, 32) int32 and (B, 32, 32, 3).
    """
    middle = slice(CELL // 2 - 1, CELL // 2 + 1)
    cells = dense.reshape(-1, MAP_SIZE, CELL, MAP_SIZE, CELL, 3)
    return segmentation[:, ::CELL, ::CELL].astype(np.int32), cells[:, :, middle, :, middle].mean(
        (2, 4)
    )


def _meshes(hands: HandPair, generator, count: int):
    """Random poses about 0.8 m before the camera: vertices and joints, (B, 2, ..., 3)."""
    vertices, joints = [], []
    for side, x in zip(SIDES, (-0.06, 0.06), strict=True):
        sixd = np.array([1.0, 0, 0, 0, 1, 0]) + 0.5 * generator.normal(size=(count, 6))
        coefficients = 0.5 * generator.normal(size=(count, 45))
        place = np.array([x, 0, 0.8]) + 0.03 * generator.normal(size=(count, 3))
        mesh = pose_hand(
            hands[side],
            matrix_from_6d_robust(jnp.asarray(sixd)),
            pca_to_axis_angle(hands[side], jnp.asarray(coefficients)),
            0.5 * generator.normal(size=(count, 10)),
            place,
            root_joint=0,
        )
        vertices.append(np.asarray(mesh.vertices))
        joints.append(np.asarray(mesh.joints))
    return np.stack(vertices, 1), np.stack(joints, 1)


def random_labels(hands: HandPair, seed: int, count: int = 2) -> tuple[Targets, tuple]:
    """Labels in float64: ours, and the reference's (target, meta) of torch tensors."""
    ours, segmentation, dense = random_targets(hands, seed, count)
    return ours, _for_reference(ours, segmentation, dense)


def random_targets(
    hands: HandPair, seed: int, count: int
) -> tuple[Targets, np.ndarray, np.ndarray]:
    """Labels in float64, and their maps at full size, (B, 256, 256) classes and (..., 3)."""
    generator = np.random.default_rng(seed)
    with jax.enable_x64(True):
        vertices, joints = _meshes(hands, generator, count)
    blocks = generator.integers(0, 3, (count, 16, 16))
    segmentation = np.repeat(np.repeat(blocks, 16, 1), 16, 2)
    colours = generator.uniform(size=(count, 16, 16, 3))
    dense = np.repeat(np.repeat(colours, 16, 1), 16, 2) * (segmentation > 0)[..., None]
    small_segmentation, small_dense = maps_as_the_reference(segmentation, dense)

    def project(points):
        return 4 * points[..., :2] / points[..., 2:]

    ours = Targets(
        joints_xyz=joints,
        vertices_xyz=vertices,
        joints_uv=project(joints),
        vertices_uv=project(vertices),
        segmentation=small_segmentation,
        dense=small_dense,
    )
    return ours, segmentation, dense


def _for_reference(ours: Targets, segmentation: np.ndarray, dense: np.ndarray) -> tuple:
    import torch

    def tensor(value):
        return torch.from_numpy(np.ascontiguousarray(value))

    target = {
        "seg": tensor(segmentation[:, None].astype(np.float64)),
        "dense": tensor(np.moveaxis(dense, 3, 1)),
    }
    meta = {}
    for hand, side in enumerate(SIDES):
        for name, kind in (("joint", "joints"), ("mesh", "vertices")):
            xyz = getattr(ours, f"{kind}_xyz")[:, hand]
            uv = getattr(ours, f"{kind}_uv")[:, hand]
            target[f"{name}_3d_{side}"] = tensor(xyz)
            target[f"{name}_2d_{side}"] = tensor(np.concatenate([uv, xyz[..., 2:]], -1))
        meta[f"center_{side}"] = tensor(ours.joints_xyz[:, hand, :1])
    return target, meta
