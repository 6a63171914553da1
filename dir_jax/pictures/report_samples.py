"""The samples that the report shows: pictures and meshes of the worst, median and best ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dir_jax.evaluation.metrics import METRICS, measure
from dir_jax.evaluation.predictions import PredictionTable
from dir_jax.evaluation.protocols import (
    MAIN_PROTOCOL,
    WRIST,
    Hands,
    hands_in_one_space,
    measured_hands,
)
from dir_jax.evaluation.runner import predicted_hands
from dir_jax.evaluation.samples import Samples, identity_row
from dir_jax.evaluation.sheets import Examples, chosen_samples
from dir_jax.losses.targets import pose_batch
from dir_jax.models.constants import IMAGE_SIZE
from dir_jax.models.types import Stage, one_space
from dir_jax.pictures.drawing import PAPER, draw_meshes
from dir_jax.pictures.pages.hands3d import StageMesh
from dir_jax.pictures.pages.run_record import stage_name
from dir_jax.pictures.pages.sample_pager import Sample, SamplePicture
from dir_jax.pictures.skeleton import SKELETON_FACES, skeleton_mesh
from input_pipeline.crop import project
from mano_jax import HandPair
from mano_jax.constants import SIDES


class Shown(NamedTuple):
    """Samples for the report's pager, and the faces (two arrays) of all their meshes."""

    samples: list[Sample]
    faces: list[np.ndarray]


class Choice:
    """Which samples a report shows, and what the evaluation has measured of them.

    Args:
      samples: of the evaluation.
      count: samples of each kind: worst, median, best.
      identities: names by sample index, or None.
      system: whose predictions; goes before the samples' names when there are several.
    """

    def __init__(
        self, samples: Samples, count: int, identities: Sequence[Any] | None, system: str = ""
    ):
        all_indices, numbers = samples.listed()
        self._numbers, self._identities, self._system = numbers, identities, system
        self._groups: dict[int, list[str]] = {}
        for group, chosen in chosen_samples(*samples.ranking(), count).items():
            for index, _ in chosen:
                self._groups.setdefault(index, []).append(group)
        self._row = {index: row for row, index in enumerate(all_indices.tolist())}
        errors = next(iter(numbers.values()))
        self.indices = sorted(self._groups, key=lambda index: -errors[self._row[index]])

    def sample(self, index: int, pictures, stages, truth_xyz) -> Sample:
        """Puts together what the pager shows of one of the chosen samples."""
        row = self._row[index]
        numbers = {name: float(column[row]) for name, column in self._numbers.items()}
        return Sample(self._name(index), self._groups[index], numbers, pictures, stages, truth_xyz)

    def _name(self, index: int) -> str:
        name = f"{index}"
        if self._identities is not None:
            identity = self._identities[index]
            name = f"{index}: {identity_row(identity)[0]}"
        return f"{self._system} {name}".strip()


def model_samples(choice: Choice, examples: Examples, hands: HandPair) -> Shown:
    """Samples of a model's evaluation.

    Args:
      choice: which.
      examples: those, in the same order.
      hands: the hand models.
    """
    batch, stages = examples.batch, examples.stages
    truth = np.asarray(pose_batch(dict(batch), hands).vertices)
    errors = stage_errors_mm(batch, stages, truth, hands)
    faces = [hands[side].faces for side in SIDES]
    found = []
    for row, index in enumerate(choice.indices):
        valid = np.asarray(batch["hand_valid"][row], bool)
        estimates = [jax.tree.map(lambda value, r=row: np.asarray(value[r]), s) for s in stages]
        meshes = [one_space(stage)[0] for stage in estimates]
        overlays = [
            draw_meshes(batch["image"][row], _crop_px(stage), mesh[..., 2], mesh, faces)
            for stage, mesh in zip(estimates, meshes, strict=True)
        ]
        known = np.where(valid[:, None, None], truth[row], np.nan)
        label = draw_meshes(
            batch["image"][row], project(batch["camera"][row], known), known[..., 2], known, faces
        )
        pictures = [
            SamplePicture("photo", [batch["image"][row]]),
            SamplePicture("label", [label]),
            SamplePicture("prediction", overlays),
        ]
        shown = [
            StageMesh(stage_name(n), mesh, f"{stage_name(n)}: MPJPE {errors[n][row]:.1f} mm")
            for n, mesh in enumerate(meshes)
        ]
        true = _truth(truth[row], meshes[-1], valid, hands)
        found.append(choice.sample(index, pictures, shown, true))
    return Shown(found, faces)


def _crop_px(stage: Stage) -> np.ndarray:
    return (stage.vertices_uv + 1) / 2 * IMAGE_SIZE


