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
from typing import Any, NamedTuple

import jax
import numpy as np

import mano_jax
from dir_jax.evaluation.array_archive import ArrayArchive
from dir_jax.evaluation.ground_truth import filled_batches
from dir_jax.evaluation.protocols import MIDDLE_KNUCKLE, WRIST, Hands, measured_hands
from dir_jax.evaluation.runner import Progress
from dir_jax.evaluation.scores import Scores
from dir_jax.models.types import LENGTH_SCALE
from mano_jax.constants import JOINTS, VERTICES


class Wanted(NamedTuple):
    """What an array must be.

    Attributes:
      shape: behind the samples' axis.
      kinds: of numpy's `dtype.kind`.
      called: the same in an error.
    """

    shape: tuple[int, ...]
    kinds: str = "f"
    called: str = "float32 or float64"


_NAMES = {"sample_ids": Wanted((), "USiu", "text")}
PREDICTED = {
    "vertices_xyz": Wanted((2, VERTICES, 3)),
    "joints_xyz": Wanted((2, JOINTS, 3)),
    "offset": Wanted((3,)),
} | _NAMES
TRUE = {
    "gt_vertices_xyz": Wanted((2, VERTICES, 3)),
    "gt_joints_xyz": Wanted((2, JOINTS, 3)),
    "camera": Wanted((3, 3)),
    "hand_valid": Wanted((2,), "biu", "bool"),
    "annotated_joints_xyz": Wanted((2, JOINTS, 3)),
    "joint_valid": Wanted((2, JOINTS), "biu", "bool"),
} | _NAMES
PER_HAND = ("vertices_xyz", "joints_xyz", "gt_vertices_xyz", "gt_joints_xyz")

