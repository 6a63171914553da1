"""The worst, median and best samples of an evaluation, ready to be looked at."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from dir_jax.evaluation.ground_truth import label_arrays
from dir_jax.evaluation.metrics import METRICS, known, known_mean, measure
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
from dir_jax.pictures.drawing import PAPER, SKELETON_FACES, Example, skeleton_mesh
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
    finite = np.isfinite(errors)
    order = indices[finite][np.argsort(errors[finite], kind="stable")].tolist()
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
    spaces = [one_space(stage) for stage in stages]
    return _examples(
        batch["image"],
        [hands[side].faces for side in SIDES],
        batch["hand_valid"].astype(bool),
        pose_batch(batch, hands),
        np.stack([vertices for vertices, _ in spaces], axis=1),
        np.asarray(spaces[-1][1])[:, :, WRIST],
        batch["camera"],
        np.stack([(stage.vertices_uv + 1) / 2 * IMAGE_SIZE for stage in stages], axis=1),
    )


def _examples(
    images, faces, valid, truth, stages_xyz, wrists, camera=None, stages_px=None
) -> list[Example]:
    """Examples of B photographs.

    Args:
      images: (B, h, w, 3) uint8.
      faces: two arrays (F, 3).
      valid: (B, 2) bool, hands whose label counts.
      truth: vertices (B, 2, V, 3) and joints (B, 2, 21, 3) in front of the camera.
      stages_xyz: (B, T, 2, V, 3) estimates, both hands in one space.
      wrists: (B, 2, 3) the last estimate's wrists there.
      camera: (B, 3, 3) intrinsics; None: nothing is drawn over images.
      stages_px: (B, T, 2, V, 2) where the estimates are drawn; None: where the camera sees them.
    """
    vertices, joints = (np.asarray(points) for points in truth)
    # The left wrists coincide, or the right ones where the left hand has no label.
    rows, first = np.arange(len(valid)), valid.argmax(1)
    moved = (wrists[rows, first] - joints[rows, first, WRIST])[:, None, None]
    vertices = np.where(valid[..., None, None], vertices, np.nan)
    examples, true_px = [], None
    for i, image in enumerate(images):
        px = None if stages_px is None else stages_px[i]
        if camera is not None:
            true_px = project(camera[i], vertices[i])
            px = project(camera[i], stages_xyz[i] - moved[i]) if px is None else px
        shifted = vertices[i] + moved[i]
        examples.append(Example(image, faces, shifted, true_px, stages_xyz[i], px))
    return examples


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
    hands = loaded.hands
    batch = read_examples(folder, split, [one.index for one in shown], config)
    stages = estimate_all(loaded.model, loaded.variables, batch["image"], batch_size)
    examples = examples_of(batch, stages, hands, len(shown))
    truth = measured_hands(hands, pose_batch(batch, hands).vertices)
    errors = []
    for stage in stages:
        found = measure(hands, predicted_hands(hands, stage), truth, None, (MAIN_PROTOCOL,))
        error = known(found[MAIN_PROTOCOL][METRICS[0].name], batch["hand_valid"])
        errors.append(known_mean(error, 1))
    return [
        one._replace(example=example, stage_errors=row)
        for one, example, row in zip(shown, examples, np.transpose(errors).tolist(), strict=True)
    ]


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
    valid = batch["hand_valid"]
    with jax.enable_x64(True):
        prediction, truth = (_drawn(part) for part in table.hands(hands, batch))
    offset, note = prediction.offset, ""
    if offset is None:
        offset = truth.joints_xyz[:, 1, WRIST] - truth.joints_xyz[:, 0, WRIST]
        note = "No offset came with the prediction: its hands are as far apart as the true ones."
    offset = np.where(valid.all(-1, keepdims=True), offset, 0.0)  # of a single hand
    placed = hands_in_one_space(prediction.replace(offset=offset))
    examples = _examples(
        np.full((len(shown), IMAGE_SIZE, IMAGE_SIZE, 3), PAPER, np.uint8),
        [hands[side].faces if table.has_meshes else SKELETON_FACES for side in SIDES],
        valid,
        (truth.vertices_xyz, truth.joints_xyz),
        np.where(valid[..., None, None], placed, np.nan)[:, None],
        np.stack([0 * offset, offset], axis=1),
        batch.get("camera"),
    )
    pairs = zip(shown, examples, strict=True)
    return [one._replace(example=example, note=note) for one, example in pairs]


def _drawn(hands: Hands) -> Hands:
    """The hands in numpy, with skeletons for vertices where they have no meshes."""
    hands = jax.tree.map(np.asarray, hands)
    if hands.vertices_xyz is None:
        return hands.replace(vertices_xyz=skeleton_mesh(hands.joints_xyz))
    return hands