def stage_errors_mm(batch, stages, truth: np.ndarray, hands: HandPair) -> np.ndarray:
    """wrist_scaled MPJPE (stages, n) of every sample, mean over the hands that count."""
    true_hands = measured_hands(hands, truth)
    valid = np.asarray(batch["hand_valid"], bool)
    errors = []
    for stage in stages:
        found = measure(hands, predicted_hands(hands, stage), true_hands, None, (MAIN_PROTOCOL,))
        per_hand = np.asarray(found.values[MAIN_PROTOCOL][METRICS[0].name])
        total = np.where(valid, per_hand, 0.0).sum(-1)
        errors.append(total / np.maximum(valid.sum(-1), 1))
    return np.stack(errors)


def _truth(
    truth: np.ndarray, predicted: np.ndarray, valid: np.ndarray, hands: HandPair
) -> np.ndarray | None:
    """True hands (2, 778, 3) in the space of the predicted ones: their left wrists coincide.

    A hand without a label becomes a point, which draws nothing.
    """
    if not valid.any():
        return None
    first = int(np.argmax(valid))  # the left hand, unless it has no label
    wrists = _wrists(np.stack([truth, predicted]), hands)
    moved = truth - wrists[0, first] + wrists[1, first]
    return np.where(valid[:, None, None], moved, wrists[1, first])


def _wrists(vertices: np.ndarray, hands: HandPair) -> np.ndarray:
    """(n, 2, 3) wrists of meshes (n, 2, 778, 3)."""
    return np.asarray(measured_hands(hands, vertices).joints_xyz)[:, :, WRIST]


def table_samples(choice: Choice, table: PredictionTable, hands: HandPair) -> Shown:
    """Samples of anyone's predictions, as meshes, or as skeletons where there are none.

    Args:
      choice: which; none at all is fine.
      table: the predictions.
      hands: hand models of the meshes.
    """
    if not choice.indices:
        return Shown([], [])
    meshes = table.has_meshes
    batch = table.take(np.asarray(choice.indices))
    with jax.enable_x64(True):
        prediction, truth = table.hands(hands, batch)
    valid = batch.get("hand_valid", np.ones((len(choice.indices), 2))).astype(bool)
    truth = _only_valid(truth, valid)
    note = "prediction"
    if prediction.offset is None:
        wrists = truth.joints_xyz[:, :, WRIST]
        prediction = prediction.replace(offset=wrists[:, 1] - wrists[:, 0])
        note += " (no offset came with it: the hands are as far apart as the true ones)"
    prediction = _only_valid(prediction, valid)
    faces = [hands[side].faces for side in SIDES] if meshes else [SKELETON_FACES] * 2
    shapes = [_in_one_space(both, meshes) for both in (truth, prediction)]
    found = []
    for row, index in enumerate(choice.indices):
        pictures = []
        if "camera" in batch:
            origin = truth.joints_xyz[row, 0, WRIST]
            pictures = [
                SamplePicture(label, [_on_paper(origin + shape[row], batch["camera"][row], faces)])
                for label, shape in zip(("true hands", "prediction"), shapes, strict=True)
            ]
        stages = [StageMesh("prediction", shapes[1][row], note)]
        found.append(choice.sample(index, pictures, stages, shapes[0][row]))
    return Shown(found, faces)


def _only_valid(hands: Hands, valid: np.ndarray) -> Hands:
    """Draws a hand that does not count together to a point at the other's wrist."""
    hands = jax.tree.map(np.asarray, hands)
    both = valid.all(-1)[:, None]
    wrists = np.where(valid[..., None], hands.joints_xyz[:, :, WRIST], 0.0).sum(1)

    def drawn_together(points: np.ndarray | None) -> np.ndarray | None:
        if points is None:
            return None
        return np.where(valid[..., None, None], points, wrists[:, None, None])

    return Hands(
        drawn_together(hands.joints_xyz),
        drawn_together(hands.vertices_xyz),
        None if hands.offset is None else np.where(both, hands.offset, 0.0),
    )


def _in_one_space(hands: Hands, meshes: bool) -> np.ndarray:
    """(n, 2, V, 3) meshes or skeletons, the left wrist at the origin."""
    if meshes:
        return hands_in_one_space(hands)
    return skeleton_mesh(hands_in_one_space(hands.replace(vertices_xyz=hands.joints_xyz)))


def _on_paper(points_xyz: np.ndarray, camera: np.ndarray, faces) -> np.ndarray:
    """Hands before the camera, drawn on plain ground."""
    ground = np.full((IMAGE_SIZE, IMAGE_SIZE, 3), PAPER, np.uint8)
    return draw_meshes(ground, project(camera, points_xyz), points_xyz[..., 2], points_xyz, faces)
