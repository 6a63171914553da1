"""What both networks are given: random but plausible weights, images and labels, reproducible.

The weights stand under the released checkpoint's names, exercise every tensor and keep the network
in its working range (hands in view, BatchNorm far from identity). The reference's stored numbers in
tests/golden were computed with them, so the values must never change: they come from
`numpy.random.RandomState`, whose stream is frozen.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from dir_jax.models.types import IMAGE_SIZE, MAP_SIZE, Targets
from mano_jax import HandPair, matrix_from_6d_robust, pca_to_axis_angle, pose_hand
from mano_jax.constants import SIDES

CELL = IMAGE_SIZE // MAP_SIZE
SALT_STEP = 7919


def _near_identity_bias(noise: np.ndarray) -> np.ndarray:
    """A regressor's bias: 6D rotation near identity, small pose, a camera that sees the hand."""
    value = 0.1 * noise
    value[:6] = np.array([1.0, 0, 0, 0, 1.0, 0]) + 0.2 * noise[:6]
    value[61] = 6.0 + 0.3 * noise[61]
    return value


def _value(name: str, noise: np.ndarray, shape: tuple[int, ...], in_norm: bool) -> np.ndarray:
    module, leaf = name.split(".")[-2:]
    is_regressor = module in ("mano_left", "mano_right")
    if leaf == "running_mean":
        return 0.1 * noise
    if leaf == "running_var":
        return 1.0 + 0.5 * np.abs(noise)
    if in_norm:
        return 1.0 + 0.1 * noise if leaf == "weight" else 0.05 * noise
    if leaf in ("e_0", "e_1"):
        return 1.0 + 0.3 * noise
    if leaf == "W":  # (2, joints, in, out)
        return noise * np.sqrt(1.0 / shape[2])
    if leaf == "spatial_pos_embed":
        return 0.1 * noise
    if is_regressor and leaf == "bias":
        return _near_identity_bias(noise)
    if is_regressor and leaf == "weight":
        return noise * 0.3 / np.sqrt(shape[1])
    if leaf == "weight" and len(shape) == 1:  # LayerNorm
        return 1.0 + 0.1 * noise
    if leaf == "weight":
        return noise * np.sqrt(1.5 / np.prod(shape[1:]))
    return 0.05 * noise


def pseudo_tensor(name: str, shape: tuple[int, ...], *, in_norm: bool, salt: int = 0) -> np.ndarray:
    """One tensor.

    Args:
      name: dotted PyTorch name; decides the values together with `salt`.
      shape: in PyTorch's layout.
      in_norm: whether it belongs to a BatchNorm layer.
      salt: another number gives another set of weights.

    Returns:
      float32 (int64 zeros for step counters).
    """
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    seed = (zlib.crc32(name.encode()) + SALT_STEP * salt) % 2**32
    generator = np.random.RandomState(seed)
    noise = np.asarray(generator.standard_normal(shape or None))
    return np.asarray(_value(name, noise, tuple(shape), in_norm), np.float32)


def pseudo_state_dict(
    shapes: Mapping[str, tuple[int, ...]], salt: int = 0
) -> dict[str, np.ndarray]:
    """Every tensor of a state dict, from its names and shapes."""
    return {
        name: pseudo_tensor(
            name,
            tuple(shape),
            in_norm=name.rsplit(".", 1)[0] + ".running_mean" in shapes,
            salt=salt,
        )
        for name, shape in shapes.items()
    }


def pseudo_images(count: int, salt: int = 0, size: int = 256) -> np.ndarray:
    """(count, size, size, 3) uint8 images of smooth random blocks with noise."""
    generator = np.random.RandomState(1234 + salt)
    coarse = generator.uniform(0, 255, (count, size // 16, size // 16, 3))
    blocks = np.repeat(np.repeat(coarse, 16, 1), 16, 2)
    noise = generator.normal(0, 12, (count, size, size, 3))
    return np.clip(blocks + noise, 0, 255).astype(np.uint8)


# --- Labels -------------------------------------------------------------------------------------


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


def random_labels(hands: HandPair, seed: int, count: int = 2) -> tuple[Targets, tuple]:
    """Labels in float64: ours, and the reference's (target, meta) of torch tensors."""
    import torch

    ours, segmentation, dense = random_targets(hands, seed, count)

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
    return ours, (target, meta)
