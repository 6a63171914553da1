"""Anyone's predictions in an npz file: what may be in it, what is refused, and their scores.

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
import functools
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

import mano_jax
from dir_jax.evaluation.array_archive import ArrayArchive
from dir_jax.evaluation.internet import internet_errors
from dir_jax.evaluation.labels import filled_batches
from dir_jax.evaluation.protocols import MIDDLE_KNUCKLE, WRIST, Hands, measured_hands
from dir_jax.evaluation.runner import Progress
from dir_jax.evaluation.scores import Scores
from dir_jax.models.types import LENGTH_SCALE
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
PER_HAND = ("vertices_xyz", "joints_xyz", "gt_vertices_xyz", "gt_joints_xyz")

CAMERA_SPACE = 0.25
"""Median distance in metres of a hand from the origin beyond which predictions are taken to be
in camera space: nobody is photographed from nearer, and no wrist-relative hand is that far off."""
HAND_LENGTHS = (0.05, 0.30)
"""Metres from wrist to middle fingertip between which a median hand must lie."""
BATCH = 250
"""Samples scored at a time: a thousand are four batches of one compiled program."""
_CHUNK = 512


class PredictionsError(ValueError):
    """A predictions file that cannot be scored; one plain line."""


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
        for indices, mask in filled_batches(len(self), size):
            yield self.take(indices) | {"index": indices, "mask": mask}

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Arrays of chosen samples, predictions and ground truth."""
        batch = {name: _native(array[indices]) for name, array in self.predicted.items()}
        rows = self.rows[indices]
        return batch | {name: _native(array[rows]) for name, array in self.true.items()}

    def hands(self, pair: mano_jax.HandPair, batch: Mapping[str, Any]) -> tuple[Hands, Hands]:
        """Predicted and true hands of a batch; the former relative to their wrists, with offset.

        Args:
          pair: hand models whose regressor belongs to the vertices.
          batch: from `take` or `batches`.
        """
        both = []
        for prefix in ("", "gt_"):
            joints, vertices = (batch.get(f"{prefix}{n}_xyz") for n in ("joints", "vertices"))
            if self.has_meshes:
                both.append(measured_hands(pair, vertices))
            elif joints is not None:
                both.append(Hands(jax.numpy.asarray(joints)))
            else:
                both.append(Hands(measured_hands(pair, vertices).joints_xyz))
        prediction, truth = both
        offset = batch.get("offset")
        if not self.in_camera_space:
            return prediction.replace(offset=offset), truth
        wrists = prediction.joints_xyz[:, :, WRIST]
        offset = wrists[:, 1] - wrists[:, 0] if offset is None else offset
        moved = jax.tree.map(lambda points: points - wrists[:, :, None], prediction)
        return moved.replace(offset=offset), truth

    @functools.cached_property
    def in_camera_space(self) -> bool:
        """Whether predicted hands are placed in front of a camera, not near the origin."""
        meshes = self.has_meshes or "joints_xyz" not in self.predicted
        hands = self.predicted["vertices_xyz" if meshes else "joints_xyz"][:BATCH]
        distance = np.linalg.norm(np.asarray(hands, np.float64).mean(2), axis=-1)
        return bool(np.nanmedian(distance) > CAMERA_SPACE)


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
    count, total = (len(next(iter(arrays.values()))) for arrays in (predicted, true))
    ids = _sample_ids(path, archive, count)
    true_ids = ids if archive is truth else _sample_ids(truth_path, truth, total)
    if archive is truth or ids is None or true_ids is None:
        if count != total:
            raise PredictionsError(
                f"{path} has {count} predictions, {truth_path} {total} samples of ground truth; "
                "wanted as many, or sample_ids in both"
            )
        rows = np.arange(count)
    else:
        rows = _matched(path, ids.tolist(), truth_path, true_ids.tolist())
    _check_finite(path, predicted, true, rows)
    _check_cameras(truth_path, true)
    _check_units(path, {**predicted, **true})
    return PredictionTable(pathlib.Path(path).stem, predicted, true, rows, ids)


def _names(archive: Mapping[str, np.ndarray]) -> str:
    return ", ".join(sorted(archive)) or "nothing"


