"""Evaluating a trained model on prepared data: everything in `evaluation.json` and the table."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import mano_jax
from dir_jax.evaluation.mean_hand import MeanHand
from dir_jax.evaluation.metrics import internet_errors
from dir_jax.evaluation.samples import Samples
from dir_jax.evaluation.scoring import Scores, about_hands, measured_hands, score_batch
from dir_jax.evaluation.totals import PCK_THRESHOLDS_MM
from dir_jax.losses.targets import pose_batch
from dir_jax.models.constants import LENGTH_SCALE
from dir_jax.models.forward import estimate
from dir_jax.models.types import Stage
from input_pipeline.files import write_json
from mano_jax.constants import SIDES

_DEVICE_ARRAYS = (
    "global_orient",
    "hand_pose",
    "betas",
    "transl",
    "camera",
    "joints_xyz",
    "joint_valid",
)

Progress = Callable[[int], None]


@functools.partial(jax.jit, static_argnums=0)
def _score_stages(hands, stages, batch, baseline):
    """Errors of every stage, of the mean hand and in InterNet's protocol, and both meshes."""
    truth = measured_hands(hands, pose_batch(batch, hands).vertices)
    predictions = [
        measured_hands(hands, stage.vertices_xyz, LENGTH_SCALE * stage.offset) for stage in stages
    ]
    camera, size = batch["camera"], batch["camera"].shape[0]
    scored = [score_batch(prediction, truth, camera) for prediction in predictions]
    mean = None
    if baseline is not None:
        vertices, offset = (jax.numpy.broadcast_to(b, (size, *b.shape)) for b in baseline)
        mean = score_batch(measured_hands(hands, vertices, offset), truth, camera)[0]
    annotated = internet_errors(predictions[-1], batch["joints_xyz"], batch["joint_valid"])
    return [errors for errors, _ in scored], scored[-1][1], mean, annotated, predictions[-1], truth


class Evaluation:
    """Accumulates a model's errors over batches of `input_pipeline.batches.eval_batches`.

    Args:
      model: the network.
      variables: its {"params", "batch_stats"}.
      hands: the hand models.
      baseline: the training set's mean hand, or None.
      volumes: whether to measure interpenetration.
    """

    def __init__(
        self,
        model: Any,
        variables: Any,
        hands: mano_jax.HandPair,
        *,
        baseline: MeanHand | None = None,
        volumes: bool = True,
    ):
        self.model, self.hands = model, hands
        self._variables, self._sharding = variables, None
        self._baseline = None
        if baseline is not None:
            self._baseline = tuple(
                np.asarray(value, np.float32) for value in (baseline.vertices_xyz, baseline.offset)
            )
        self._volumes = volumes
        self.stages: list[Scores] = []
        self.mean_scores = Scores() if baseline is not None else None

    def add(
        self, batch: dict[str, np.ndarray], estimates: tuple[Stage, ...] | None = None
    ) -> dict[str, np.ndarray]:
        """Adds a model's errors on a batch.

        Args:
          batch: the batch.
          estimates: what the model says of it (see `estimates`); None: it is asked.

        Returns:
          Columns (B,) of the per-sample table, padded samples included (their mask is 0).
        """
        estimates = self.estimates(batch) if estimates is None else estimates
        arrays = jax.device_put({k: batch[k] for k in _DEVICE_ARRAYS}, self._sharding)
        stages, about, mean, annotated, prediction, truth = _score_stages(
            self.hands, estimates, arrays, self._baseline
        )
        mask = np.asarray(batch["mask"]) > 0
        valid = np.asarray(batch["hand_valid"], bool) & mask[:, None]
        if not self.stages:
            self.stages = [Scores(self.hands) for _ in stages]
        for scores, errors in zip(self.stages, stages, strict=True):
            columns = scores.add(errors, valid)
        final = self.stages[-1]
        interacting = np.asarray(batch["joint_valid"]).any(-1).all(-1)
        final.add_internet(annotated, mask, interacting)
        if mean is not None:
            self.mean_scores.add(mean, valid)
        columns |= about_hands(about, valid)
        if self._volumes:
            volumes = final.add_volumes("predicted", prediction, valid)
            columns["interpenetration_cm3"] = volumes
            columns["true_interpenetration_cm3"] = final.add_volumes("true", truth, valid)
        return columns

    def estimates(self, batch: dict[str, np.ndarray]) -> tuple[Stage, ...]:
        """What the model says of a batch, on the devices."""
        if self._sharding is None:
            self._place(len(batch["image"]))
        return estimate(self.model, self._variables, jax.device_put(batch["image"], self._sharding))

    def _place(self, batch_size: int) -> None:
        """Spreads batches over this process's devices when they can be shared evenly."""
        devices = jax.local_devices()
        if batch_size % len(devices):
            devices = devices[:1]
        mesh = Mesh(np.array(devices), ("batch",))
        self._sharding = NamedSharding(mesh, PartitionSpec("batch"))
        everywhere = NamedSharding(mesh, PartitionSpec())
        self._variables = jax.device_put(self._variables, everywhere)
        if self._baseline is not None:
            self._baseline = jax.device_put(self._baseline, everywhere)

    def result(self) -> dict[str, Any]:
        """Everything measured so far, as `evaluation.json` has it."""
        if not self.stages:
            raise ValueError("no samples to evaluate")
        final = self.stages[-1]
        result = report(final, self.hands, self.mean_scores)
        result["by_stage"] = [stage.protocol_summaries()["wrist_scaled"] for stage in self.stages]
        return result


