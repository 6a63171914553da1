"""Evaluating a trained model on prepared data: everything in `evaluation.json` and the table."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import mano_jax
from dir_jax.evaluation.ground_truth import MeanHand, true_hands
from dir_jax.evaluation.metrics import shown_in
from dir_jax.evaluation.protocols import MAIN_PROTOCOL, PROTOCOLS, Hands, measured_hands
from dir_jax.evaluation.scores import Scores
from dir_jax.models.network import estimate
from dir_jax.models.types import LENGTH_SCALE, Stage
from input_pipeline.files import write_json

_LABELS = ("global_orient", "hand_pose", "betas", "transl", "camera")

Progress = Callable[[int], None]


def predicted_hands(hands: mano_jax.HandPair, stage: Stage) -> Hands:
    """What a model's estimate says."""
    offset = LENGTH_SCALE * stage.offset
    return measured_hands(hands, stage.vertices_xyz, offset, stage.vertices_uv)


class Evaluation:
    """Accumulates a model's errors over batches of `input_pipeline.batches.eval_batches`.

    Args:
      model: the network.
      variables: its {"params", "batch_stats"}.
      hands: the hand models.
      baseline: the training set's mean hand (see `ground_truth.mean_hand`); None leaves
        `baseline_mean_hand` null.
      volumes: whether to measure interpenetration (about a millisecond a sample).

    Attributes:
      scores: of the last stage.
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
        self._model, self._hands, self._variables, self._sharding = model, hands, variables, None
        self._baseline, self._mean_scores = baseline, Scores(hands, tuple(PROTOCOLS))
        self.scores, self._earlier = Scores(hands, slow=volumes), []

    def add(self, batch: dict[str, np.ndarray], estimates: Sequence[Stage] | None = None) -> None:
        """Adds a batch.

        Args:
          batch: the batch; samples of mask 0 are padding.
          estimates: what the model says of it (see `estimates`); None: it is asked.
        """
        estimates = self.estimates(batch) if estimates is None else estimates
        mask = np.asarray(batch["mask"]) > 0
        valid = np.asarray(batch["hand_valid"], bool) & mask[:, None]
        labels = jax.device_put({k: batch[k] for k in _LABELS}, self._sharding)
        truth = true_hands(self._hands, labels)
        known = (truth, labels["camera"], valid, np.asarray(batch["index"]))
        *earlier, last = (predicted_hands(self._hands, stage) for stage in estimates)
        self._earlier = self._earlier or [Scores(self._hands, (MAIN_PROTOCOL,)) for _ in earlier]
        for scores, prediction in zip(self._earlier, earlier, strict=True):
            scores.add(prediction, *known)
        joint_valid = np.asarray(batch["joint_valid"], bool) & mask[:, None, None]
        self.scores.add(last, *known, (batch["joints_xyz"], joint_valid))
        if self._baseline is not None:
            vertices, offset = (
                np.broadcast_to(np.float32(value), (len(mask), *value.shape))
                for value in self._baseline[:2]
            )
            self._mean_scores.add(measured_hands(self._hands, vertices, offset), *known)

    def run(
        self, batches: Iterable[dict[str, np.ndarray]], progress: Progress | None = None
    ) -> Evaluation:
        """Adds all batches; calls `progress` with the number of samples after each."""
        for batch in batches:
            self.add(batch)
            if progress is not None:
                progress(int((np.asarray(batch["mask"]) > 0).sum()))
        return self

    def estimates(self, batch: dict[str, np.ndarray]) -> tuple[Stage, ...]:
        """What the model says of a batch, on this process's devices if they share it evenly."""
        if self._sharding is None:
            devices = jax.local_devices()
            if len(batch["image"]) % len(devices):
                devices = devices[:1]
            mesh = Mesh(np.array(devices), ("batch",))
            self._sharding = NamedSharding(mesh, PartitionSpec("batch"))
            self._variables = jax.device_put(self._variables, NamedSharding(mesh, PartitionSpec()))
        images = jax.device_put(batch["image"], self._sharding)
        return estimate(self._model, self._variables, images)

    def result(self, cameras: Sequence[str] | None = None) -> dict[str, Any]:
        """The content of `evaluation.json` so far (see `Scores.report`)."""
        by_stage = [scores.summary(MAIN_PROTOCOL) for scores in (*self._earlier, self.scores)]
        baseline = self._baseline and self._mean_scores
        return self.scores.report(baseline, cameras) | {"by_stage": by_stage}


def validation_figures(result: dict[str, Any]) -> dict[str, float]:
    """What training records of a validation, one number a name.

    Args:
      result: of `Evaluation.result`.

    Returns:
      Every "detail" metric under `MAIN_PROTOCOL`; mean_hand_mpjpe_mm, the same for the mean hand
      (the first metric); and mpjpe_stage_N_mm of every stage.
    """
    first = shown_in("detail")[0]
    every = {**result, **result[MAIN_PROTOCOL]}
    figures = {metric.key(): every.get(metric.key()) for metric in shown_in("detail")}
    if result["baseline_mean_hand"]:
        figures[f"mean_hand_{first.key()}"] = result["baseline_mean_hand"][MAIN_PROTOCOL][
            first.key()
        ]
    for number, stage in enumerate(result["by_stage"]):
        figures[first.key(f"stage_{number}")] = stage[first.key()]
    return {name: float(value) for name, value in figures.items() if value is not None}


def write_evaluation(path: str | os.PathLike, result: dict[str, Any]) -> None:
    """Writes `evaluation.json`, whole or not at all; NaN and infinity become null."""
    write_json(path, _finite(result))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
