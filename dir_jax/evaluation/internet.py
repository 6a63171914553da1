"""InterNet's protocol: annotated joints, single and interacting hands apart.

InterHand2.6M, Moon et al., ECCV 2020, section 6: valid joints only, relative to the annotated
wrist, no scaling (docs/method.md, "Evaluation protocols").
"""

from __future__ import annotations

import numpy as np

from dir_jax.evaluation.metrics import MILLIMETRES, figure, known, known_mean
from dir_jax.evaluation.protocols import WRIST, Hands

GROUPS = ("single", "interacting", "all")


def internet_errors(
    prediction: Hands, joints_xyz: np.ndarray, valid: np.ndarray
) -> dict[str, np.ndarray]:
    """Errors of B samples against the annotated joints.

    Args:
      prediction: predicted hands.
      joints_xyz: (B, 2, 21, 3) annotated joints, camera metres, our joint order.
      valid: (B, 2, 21) bool, which of them are annotated.

    Returns:
      joint_mm (B, 2, 21) relative to each hand's wrist, NaN where the joint or the wrist is not
      annotated; root_mm (B,) error of the vector between the wrists, NaN without both and without
      a predicted offset; interacting (B,) bool, both hands have annotated joints.
    """
    interacting = valid.any(-1).all(-1)
    # Root-relative positions mean nothing without the root.
    valid = valid & valid[..., WRIST, None]
    predicted, true = np.asarray(prediction.joints_xyz, np.float64), np.asarray(joints_xyz)
    difference = (predicted - predicted[:, :, WRIST, None]) - (true - true[:, :, WRIST, None])
    joint_mm = known(MILLIMETRES * np.linalg.norm(difference, axis=-1), valid)
    root_mm = np.full(len(valid), np.nan)
    if prediction.offset is not None:
        difference = true[:, 1, WRIST] - true[:, 0, WRIST] - np.asarray(prediction.offset)
        root_mm = MILLIMETRES * np.linalg.norm(difference, axis=-1)
        root_mm = known(root_mm, valid[..., WRIST].all(-1))
    return {"joint_mm": joint_mm, "root_mm": root_mm, "interacting": interacting}


def internet_summary(
    joint_mm: np.ndarray, root_mm: np.ndarray, interacting: np.ndarray
) -> dict[str, float | int | None]:
    """`{group}_mpjpe_mm` and `{group}_samples` of every group, and `mrrpe_mm`, of N samples.

    Like in InterNet's evaluation, the mean of a group is the mean over the 42 joints of each
    joint's mean error, so that rarely annotated joints weigh as much as the others.

    Args:
      joint_mm: (N, 2, 21) as from `internet_errors`.
      root_mm: (N,).
      interacting: (N,) bool.
    """
    counted = ~np.isnan(joint_mm).all((1, 2))
    result: dict[str, float | int | None] = {}
    chosen = (counted & ~interacting, counted & interacting, counted)
    for group, rows in zip(GROUPS, chosen, strict=True):
        result[f"{group}_mpjpe_mm"] = figure(known_mean(joint_mm[rows], 0))
        result[f"{group}_samples"] = int(rows.sum())
    return result | {"mrrpe_mm": figure(root_mm[counted & interacting])}