def report(
    scores: Scores, hands: mano_jax.HandPair | None, mean_scores: Scores | None = None
) -> dict[str, Any]:
    """The content of `evaluation.json`.

    Args:
      scores: of the predictor.
      hands: the hand models.
      mean_scores: of the mean hand, or None when there is no training split to take it from.

    Returns:
      A dictionary ready for JSON.
    """
    result: dict[str, Any] = scores.protocol_summaries()
    first = next(iter(scores.protocols.values()))
    result |= {
        "samples": first.samples,
        "interpenetration_cm3": scores.volume_cm3("predicted"),
        "true_interpenetration_cm3": scores.volume_cm3("true"),
        "baseline_mean_hand": mean_scores.protocol_summaries() if mean_scores else None,
        "internet": scores.internet.summary(),
        "by_joint_mm": {
            name: dict(zip(SIDES, totals.by_joint_mm().tolist(), strict=True))
            for name, totals in scores.protocols.items()
        },
        "pck": {"thresholds_mm": PCK_THRESHOLDS_MM.tolist()}
        | {name: totals.pck().tolist() for name, totals in scores.protocols.items()},
        "hands": None if hands is None else hands.name,
    }
    return result


def evaluate(
    model: Any,
    variables: Any,
    hands: mano_jax.HandPair,
    batches: Iterable[dict[str, np.ndarray]],
    *,
    baseline: MeanHand | None = None,
    volumes: bool = True,
    samples: Samples | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Evaluates a model on batches.

    Args:
      model: the network.
      variables: its {"params", "batch_stats"}.
      hands: the hand models.
      batches: as from `input_pipeline.batches.eval_batches`.
      baseline: see `mean_hand.mean_hand`; None leaves `baseline_mean_hand` null.
      volumes: whether to measure interpenetration (about a millisecond a sample).
      samples: takes every sample's errors; give one to have the table written, or to rank them.
      progress: called after every batch with the number of its real samples.

    Returns:
      The content of `evaluation.json`.

    Raises:
      ValueError: there are no samples.
    """
    evaluation = Evaluation(model, variables, hands, baseline=baseline, volumes=volumes)
    with samples or Samples(None) as kept:
        for batch in batches:
            columns = evaluation.add(batch)
            real = np.asarray(batch["mask"]) > 0
            kept.add(np.asarray(batch["index"])[real], {k: v[real] for k, v in columns.items()})
            if progress is not None:
                progress(int(real.sum()))
    return evaluation.result() | kept.summary()


def write_evaluation(path: str | os.PathLike, result: dict[str, Any]) -> None:
    """Writes `evaluation.json`, whole or not at all; NaN and infinity become null."""
    write_json(path, _finite(result))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
