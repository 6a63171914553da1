"""What makes a predictions file unfit for scoring although its arrays have the right shapes."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from dir_jax.evaluation.metrics import MIDDLE_KNUCKLE, WRIST
from mano_jax.constants import JOINTS

Arrays = Mapping[str, np.ndarray]

PER_HAND = ("vertices_xyz", "joints_xyz", "gt_vertices_xyz", "gt_joints_xyz")
HAND_LENGTHS = (0.05, 0.30)
"""Metres from wrist to middle fingertip between which a median hand must lie."""
_CHUNK = 512


class PredictionsError(ValueError):
    """A predictions file that cannot be scored; one plain line."""


def check_finite(
    path: str | os.PathLike, predicted: Arrays, true: Arrays, rows: np.ndarray
) -> None:
    """Refuses NaN and infinity in anything that counts.

    Args:
      path: of the file, for the message.
      predicted: arrays of the predictions.
      true: arrays of the ground truth.
      rows: (N,) row of the ground truth for each prediction.

    Raises:
      PredictionsError: names the array and the rows.
    """
    valid = true.get("hand_valid")
    for name, array in {**predicted, **true}.items():
        if array.dtype.kind != "f" or name == "annotated_joints_xyz":
            continue
        bad = []
        for start in range(0, len(array), _CHUNK):
            finite = np.isfinite(array[start : start + _CHUNK])
            if name in PER_HAND and valid is not None:
                order = rows if name in predicted else np.arange(len(array))
                ignored = ~np.asarray(valid[order[start : start + _CHUNK]], bool)
                finite = finite.all((2, 3)) | ignored
            wrong = ~finite.reshape(len(finite), -1).all(1)
            bad += (np.flatnonzero(wrong) + start).tolist()
        if bad:
            shown = ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
            raise PredictionsError(
                f"{path}: {name} is not finite in {len(bad)} of {len(array)} rows ({shown}); "
                "leave those samples out, or mark their hands in hand_valid"
            )


def check_cameras(path: str | os.PathLike, true: Arrays) -> None:
    """Refuses matrices that project nothing.

    Raises:
      PredictionsError: names the first row.
    """
    if "camera" not in true:
        return
    camera = np.asarray(true["camera"])
    bad = ~((camera[:, [0, 1], [0, 1]] > 0).all(1) & (camera[:, 2, 2] != 0))
    if bad.any():
        raise PredictionsError(
            f"{path}: camera has no focal length in {int(bad.sum())} of {len(bad)} rows (row "
            f"{int(np.argmax(bad))}); wanted [[f, 0, x], [0, f, y], [0, 0, 1]] of the 256x256 crop"
        )


def check_units(path: str | os.PathLike, arrays: Arrays) -> None:
    """Refuses hands that cannot be in metres.

    Raises:
      PredictionsError: names the array and the unit it seems to be in.
    """
    for name, array in arrays.items():
        if name not in PER_HAND:
            continue
        length = median_hand_length(array)
        if not HAND_LENGTHS[0] <= length <= HAND_LENGTHS[1]:
            low, high = (round(100 * value) for value in HAND_LENGTHS)
            raise PredictionsError(
                f"{path}: the median hand of {name} is {length:.3g} long, wanted {low}-{high} cm "
                f"in metres ({_unit_hint(length)})"
            )


def median_hand_length(points_xyz: np.ndarray) -> float:
    """Median over (up to 2,048) hands of the way from the wrist to the tip of the middle finger.

    Joints (N, 2, 21, 3): along the finger. Vertices (N, 2, 778, 3): the largest extent of the
    mesh, which needs no joint regressor.
    """
    sample = np.asarray(points_xyz[:: max(1, len(points_xyz) // 1024)], np.float64)
    if sample.shape[2] == JOINTS:
        chain = sample[:, :, [WRIST, *range(MIDDLE_KNUCKLE, MIDDLE_KNUCKLE + 4)]]
        lengths = np.linalg.norm(np.diff(chain, axis=2), axis=-1).sum(-1)
    else:
        middle = sample.mean(2, keepdims=True)
        lengths = 2 * np.linalg.norm(sample - middle, axis=-1).max(-1)
    return float(np.nanmedian(lengths))


def _unit_hint(length: float) -> str:
    for unit, factor in (
        ("millimetres", 1000),
        ("centimetres", 100),
        ("units of 0.15 m", 1 / 0.15),
    ):
        if 0.12 <= length / factor <= 0.3:
            return (
                f"these look like {unit}: divide by {factor:.4g}"
                if factor > 50
                else (f"these look like {unit}: multiply by 0.15")
            )
    return "check the unit and the joint order"
