"""The worst, median and best samples of an evaluation, ready to be looked at."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from dir_jax.evaluation.labels import label_arrays
from dir_jax.evaluation.metrics import METRICS, measure
from dir_jax.evaluation.protocols import (
    MAIN_PROTOCOL,
    WRIST,
    Hands,
    hands_in_one_space,
    measured_hands,
)
from dir_jax.evaluation.runner import predicted_hands
from dir_jax.evaluation.scores import Scores
from dir_jax.losses.targets import pose_batch
from dir_jax.models.network import estimate_all
from dir_jax.models.types import IMAGE_SIZE, Stage, one_space
from dir_jax.pictures.comparison import Example
from dir_jax.pictures.drawing import PAPER, SKELETON_FACES, skeleton_mesh
from input_pipeline.crop import project
from mano_jax import HandPair
from mano_jax.constants import SIDES

if TYPE_CHECKING:  # training draws its examples without either
    from dir_jax.evaluation.predictions import PredictionTable
    from dir_jax.weights.loading import Loaded

GROUPS = ("best", "median", "worst")


class Shown(NamedTuple):
    """One of the samples that the page shows.

    Attributes:
      index: its number.
      name: who it is.
      group: of `GROUPS`.
      numbers: what was measured of it, by heading; NaN where nothing was.
      example: its pictures and meshes.
      stage_errors: the first metric after every stage; none where predictions have no stages.
      note: a remark on it.
    """

    index: int
    name: str
    group: str
    numbers: Mapping[str, float]
    example: Example | None = None
    stage_errors: Sequence[float] = ()
    note: str = ""


def chosen_samples(indices: np.ndarray, errors: np.ndarray, count: int) -> dict[int, str]:
    """The best, middle and worst samples.

    Args:
      indices: (N,) numbers of the samples.
      errors: (N,) their errors; NaN is left out.
      count: samples of each kind; one that is of several kinds counts as the first of `GROUPS`.

    Returns:
      The group of each chosen number; smaller errors first, but the worst sample of all first.
    """
    known = np.isfinite(errors)
    order = indices[known][np.argsort(errors[known], kind="stable")].tolist()
    count = min(count, len(order))
    start = (len(order) - count) // 2
    places = (order[:count], order[start : start + count], order[::-1][:count])
    groups: dict[int, str] = {}
    for group, chosen in zip(GROUPS, places, strict=True):
        groups |= {index: group for index in chosen if index not in groups}
    return groups


def _chosen(scores: Scores, count: int, identities: Sequence[Any] | None) -> list[Shown]:
    """The chosen samples of an evaluation with what was measured of them."""
    indices, listed = scores.columns()["index"], scores.listed()
    headings = {metric.key(): metric.heading for metric in METRICS}
    numbers = {headings[key]: c for key, c in listed.items() if not np.isnan(c).all()}
    found = []
    for index, group in chosen_samples(indices, listed[METRICS[0].key()], count).items():
        row, name = int(np.flatnonzero(indices == index)[0]), ""
        if identities is not None:
            name = f": {getattr(identities[index], 'file_name', identities[index])}"
        measured = {heading: float(column[row]) for heading, column in numbers.items()}
        found.append(Shown(index, f"{index}{name}", group, measured))
    return found


def read_examples(
    data_dir: str | os.PathLike, split: str, indices: Sequence[int], config: str
) -> dict[str, np.ndarray]:
    """Chosen examples as a batch of `input_pipeline.batches.eval_batches`, without tensorflow."""
    from input_pipeline import dataset
    from input_pipeline.crop import MARGIN
    from input_pipeline.image_files import decode_photo

    source = dataset.open_split(data_dir, split, config)
    found = [source[index] for index in indices]
    images = [decode_photo(row.image)[MARGIN:-MARGIN, MARGIN:-MARGIN] for row in found]

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
    scores: Scores,
    count: int,
    identities: Sequence[Any],
    loaded: Loaded,
    data: tuple[str | os.PathLike, str, str],
    batch_size: int,
) -> list[Shown]:
    """Runs a model once more, on the samples that the page shows.

    Args:
      scores: of the evaluation.
      count: samples of each group.
      identities: names by sample index.
      loaded: the model.
      data: folder, split and configuration of the prepared data.
      batch_size: images at a time; that of the evaluation is compiled already.
    """
    shown = _chosen(scores, count, identities)
    if not shown:
        return []
    folder, split, config = data
    batch = read_examples(folder, split, [one.index for one in shown], config)
    stages = estimate_all(loaded.model, loaded.variables, batch["image"], batch_size)
    examples = examples_of(batch, stages, loaded.hands, len(shown))
    errors = _stage_errors(batch, stages, loaded.hands).tolist()
    return [
        one._replace(example=example, stage_errors=row)
        for one, example, row in zip(shown, examples, errors, strict=True)
    ]


def _stage_errors(batch: dict[str, np.ndarray], stages, hands: HandPair) -> np.ndarray:
    """The first metric (n, stages) of every sample, mean over the hands that count."""
    truth = measured_hands(hands, pose_batch(batch, hands).vertices)
    valid = batch["hand_valid"]
    errors = []
    for stage in stages:
        found = measure(hands, predicted_hands(hands, stage), truth, None, (MAIN_PROTOCOL,))
        per_hand = np.asarray(found.values[MAIN_PROTOCOL][METRICS[0].name])
        total = np.where(valid, per_hand, 0.0).sum(-1)
        errors.append(total / np.maximum(valid.sum(-1), 1))
    return np.stack(errors, axis=1)


def table_samples(
    scores: Scores, count: int, table: PredictionTable, hands: HandPair
) -> list[Shown]:
    """Samples of anyone's predictions, as meshes, or as skeletons where there are none.

    Args:
      scores: of the evaluation.
      count: samples of each group.
      table: the predictions.
      hands: hand models of the meshes.
    """
    shown = _chosen(scores, count, table.sample_ids)
    if not shown:
        return []
    batch = table.take(np.array([one.index for one in shown]))
    with jax.enable_x64(True):
        prediction, truth = jax.tree.map(np.asarray, table.hands(hands, batch))
    valid = batch.get("hand_valid", np.ones((len(shown), 2))).astype(bool)
    wrists = truth.joints_xyz[:, :, WRIST]
    truth = truth.replace(offset=wrists[:, 1] - wrists[:, 0])
    note = ""
    if prediction.offset is None:
        prediction = prediction.replace(offset=truth.offset)
        note = "No offset came with the prediction: its hands are as far apart as the true ones."
    shapes = [_in_one_space(both, valid) for both in (truth, prediction)]
    points_px: list[Any] = [[None] * len(shown)] * 2
    if "camera" in batch:
        origin = np.where(valid[:, :1], wrists[:, 0], wrists[:, 1])[:, None, None]
        points_px = [
            [project(*pair) for pair in zip(batch["camera"], origin + shape, strict=True)]
            for shape in shapes
        ]
    faces = [hands[side].faces if table.has_meshes else SKELETON_FACES for side in SIDES]
    ground = np.full((IMAGE_SIZE, IMAGE_SIZE, 3), PAPER, np.uint8)
    return [
        one._replace(
            example=Example(
                ground, faces, true, true_px, found[None], px if px is None else px[None]
            ),
            note=note,
        )
        for one, true, found, true_px, px in zip(shown, *shapes, *points_px, strict=True)
    ]


def _in_one_space(hands: Hands, valid: np.ndarray) -> np.ndarray:
    """Meshes or skeletons (n, 2, V, 3), NaN for a hand that does not count.

    The left wrist is at the origin and the right one at the offset; a single hand's wrist is at
    the origin.
    """
    points = hands.vertices_xyz
    points = skeleton_mesh(hands.joints_xyz) if points is None else points
    offset = np.where(valid.all(-1, keepdims=True), hands.offset, 0.0)
    placed = hands_in_one_space(hands.replace(vertices_xyz=points, offset=offset))
    return np.where(valid[..., None, None], placed, np.nan)
