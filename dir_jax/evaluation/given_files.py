"""Anyone's predictions in an npz file: what may be in it, and what is refused.

Arrays of a predictions file (N samples, hands in the order left, right, metres, camera axes):

    vertices_xyz         (N, 2, 778, 3)  predicted meshes, each hand relative to its own wrist, or
                                         both in camera space (recognised by their distance)
    joints_xyz           (N, 2, 21, 3)   instead, for systems without meshes; our joint order
    offset               (N, 3)          predicted right wrist minus left wrist (optional; taken
                                         from the hands themselves when they are in camera space)
    gt_vertices_xyz      (N, 2, 778, 3)  ground truth in camera space, or gt_joints_xyz
    gt_joints_xyz        (N, 2, 21, 3)
    camera               (N, 3, 3)       intrinsics of the 256x256 crop (optional: pixel errors)
    hand_valid           (N, 2) bool     hands that count (optional)
    annotated_joints_xyz (N, 2, 21, 3), joint_valid (N, 2, 21): InterNet's protocol (optional)
    sample_ids           (N,) text       names of the samples (optional)

The ground truth (gt_*, camera, hand_valid, annotated_*, joint_valid) may also lie in a file of its
own, given once for several predictions; rows are then matched by `sample_ids` when both have them.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Mapping

import numpy as np

from dir_jax.evaluation.array_archive import ArrayArchive
from dir_jax.evaluation.given_checks import (
    PredictionsError,
    check_cameras,
    check_finite,
    check_units,
)
from mano_jax.constants import JOINTS, VERTICES

PREDICTED = {
    "vertices_xyz": (2, VERTICES, 3),
    "joints_xyz": (2, JOINTS, 3),
    "offset": (3,),
}
TRUE = {
    "gt_vertices_xyz": (2, VERTICES, 3),
    "gt_joints_xyz": (2, JOINTS, 3),
    "camera": (3, 3),
    "hand_valid": (2,),
    "annotated_joints_xyz": (2, JOINTS, 3),
    "joint_valid": (2, JOINTS),
}
MASKS = ("hand_valid", "joint_valid")

CAMERA_SPACE = 0.25
"""Median distance in metres of a wrist from the origin beyond which predictions are taken to be
in camera space: nobody is photographed from nearer, and no wrist-relative hand is that far off."""


@dataclasses.dataclass(frozen=True)
class PredictionTable:
    """Checked predictions with their ground truth.

    Attributes:
      name: of the file.
      predicted: arrays of `PREDICTED` that are there.
      true: arrays of `TRUE` that are there.
      rows: (N,) row of the ground truth for each prediction.
      sample_ids: (N,) text, or None.
    """

    name: str
    predicted: Mapping[str, np.ndarray]
    true: Mapping[str, np.ndarray]
    rows: np.ndarray
    sample_ids: np.ndarray | None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def has_meshes(self) -> bool:
        """Whether predictions and ground truth are meshes; otherwise joints are compared."""
        return "vertices_xyz" in self.predicted and "gt_vertices_xyz" in self.true

    def batches(self, size: int) -> Iterator[dict[str, np.ndarray]]:
        """All samples in order as arrays of `size` rows; `mask` (size,) marks the real ones."""
        for start in range(0, len(self), size):
            indices = np.minimum(np.arange(start, start + size), len(self) - 1)
            batch = self.take(indices)
            batch["index"] = indices
            batch["mask"] = np.arange(start, start + size) < len(self)
            yield batch

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Arrays of chosen samples, predictions and ground truth."""
        batch = {name: _native(array[indices]) for name, array in self.predicted.items()}
        rows = self.rows[indices]
        return batch | {name: _native(array[rows]) for name, array in self.true.items()}


def _native(array: np.ndarray) -> np.ndarray:
    """In this machine's byte order, and float32 at least: half floats cost millimetres."""
    if array.dtype.kind != "f":
        return np.asarray(array)
    return np.asarray(array, np.float64 if array.dtype.itemsize >= 8 else np.float32)


