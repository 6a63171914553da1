"""What a run shows of itself: what it trains on, how good it is meanwhile, and at its end."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict
from tqdm import tqdm

from dir_jax.evaluation.examples import examples_of
from dir_jax.evaluation.ground_truth import MeanHand, mean_hand
from dir_jax.evaluation.runner import Evaluation, validation_figures, write_evaluation
from dir_jax.losses.targets import targets_from_batch
from dir_jax.models.types import IMAGE_SIZE
from dir_jax.pictures.drawing import comparison_picture, contact_sheet, draw_meshes, save_png
from dir_jax.training.data import Data
from dir_jax.training.record import Record
from dir_jax.training.step import TrainState
from dir_jax.weights import EVALUATION_FILE, PICTURES_FOLDER
from dir_jax.weights.checkpoints import load_variables
from mano_jax import HandPair
from mano_jax.constants import SIDES

LOGGED_PICTURES = 4
BASELINE_SAMPLES = 2000
"""Training examples behind the mean hand that validation compares with."""


class Validation:
    """Measures a state on the split "val"; the smallest wrist_scaled MPJPE is the best.

    Args:
      config: the recipe.
      data: prepared data.
      model: the network.
      hands: the hand models inside it.
      record: where pictures of the first examples go, the same ones every time.
    """

    def __init__(
        self, config: ConfigDict, data: Data, model: nn.Module, hands: HandPair, record: Record
    ):
        self._config, self._data, self._record = config, data, record
        self._model, self._hands = model, hands
        self._baseline: MeanHand | None = None

    def __call__(self, state: TrainState) -> dict[str, float]:
        """Numbers by name; empty when there is no split "val"."""
        if not self._data.sizes["val"]:
            return {}
        if self._baseline is None:
            self._baseline = mean_hand(
                self._data.folder,
                self._hands,
                config=self._data.subset,
                samples=BASELINE_SAMPLES,
            )
        variables = jax.device_get(state.variables)
        evaluation = Evaluation(
            self._model, variables, self._hands, baseline=self._baseline, volumes=False
        )
        examples = self._config.validation.examples
        for number, batch in enumerate(_batches(self._config, self._data, "val", examples)):
            stages = evaluation.estimates(batch)
            evaluation.add(batch, stages)
            if number == 0 and self._record.enabled:
                count = min(LOGGED_PICTURES, int(batch["mask"].sum()))
                for index, example in enumerate(examples_of(batch, stages, self._hands, count)):
                    name = f"validation/{index}"
                    self._record.picture(int(state.step), name, comparison_picture(example))
        return validation_figures(evaluation.result())


def _batches(config: ConfigDict, data: Data, split: str, examples: int):
    """Batches of a split; `examples` 0 takes all of them."""
    from input_pipeline.batches import eval_batches

    devices = jax.local_device_count()
    return eval_batches(
        data.folder,
        split,
        batch_size=-(-config.evaluation.batch_size // devices) * devices,
        limit=min(examples or data.sizes[split], data.sizes[split]),
        config=data.subset,
    )


def label_sheet(batch: Mapping[str, np.ndarray], hands: HandPair, count: int = 8) -> np.ndarray:
    """What training sees: augmented photographs, each beside itself with its label drawn over it.

    Meshes that do not lie on the hands mean wrong annotations, wrong hand models (MANO's parameters
    drawn with another hand) or a mistake in the preparation.

    Args:
      batch: of `input_pipeline.batches.TrainBatches`.
      hands: the hand models.
      count: examples, at most.

    Returns:
      (H, W, 3) uint8, two examples a row.
    """
    arrays = {name: value[:count] for name, value in batch.items() if name != "image"}
    labels = jax.jit(functools.partial(targets_from_batch, hands=hands))(arrays)
    points_px = (np.asarray(labels.vertices_uv) + 1) / 2 * IMAGE_SIZE
    valid = np.asarray(batch["hand_valid"])[:count, :, None, None]
    vertices_xyz = np.where(valid, labels.vertices_xyz, np.nan)
    faces = [hands[side].faces for side in SIDES]
    pairs = []
    for crop, uv, xyz in zip(batch["image"], points_px, vertices_xyz, strict=False):
        pairs += [crop, draw_meshes(crop, uv, xyz, faces)]
    return contact_sheet(pairs, 4)


def evaluate_best(
    config: ConfigDict, workdir: Path, data: Data, model: nn.Module, hands: HandPair
) -> None:
    """Evaluates the best checkpoint on the split "test" and draws; what is there is left alone."""
    if not data.sizes["test"]:
        print("there is no split test: nothing evaluated, nothing drawn", file=sys.stderr)
        return
    path, folder = workdir / EVALUATION_FILE, workdir / PICTURES_FOLDER
    count = min(config.evaluation.pictures, config.evaluation.batch_size, data.sizes["test"])
    pictures = {index: folder / f"test_{index:03d}.png" for index in range(count)}
    missing = {index: name for index, name in pictures.items() if not name.exists()}
    if path.exists() and not missing:
        print(f"{path} and {folder} are there already", file=sys.stderr)
        return
    variables, _ = load_variables(workdir)
    if not path.exists():
        _evaluate(config, path, data, model, variables, hands)
    if missing:
        batch = next(iter(_batches(config, data, "test", config.evaluation.examples)))
        stages = Evaluation(model, variables, hands).estimates(batch)
        examples = examples_of(batch, stages, hands, count)
        for index, name in missing.items():
            save_png(name, comparison_picture(examples[index]))
        print(f"pictures of {len(missing)} test examples in {folder}", file=sys.stderr)


def _evaluate(
    config: ConfigDict, path: Path, data: Data, model: nn.Module, variables: Any, hands: HandPair
) -> None:
    examples, size = config.evaluation.examples, data.sizes["test"]
    total = min(examples or size, size)
    with tqdm(total=total, unit="image", desc="evaluating", dynamic_ncols=True) as bar:
        baseline = mean_hand(data.folder, hands, config=data.subset)
        evaluation = Evaluation(model, variables, hands, baseline=baseline)
        result = evaluation.run(_batches(config, data, "test", examples), bar.update).result()
    write_evaluation(path, result)
    found, mean = result["wrist_scaled"], result["baseline_mean_hand"]["wrist_scaled"]
    print(
        f"test: wrist_scaled MPJPE {found['mpjpe_mm']:.2f} mm (mean hand "
        f"{mean['mpjpe_mm']:.2f}), MPVPE {found['mpvpe_mm']:.2f} mm; all of it in {path}",
        file=sys.stderr,
    )