def _checked(path, archive: Mapping, wanted: Mapping[str, tuple[int, ...]]) -> dict:
    """The arrays of `wanted` that are there, after a look at shape, type and length."""
    found = {name: archive[name] for name in wanted if name in archive}
    for name, array in found.items():
        shape = wanted[name]
        if array.ndim != 1 + len(shape) or array.shape[1:] != shape:
            text = ", ".join(["N", *map(str, shape)])
            raise PredictionsError(f"{path}: {name} has shape {array.shape}, wanted ({text})")
        if array.dtype.kind not in ("biu" if name in MASKS else "f"):
            kind = "bool" if name in MASKS else "float32 or float64"
            raise PredictionsError(f"{path}: {name} has dtype {array.dtype}, wanted {kind}")
    lengths = {name: len(array) for name, array in found.items()}
    if len(set(lengths.values())) > 1:
        text = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise PredictionsError(f"{path}: the arrays have different numbers of samples: {text}")
    if 0 in lengths.values():
        raise PredictionsError(f"{path}: there are no samples in it")
    return found


def _sample_ids(path, archive: Mapping, count: int) -> np.ndarray | None:
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


def _matched(path, ids: list[str], truth_path, true_ids: list[str]) -> np.ndarray:
    """Row of the ground truth for each prediction, by name."""
    place = {name: row for row, name in enumerate(true_ids)}
    missing = [name for name in ids if name not in place]
    absent = len(place) - (len(ids) - len(missing))
    if missing or absent:
        example = f", for example {missing[0]!r}" if missing else ""
        raise PredictionsError(
            f"{path}: {len(missing)} of {len(ids)} sample_ids are not in {truth_path}{example}; "
            f"{absent} of its samples have no prediction; wanted the same samples in both"
        )
    return np.array([place[name] for name in ids])


def _check_finite(path, predicted: Mapping, true: Mapping, rows: np.ndarray) -> None:
    """Refuses NaN and infinity in anything that counts."""
    valid = true.get("hand_valid")
    for name, array in {**predicted, **true}.items():
        if array.dtype.kind != "f" or name == "annotated_joints_xyz":
            continue
        bad: list[int] = []
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


def _check_cameras(path, true: Mapping[str, np.ndarray]) -> None:
    """Refuses matrices that project nothing."""
    if "camera" not in true:
        return
    camera = np.asarray(true["camera"])
    bad = ~((camera[:, [0, 1], [0, 1]] > 0).all(1) & (camera[:, 2, 2] != 0))
    if bad.any():
        raise PredictionsError(
            f"{path}: camera has no focal length in {int(bad.sum())} of {len(bad)} rows (row "
            f"{int(np.argmax(bad))}); wanted [[f, 0, x], [0, f, y], [0, 0, 1]] of the 256x256 crop"
        )


def _check_units(path, arrays: Mapping[str, np.ndarray]) -> None:
    """Refuses hands that cannot be in metres, with a guess at their unit."""
    for name in PER_HAND:
        if name not in arrays:
            continue
        length = median_hand_length(arrays[name])
        if not HAND_LENGTHS[0] <= length <= HAND_LENGTHS[1]:
            hint = "check the unit and the joint order"
            for unit, metres, remedy in (
                ("millimetres", 0.001, "divide by 1000"),
                ("centimetres", 0.01, "divide by 100"),
                (f"units of {LENGTH_SCALE} m", LENGTH_SCALE, f"multiply by {LENGTH_SCALE}"),
            ):
                if 0.12 <= length * metres <= 0.3:
                    hint = f"these look like {unit}: {remedy}"
                    break
            low, high = (round(100 * value) for value in HAND_LENGTHS)
            raise PredictionsError(
                f"{path}: the median hand of {name} is {length:.3g} long, wanted {low}-{high} cm "
                f"in metres ({hint})"
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


def score_predictions(
    table: PredictionTable,
    hands: mano_jax.HandPair,
    *,
    volumes: bool = True,
    progress: Progress | None = None,
) -> Scores:
    """Errors of predictions under every protocol, in the precision of their arrays.

    Args:
      table: checked predictions.
      hands: hand models whose regressor and faces belong to the vertices.
      volumes: whether to measure interpenetration (needs vertices and offsets).
      progress: called after every batch with its number of samples.
    """
    scores = Scores(hands, slow=volumes)
    with jax.enable_x64(True):
        for batch in table.batches(min(BATCH, len(table))):
            mask = batch["mask"]
            valid = batch.get("hand_valid", np.ones((len(mask), 2), bool)).astype(bool)
            prediction, truth = table.hands(hands, batch)
            valid = valid & mask[:, None]
            scores.add(prediction, truth, batch.get("camera"), valid, batch["index"])
            if "annotated_joints_xyz" in batch:
                annotated = batch["annotated_joints_xyz"]
                known = batch.get("joint_valid", np.isfinite(annotated).all(-1))
                scores.internet.add(internet_errors(prediction, annotated, known), mask)
            if progress is not None:
                progress(int(mask.sum()))
    return scores