def read_predictions(
    path: str | os.PathLike, ground_truth: str | os.PathLike | None = None
) -> PredictionTable:
    """Opens and checks a predictions file (arrays: see this module's docstring).

    Args:
      path: the npz file.
      ground_truth: npz file of the ground truth; None: it is in the same file.

    Raises:
      PredictionsError, ArchiveError: what is wrong, in one line.
    """
    archive = ArrayArchive(path)
    truth_path = path if ground_truth is None else ground_truth
    truth = archive if ground_truth is None else ArrayArchive(ground_truth)
    if "vertices_xyz" not in archive and "joints_xyz" not in archive:
        raise PredictionsError(
            f"{path}: holds {_names(archive)}; wanted vertices_xyz (N, 2, {VERTICES}, 3) "
            f"or joints_xyz (N, 2, {JOINTS}, 3)"
        )
    if "gt_vertices_xyz" not in truth and "gt_joints_xyz" not in truth:
        raise PredictionsError(
            f"{truth_path}: holds {_names(truth)}; wanted the ground truth too, "
            f"gt_vertices_xyz (N, 2, {VERTICES}, 3) or gt_joints_xyz (or give --ground_truth)"
        )
    predicted = _checked(path, archive, PREDICTED)
    true = _checked(truth_path, truth, TRUE)
    rows = _match(path, archive, truth_path, truth)
    ids = _names_of_samples(path, archive, len(rows))
    check_finite(path, predicted, true, rows)
    check_cameras(truth_path, true)
    check_units(path, {**predicted, **true})
    return PredictionTable(pathlib.Path(path).stem, predicted, true, rows, ids)


def _names(archive: Mapping[str, np.ndarray]) -> str:
    return ", ".join(sorted(archive)) or "nothing"


def _checked(path, archive: Mapping, wanted: Mapping[str, tuple[int, ...]]) -> dict:
    """The arrays of `wanted` that are there, after a look at shape, type and length."""
    found = {name: archive[name] for name in wanted if name in archive}
    lengths = {}
    for name, array in found.items():
        shape = wanted[name]
        if array.ndim != 1 + len(shape) or array.shape[1:] != shape:
            text = ", ".join(["N", *map(str, shape)])
            raise PredictionsError(f"{path}: {name} has shape {array.shape}, wanted ({text})")
        if array.dtype.kind not in ("biu" if name in MASKS else "f"):
            kind = "bool" if name in MASKS else "float32 or float64"
            raise PredictionsError(f"{path}: {name} has dtype {array.dtype}, wanted {kind}")
        lengths[name] = len(array)
    if len(set(lengths.values())) > 1:
        text = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise PredictionsError(f"{path}: the arrays have different numbers of samples: {text}")
    if 0 in lengths.values():
        raise PredictionsError(f"{path}: there are no samples in it")
    return found


def _match(path, archive, truth_path, truth) -> np.ndarray:
    """Row of the ground truth for each prediction, by sample ids or by position."""
    count = len(archive["vertices_xyz" if "vertices_xyz" in archive else "joints_xyz"])
    total = len(truth["gt_vertices_xyz" if "gt_vertices_xyz" in truth else "gt_joints_xyz"])
    names = _names_of_samples(path, archive, count)
    true_names = names if archive is truth else _names_of_samples(truth_path, truth, total)
    if archive is truth or names is None or true_names is None:
        if count != total:
            raise PredictionsError(
                f"{path} has {count} predictions, {truth_path} {total} samples of ground truth; "
                "wanted as many, or sample_ids in both"
            )
        return np.arange(count)
    place = {name: row for row, name in enumerate(true_names.tolist())}
    names = names.tolist()
    missing = [name for name in names if name not in place]
    absent = len(place) - (len(names) - len(missing))
    if missing or absent:
        example = f", for example {missing[0]!r}" if missing else ""
        raise PredictionsError(
            f"{path}: {len(missing)} of {len(names)} sample_ids are not in {truth_path}{example}; "
            f"{absent} of its samples have no prediction; wanted the same samples in both"
        )
    return np.array([place[name] for name in names])


def _names_of_samples(path, archive: Mapping, count: int) -> np.ndarray | None:
    """sample_ids as text, or None when there are none; numbers and bytes become text."""
    if "sample_ids" not in archive:
        return None
    ids = np.asarray(archive["sample_ids"])
    if ids.shape != (count,):
        raise PredictionsError(f"{path}: sample_ids has shape {ids.shape}, wanted ({count},)")
    if ids.dtype.kind not in "USiu":
        raise PredictionsError(f"{path}: sample_ids has dtype {ids.dtype}, wanted text")
    if ids.dtype.kind == "S":
        ids = np.array([name.decode("utf-8", "replace") for name in ids.tolist()])
    ids = ids.astype(str)
    if len(np.unique(ids)) < count:
        raise PredictionsError(f"{path}: a name occurs more than once in sample_ids")
    return ids


def in_camera_space(wrists_xyz: np.ndarray) -> bool:
    """Whether predicted wrists (..., 3) are places in front of a camera, not near the origin."""
    distance = np.linalg.norm(np.asarray(wrists_xyz, np.float64), axis=-1)
    return bool(np.nanmedian(distance) > CAMERA_SPACE)
