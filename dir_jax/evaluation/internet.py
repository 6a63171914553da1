"""InterNet's protocol: annotated joints, single and interacting hands apart.

InterHand2.6M, Moon et al., ECCV 2020, section 6: valid joints only, relative to the annotated
wrist, no scaling (docs/method.md, "Evaluation protocols").
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from dir_jax.evaluation.metrics import MILLIMETRES
from dir_jax.evaluation.protocols import PROTOCOLS, WRIST, Hands, align, distance
from mano_jax.constants import JOINTS

GROUPS = ("single", "interacting", "all")


@struct.dataclass
class InterNetErrors:
    """Errors of B samples.

    Attributes:
      joint_mm: (B, 2, 21) relative to each hand's wrist; 0 where not valid.
      valid: (B, 2, 21) bool, joints that count: annotated, on a hand whose wrist is annotated.
      root_mm: (B,) error of the vector between the wrists, or None without predicted offsets.
      root_valid: (B,) bool, both wrists annotated.
      interacting: (B,) bool, both hands have annotated joints.
    """

    joint_mm: jax.Array
    valid: jax.Array
    root_mm: jax.Array | None
    root_valid: jax.Array
    interacting: jax.Array


@jax.jit
def internet_errors(prediction: Hands, joints_xyz: jax.Array, valid: jax.Array) -> InterNetErrors:
    """Errors against the annotated joints.

    Args:
      prediction: predicted hands.
      joints_xyz: (B, 2, 21, 3) annotated joints, camera metres, our joint order.
      valid: (B, 2, 21) bool, which of them are annotated.
    """
    valid = valid.astype(bool)
    interacting = valid.any(-1).all(-1)
    # Root-relative positions mean nothing without the root.
    valid = valid & valid[..., WRIST : WRIST + 1]
    true_xyz = jnp.where(valid[..., None], joints_xyz, 0.0)
    aligned = align(prediction, Hands(true_xyz), PROTOCOLS["wrist_unscaled"])
    root_mm = None
    if prediction.offset is not None:
        true_vector = true_xyz[:, 1, WRIST] - true_xyz[:, 0, WRIST]
        root_mm = MILLIMETRES * distance(true_vector, prediction.offset)
    return InterNetErrors(
        joint_mm=jnp.where(valid, MILLIMETRES * distance(aligned.joints_xyz, true_xyz), 0.0),
        valid=valid,
        root_mm=root_mm,
        root_valid=valid[:, 0, WRIST] & valid[:, 1, WRIST],
        interacting=interacting,
    )


class InterNetTotals:
    """Running sums over a data set.

    Like InterNet's evaluation, the mean of a group is the mean over the 42 joints of each joint's
    mean error, so that rarely annotated joints weigh as much as the others.
    """

    def __init__(self):
        self._sum = {group: np.zeros((2, JOINTS)) for group in GROUPS}
        self._count = {group: np.zeros((2, JOINTS)) for group in GROUPS}
        self._samples = dict.fromkeys(GROUPS, 0)
        self._root_sum, self._root_count = 0.0, 0

    def add(self, errors: InterNetErrors, mask: np.ndarray) -> None:
        """Adds a batch.

        Args:
          errors: of B samples.
          mask: (B,) bool, samples that count.
        """
        valid = np.asarray(errors.valid) & np.asarray(mask, bool)[:, None, None]
        counted, interacting = valid.any((1, 2)), np.asarray(errors.interacting)
        joint_mm = np.asarray(errors.joint_mm, np.float64)
        chosen = (counted & ~interacting, counted & interacting, counted)
        for group, rows in zip(GROUPS, chosen, strict=True):
            self._samples[group] += int(rows.sum())
            self._count[group] += valid[rows].sum(0)
            self._sum[group] += np.where(valid[rows], joint_mm[rows], 0.0).sum(0)
        if errors.root_mm is not None:
            rows = counted & interacting & np.asarray(errors.root_valid)
            self._root_sum += np.asarray(errors.root_mm, np.float64)[rows].sum()
            self._root_count += int(rows.sum())

    def summary(self) -> dict[str, float | int | None]:
        """`{group}_mpjpe_mm` and `{group}_samples` of every group, and `mrrpe_mm`."""
        result: dict[str, float | int | None] = {}
        for group in GROUPS:
            seen = self._count[group] > 0
            means = self._sum[group][seen] / self._count[group][seen]
            result[f"{group}_mpjpe_mm"] = float(means.mean()) if seen.any() else None
            result[f"{group}_samples"] = self._samples[group]
        result["mrrpe_mm"] = self._root_sum / self._root_count if self._root_count else None
        return result
