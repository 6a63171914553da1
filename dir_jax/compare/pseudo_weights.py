"""Deterministic pseudo-random weights under the released checkpoint's names.

They exercise every tensor with values that keep the network in its working range (hands in view,
BatchNorm far from identity). The reference's stored numbers in tests/golden were computed with
them, so the values must never change: `numpy.random.RandomState`, whose stream is frozen.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np

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