CAMERA_SPACE = 0.25
"""Median distance in metres of a hand from the origin beyond which predictions are taken to be
in camera space: nobody is photographed from nearer, and no wrist-relative hand is that far off."""
HAND_LENGTHS = (0.05, 0.30)
"""Metres from wrist to middle fingertip between which a median hand must lie."""
BATCH = 250
"""Samples scored at a time: a thousand are four batches of one compiled program."""


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
        """Arrays of chosen samples, predictions and ground truth; always with hand_valid, bool."""
        batch = {name: _native(array[indices]) for name, array in self.predicted.items()}
        rows = self.rows[indices]
        batch |= {name: _native(array[rows]) for name, array in self.true.items()}
        valid = batch.get("hand_valid", np.ones((len(rows), 2)))
        return batch | {"hand_valid": valid.astype(bool)}

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
      ValueError: what is wrong, in one line.
    """
    archive = ArrayArchive(path)
    truth_path = path if ground_truth is None else ground_truth
    truth = archive if ground_truth is None else ArrayArchive(ground_truth)
    if "vertices_xyz" not in archive and "joints_xyz" not in archive:
        raise ValueError(
            f"{path}: holds {_names(archive)}; wanted vertices_xyz (N, 2, {VERTICES}, 3) "
            f"or joints_xyz (N, 2, {JOINTS}, 3)"
        )
    if "gt_vertices_xyz" not in truth and "gt_joints_xyz" not in truth:
        raise ValueError(
            f"{truth_path}: holds {_names(truth)}; wanted the ground truth too, "
            f"gt_vertices_xyz (N, 2, {VERTICES}, 3) or gt_joints_xyz (or give --ground_truth)"
        )
    predicted = _checked(path, archive, PREDICTED)
    true = _checked(truth_path, truth, TRUE)
    ids, true_ids = predicted.pop("sample_ids", None), true.pop("sample_ids", None)
    if ids is not None and true_ids is not None:
        rows = _matched(path, ids.tolist(), truth_path, true_ids.tolist())
    else:
        count, total = (len(next(iter(arrays.values()))) for arrays in (predicted, true))
        rows = np.arange(count)
        if count != total:
            raise ValueError(
                f"{path} has {count} predictions, {truth_path} {total} samples of ground truth; "
                "wanted as many, or sample_ids in both"
            )
    table = PredictionTable(pathlib.Path(path).stem, predicted, true, rows, ids)
    _check_finite(path, truth_path, table)
    _check_cameras(truth_path, true)
    _check_units(path, {**predicted, **true})
    return table


def _names(archive: Mapping[str, np.ndarray]) -> str:
    return ", ".join(sorted(archive)) or "nothing"


def _checked(path, archive: Mapping, wanted: Mapping[str, Wanted]) -> dict[str, np.ndarray]:
    """The arrays of `wanted` that are there, after a look at shape, type and length."""
    found = {name: archive[name] for name in wanted if name in archive}
    for name, array in found.items():
        shape, kinds, called = wanted[name]
        if array.ndim != 1 + len(shape) or array.shape[1:] != shape:
            text = ", ".join(["N", *map(str, shape)])
            raise ValueError(f"{path}: {name} has shape {array.shape}, wanted ({text})")
        if array.dtype.kind not in kinds:
            raise ValueError(f"{path}: {name} has dtype {array.dtype}, wanted {called}")
    lengths = {name: len(array) for name, array in found.items()}
    if len(set(lengths.values())) > 1:
        text = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"{path}: the arrays have different numbers of samples: {text}")
    if 0 in lengths.values():
        raise ValueError(f"{path}: there are no samples in it")
    if "sample_ids" in found:
        ids = np.asarray(found["sample_ids"])
        ids = np.char.decode(ids, "utf-8", "replace") if ids.dtype.kind == "S" else ids.astype(str)
        if len(np.unique(ids)) < len(ids):
            raise ValueError(f"{path}: a name occurs more than once in sample_ids")
        found["sample_ids"] = ids
    return found


def _matched(path, ids: list[str], truth_path, true_ids: list[str]) -> np.ndarray:
    """Row of the ground truth for each prediction, by name."""
    place = {name: row for row, name in enumerate(true_ids)}
    missing = [name for name in ids if name not in place]
    absent = len(place) - (len(ids) - len(missing))
    if missing or absent:
        example = f", for example {missing[0]!r}" if missing else ""
        raise ValueError(
            f"{path}: {len(missing)} of {len(ids)} sample_ids are not in {truth_path}{example}; "
            f"{absent} of its samples have no prediction; wanted the same samples in both"
        )
    return np.array([place[name] for name in ids])


def _check_finite(path, truth_path, table: PredictionTable) -> None:
    """Refuses NaN and infinity in anything that counts."""
    bad: dict[str, list[int]] = {}
    for batch in table.batches(BATCH):
        for name, array in batch.items():
            if array.dtype.kind == "f" and name != "annotated_joints_xyz":
                finite = np.isfinite(array)
                if name in PER_HAND:
                    finite = finite.all((2, 3)) | ~batch["hand_valid"]
                wrong = batch["mask"] & ~finite.reshape(len(array), -1).all(1)
                bad.setdefault(name, []).extend(batch["index"][wrong].tolist())
    for name, rows in bad.items():
        if rows:
            predicted = name in table.predicted
            rows = sorted(rows if predicted else table.rows[rows].tolist())
            shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
            marked = f", or mark their hands False in hand_valid of {truth_path}"
            raise ValueError(
                f"{path if predicted else truth_path}: {name} is not finite in {len(rows)} of "
                f"{len(table)} rows ({shown}); leave those samples out of predictions and ground "
                f"truth{marked if name in PER_HAND else ''}"
            )


def _check_cameras(path, true: Mapping[str, np.ndarray]) -> None:
    """Refuses matrices that project nothing."""
    if "camera" not in true:
        return
    camera = np.asarray(true["camera"])
    bad = ~((camera[:, [0, 1], [0, 1]] > 0).all(1) & (camera[:, 2, 2] != 0))
    if bad.any():
        raise ValueError(
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
            raise ValueError(
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
            mask, annotated = batch["mask"], batch.get("annotated_joints_xyz")
            prediction, truth = table.hands(hands, batch)
            valid = batch["hand_valid"] & mask[:, None]
            if annotated is not None:
                known = batch.get("joint_valid", np.isfinite(annotated).all(-1)).astype(bool)
                annotated = (annotated, known & mask[:, None, None])
            scores.add(prediction, truth, batch.get("camera"), valid, batch["index"], annotated)
            if progress is not None:
                progress(int(mask.sum()))
    return scores
