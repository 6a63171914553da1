"""Checks what `fit` is given and lays it out for the compiled program."""

from __future__ import annotations

import numpy as np

from mano_jax import constants
from mano_jax.fitting_mask import MaskMaps, mask_maps
from mano_jax.fitting_terms import Observed
from mano_jax.hand import HandError

_LARGEST = 1.0
"""Metres that the joints of one hand cannot be apart."""


def _checked(name: str, value, trailing: tuple[int, ...], batch: tuple[int, ...] | None, dtype):
    """`value` as an array of shape batch + trailing; the first call finds the batch."""
    array = np.asarray(value)
    lead = array.shape[: array.ndim - len(trailing)]
    text = ", ".join(["...", *map(str, trailing)])
    if array.shape[len(lead) :] != trailing or array.ndim < len(trailing):
        raise HandError(f"{name} has shape {array.shape}; wanted ({text})")
    try:
        return np.broadcast_to(array.astype(dtype), (lead if batch is None else batch) + trailing)
    except ValueError:
        raise HandError(f"{name} has shape {array.shape}; wanted ({text}) of {batch}") from None


def _weights(name: str, values: np.ndarray, valid) -> tuple[np.ndarray, np.ndarray]:
    """Values with zeros where they are not valid, and weights (..., 21)."""
    batch = values.shape[:-2]
    if valid is None:
        valid = np.isfinite(values).all(axis=-1)
    valid = _checked(f"validity of {name}", valid, (constants.JOINTS,), batch, values.dtype) > 0
    bad = int((valid & ~np.isfinite(values).all(axis=-1)).sum())
    if bad:
        raise HandError(f"{name} holds {bad} valid joints that are not finite; mark them not valid")
    return np.where(valid[..., None], values, 0), valid.astype(values.dtype)


def _check_size(xyz: np.ndarray, weight: np.ndarray) -> None:
    seen = np.where(weight[..., None] > 0, xyz, np.nan).reshape(-1, constants.JOINTS, 3)
    seen = seen[(weight.reshape(-1, constants.JOINTS) > 0).sum(axis=-1) > 1]
    if len(seen) == 0:
        return
    extent = float(np.median(np.nanmax(seen, axis=1) - np.nanmin(seen, axis=1), axis=0).max())
    if extent > _LARGEST:
        raise HandError(f"joints_xyz spans {extent:.4g} m for a hand; wanted metres, not mm")


def observed_arrays(joints_xyz, joint_valid, joints_px, px_valid, camera, mask, dtype) -> tuple:
    """What was annotated, checked, as `Observed` with one flat batch dimension.

    Returns:
      the `Observed` (numpy arrays), and the batch shape.
    """
    if joints_xyz is None and joints_px is None:
        raise HandError("neither joints_xyz nor joints_px given; wanted at least one of them")
    if camera is None and (joints_px is not None or mask is not None):
        raise HandError("joints_px or mask without camera; wanted its (..., 3, 3) intrinsics")
    fields, batch = {}, None
    if joints_xyz is not None:
        xyz = _checked("joints_xyz", joints_xyz, (constants.JOINTS, 3), None, dtype)
        batch = xyz.shape[:-2]
        fields["xyz"], fields["xyz_weight"] = _weights("joints_xyz", xyz, joint_valid)
        _check_size(fields["xyz"], fields["xyz_weight"])
    if joints_px is not None:
        px = _checked("joints_px", joints_px, (constants.JOINTS, 2), batch, dtype)
        batch = px.shape[:-2]
        px_valid = joint_valid if px_valid is None and joints_xyz is None else px_valid
        fields["px"], fields["px_weight"] = _weights("joints_px", px, px_valid)
    if camera is not None:
        fields["camera"] = _checked("camera", camera, (3, 3), batch, dtype)
    flat = {name: v.reshape(-1, *v.shape[len(batch) :]) for name, v in fields.items()}
    if mask is not None and 0 not in batch:
        flat["mask"] = _prepared_masks(np.asarray(mask), batch, dtype)
    return Observed(**flat), batch


def _prepared_masks(mask: np.ndarray, batch: tuple[int, ...], dtype) -> MaskMaps:
    """(N, ...) maps of the masks of a flattened batch."""
    if mask.ndim < 2:
        raise HandError(f"mask has shape {mask.shape}; wanted (..., height, width)")
    mask = _checked("mask", mask, mask.shape[-2:], batch, bool)
    maps = [mask_maps(one) for one in mask.reshape(-1, *mask.shape[-2:])]
    return MaskMaps(*(np.array(part, dtype) for part in zip(*maps, strict=True)))
