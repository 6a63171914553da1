"""The worst, median and best samples of an evaluation, ready to be looked at."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dir_jax.evaluation.labels import label_arrays
from dir_jax.evaluation.metrics import METRICS, measure
from dir_jax.evaluation.predictions import PredictionTable
from dir_jax.evaluation.protocols import MAIN_PROTOCOL, WRIST, Hands, measured_hands
from dir_jax.evaluation.runner import predicted_hands
from dir_jax.evaluation.samples import Samples, identity_row
from dir_jax.losses.targets import pose_batch
from dir_jax.models.forward import estimate_all
from dir_jax.models.types import IMAGE_SIZE, Stage, one_space
from dir_jax.pictures.comparison import Example
from dir_jax.pictures.drawing import PAPER, SKELETON_FACES, skeleton_mesh
from dir_jax.weights.loading import Loaded
from input_pipeline.crop import project
from mano_jax import HandPair
from mano_jax.constants import SIDES

GROUPS = ("best", "median", "worst")


class Shown(NamedTuple):
    """One of the samples that the page shows.

    Attributes:
      name: who it is.
      groups: of `GROUPS` that it belongs to.
      numbers: what was measured of it, by heading; NaN where nothing was.
      example: its pictures and meshes.
      stage_errors: the first metric of every stage; none where predictions have no stages.
      note: a remark on the sample.
    """

    name: str
    groups: Sequence[str]
    numbers: Mapping[str, float]
    example: Example
    stage_errors: Sequence[float] = ()
    note: str = ""


def chosen_samples(indices: np.ndarray, errors: np.ndarray, count: int) -> dict[str, list[int]]:
    """Numbers of the best, middle and worst samples.

    Args:
      indices: (N,) numbers of the samples.
      errors: (N,) their errors; NaN is left out.
      count: samples of each kind.

    Returns:
      At most `count` numbers by group, smaller errors first, but the worst sample of all first.
    """
    known = np.isfinite(errors)
    order = indices[known][np.argsort(errors[known], kind="stable")].tolist()
    count = min(count, len(order))
    start = (len(order) - count) // 2
    places = (order[:count], order[start : start + count], order[::-1][:count])
    return dict(zip(GROUPS, places, strict=True))


class Choice:
    """Which samples a page shows, and what the evaluation has measured of them.

    Args:
      samples: of the evaluation.
      count: samples of each kind: best, median, worst.
      identities: names by sample index, or None.
    """

    def __init__(self, samples: Samples, count: int, identities: Sequence[Any] | None):
        all_indices, self._numbers = samples.listed()
        self._identities = identities
        self._row = {index: row for row, index in enumerate(all_indices.tolist())}
        self._groups: dict[int, list[str]] = {}
        for group, chosen in chosen_samples(*samples.ranking(), count).items():
            for index in chosen:
                self._groups.setdefault(index, []).append(group)
        self.indices = list(self._groups)

    def shown(self, examples: Sequence[Example], stage_errors: np.ndarray | None) -> list[Shown]:
        """Puts together what the page shows of the chosen samples.

        Args:
          examples: of `indices`, in their order.
          stage_errors: (n, T), or None.
        """
        found = []
        for place, (index, example) in enumerate(zip(self.indices, examples, strict=True)):
            row = self._row[index]
            numbers = {name: float(column[row]) for name, column in self._numbers.items()}
            stages = () if stage_errors is None else stage_errors[place].tolist()
            found.append(Shown(self._name(index), self._groups[index], numbers, example, stages))
        return found

    def _name(self, index: int) -> str:
        if self._identities is None:
            return f"{index}"
        return f"{index}: {identity_row(self._identities[index])[0]}"


def read_examples(
    data_dir: str | os.PathLike, split: str, indices: Sequence[int], config: str
) -> dict[str, np.ndarray]:
    """Chosen examples as a batch of `input_pipeline.batches.eval_batches`, without tensorflow."""
    from input_pipeline import dataset, records

    source = dataset.open_split(data_dir, split, config)
    found = [records.deserialize(data) for data in source.read(indices)]
    edge = records.MARGIN
    images = [records.decode_jpeg(row.image)[edge:-edge, edge:-edge] for row in found]

    return {"image": np.stack(images), **label_arrays(found)}


def examples_of(
    batch: Mapping[str, np.ndarray], stages: Sequence[Stage], hands: HandPair, count: int
) -> list[Example]:
    """The first `count` examples of a batch, each with its label and its estimates.

    Args:
      batch: as from `input_pipeline.batches.eval_batches`.
      stages: the network's estimates of the batch.
      hands: the hand models.
      count: of examples.
    """
    batch = {name: np.asarray(value[:count]) for name, value in batch.items()}
    stages = [jax.tree.map(lambda value: np.asarray(value)[:count], stage) for stage in stages]
    mesh = pose_batch(batch, hands)
    valid = batch["hand_valid"].astype(bool)
    truth = np.where(valid[..., None, None], mesh.vertices, np.nan)
    truth_px = np.stack([project(*pair) for pair in zip(batch["camera"], truth, strict=True)])
    spaces = [one_space(stage) for stage in stages]
    # The left wrists coincide, or the right ones where the left hand has no label.
    rows, first = np.arange(count), valid.argmax(1)
    wrists = [np.asarray(joints)[rows, first, WRIST] for joints in (mesh.joints, spaces[-1][1])]
    truth = truth + (wrists[1] - wrists[0])[:, None, None]
    stages_xyz = np.stack([vertices for vertices, _ in spaces], axis=1)
    stages_px = np.stack([(stage.vertices_uv + 1) / 2 * IMAGE_SIZE for stage in stages], axis=1)
    faces = [hands[side].faces for side in SIDES]
    return [
        Example(batch["image"][i], faces, truth[i], truth_px[i], stages_xyz[i], stages_px[i])
        for i in range(count)
    ]


def model_samples(
    choice: Choice,
    loaded: Loaded,
    data_dir: str | os.PathLike,
    split: str,
    config: str = "interacting",
    batch_size: int = 8,
) -> list[Shown]:
    """Runs a model once more on the chosen samples.

    Args:
      choice: which; none at all is fine.
      loaded: the model.
      data_dir: prepared data.
      split: of the samples.
      config: configuration of the data.
      batch_size: images at a time; that of the evaluation is compiled already.
    """
    if not choice.indices:
        return []
    batch = read_examples(data_dir, split, choice.indices, config)
    stages = estimate_all(loaded.model, loaded.variables, batch["image"], batch_size)
    examples = examples_of(batch, stages, loaded.hands, len(choice.indices))
    return choice.shown(examples, _stage_errors(batch, stages, loaded.hands))


def _stage_errors(batch: dict[str, np.ndarray], stages, hands: HandPair) -> np.ndarray:
    """The first metric (n, stages) of every sample, mean over the hands that count."""
    truth = measured_hands(hands, pose_batch(batch, hands).vertices)
    valid = np.asarray(batch["hand_valid"], bool)
    errors = []
    for stage in stages:
        found = measure(hands, predicted_hands(hands, stage), truth, None, (MAIN_PROTOCOL,))
        per_hand = np.asarray(found.values[MAIN_PROTOCOL][METRICS[0].name])
        total = np.where(valid, per_hand, 0.0).sum(-1)
        errors.append(total / np.maximum(valid.sum(-1), 1))
    return np.stack(errors, axis=1)


def table_samples(choice: Choice, table: PredictionTable, hands: HandPair) -> list[Shown]:
    """Samples of anyone's predictions, as meshes, or as skeletons where there are none.

    Args:
      choice: which; none at all is fine.
      table: the predictions.
      hands: hand models of the meshes.
    """
    if not choice.indices:
        return []
    meshes = table.has_meshes
    batch = table.take(np.asarray(choice.indices))
    with jax.enable_x64(True):
        prediction, truth = jax.tree.map(np.asarray, table.hands(hands, batch))
    valid = batch.get("hand_valid", np.ones((len(choice.indices), 2))).astype(bool)
    wrists = truth.joints_xyz[:, :, WRIST]
    truth = truth.replace(offset=wrists[:, 1] - wrists[:, 0])
    note = ""
    if prediction.offset is None:
        prediction = prediction.replace(offset=truth.offset)
        note = "No offset came with the prediction: its hands are as far apart as the true ones."
    shapes = [_in_one_space(both, valid) for both in (truth, prediction)]
    points_px: list[Any] = [[None] * len(valid)] * 2
    if "camera" in batch:
        origin = np.where(valid[:, :1], wrists[:, 0], wrists[:, 1])[:, None, None]
        points_px = [
            [project(*pair) for pair in zip(batch["camera"], origin + shape, strict=True)]
            for shape in shapes
        ]
    faces = [hands[side].faces for side in SIDES] if meshes else [SKELETON_FACES] * 2
    ground = np.full((IMAGE_SIZE, IMAGE_SIZE, 3), PAPER, np.uint8)
    examples = [
        Example(ground, faces, true, true_px, found[None], None if px is None else px[None])
        for true, found, true_px, px in zip(*shapes, *points_px, strict=True)
    ]
    return [one._replace(note=note) for one in choice.shown(examples, None)]


def _in_one_space(hands: Hands, valid: np.ndarray) -> np.ndarray:
    """Meshes or skeletons (n, 2, V, 3), NaN for a hand that does not count.

    The left wrist is at the origin and the right one at the offset; a single hand's wrist is at
    the origin.
    """
    points = hands.vertices_xyz
    if points is None:
        points = skeleton_mesh(hands.joints_xyz)
    offset = np.where(valid.all(-1, keepdims=True), hands.offset, 0.0)
    place = np.stack([np.zeros_like(offset), offset], axis=1) - hands.joints_xyz[:, :, WRIST]
    return np.where(valid[..., None, None], points + place[:, :, None], np.nan)
