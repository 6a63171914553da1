"""What a run leaves besides its weights: validation numbers, evaluation.json and pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from dir_jax.evaluation.examples import examples_of
from dir_jax.evaluation.labels import MeanHand, mean_hand
from dir_jax.evaluation.runner import (
    Evaluation,
    evaluate,
    validation_figures,
    write_evaluation,
)
from dir_jax.models.types import Stage
from dir_jax.pictures.comparison import comparison_mesh, comparison_picture
from dir_jax.pictures.drawing import save_png
from dir_jax.training.logs import RunLog
from dir_jax.training.start import Run
from dir_jax.training.state import TrainState
from dir_jax.weights.checkpoints import load_variables
from dir_jax.weights.workdir import EVALUATION_FILE, PICTURES_FOLDER

LOGGED_PICTURES = 4
LOGGED_MESHES = 2
BASELINE_SAMPLES = 2000
"""Training examples behind the mean hand that validation compares with."""


class Validation:
    """Measures a state on the split "val"; the smallest wrist_scaled MPJPE is the best.

    Args:
      run: the run.
      log: where pictures and meshes of the first examples go, the same ones every time.
    """

    def __init__(self, run: Run, log: RunLog):
        self._run, self._log = run, log
        self._model = run.model
        self._baseline: MeanHand | None = None

    def __call__(self, state: TrainState) -> dict[str, float]:
        """Numbers by name; empty when there is no split "val"."""
        run = self._run
        if not run.data.sizes["val"]:
            return {}
        variables = jax.device_get(state.variables)
        if self._baseline is None:
            self._baseline = mean_hand(
                run.data.folder, run.hands, config=run.data.subset, samples=BASELINE_SAMPLES
            )
        evaluation = Evaluation(
            self._model, variables, run.hands, baseline=self._baseline, volumes=False
        )
        first: tuple[dict[str, np.ndarray], tuple[Stage, ...]] | None = None
        for batch in evaluation_batches(run, "val", run.config.validation.examples):
            stages = evaluation.estimates(batch)
            first = (batch, stages) if first is None else first
            evaluation.add(batch, stages)
        if run.leader:
            self._show(int(state.step), *first)
        return validation_figures(evaluation.result())

    def _show(self, step: int, batch: dict[str, np.ndarray], stages: tuple[Stage, ...]) -> None:
        count = min(LOGGED_PICTURES, int(batch["mask"].sum()))
        for index, example in enumerate(examples_of(batch, stages, self._run.hands, count)):
            self._log.picture(step, f"validation/{index}", comparison_picture(example))
            if index < LOGGED_MESHES:
                mesh = comparison_mesh(example)
                self._log.mesh(step, f"validation/{index}_label_and_prediction", *mesh)


def evaluation_batches(run: Run, split: str, examples: int):
    """Batches of a split; `examples` 0 takes all of them."""
    from input_pipeline.batches import eval_batches

    size = min(examples or run.data.sizes[split], run.data.sizes[split])
    devices = jax.local_device_count()
    batch_size = -(-run.config.evaluation.batch_size // devices) * devices
    return eval_batches(
        run.data.folder,
        split,
        batch_size=batch_size,
        limit=size,
        config=run.data.subset,
    )


def write_outputs(run: Run) -> None:
    """Evaluates the best checkpoint on the split "test" and draws; what is there is left alone."""
    if not run.leader:
        return
    if not run.data.sizes["test"]:
        print("there is no split test: nothing evaluated, nothing drawn", file=sys.stderr)
        return
    evaluation = run.workdir / EVALUATION_FILE
    folder = run.workdir / PICTURES_FOLDER
    settings = run.config.evaluation
    count = min(settings.pictures, settings.batch_size, run.data.sizes["test"])
    missing = [i for i in range(count) if not picture_path(folder, i).exists()]
    if evaluation.exists() and not missing:
        print(f"{evaluation} and {folder} are there already", file=sys.stderr)
        return
    variables, _ = load_variables(run.workdir)
    if not evaluation.exists():
        _evaluate(run, variables, evaluation)
    if missing:
        _draw(run, variables, missing, folder)


def picture_path(folder: Path, index: int) -> Path:
    """Where the picture of one test example goes."""
    return folder / f"test_{index:03d}.png"


def _evaluate(run: Run, variables: Any, path: Path) -> None:
    baseline = mean_hand(run.data.folder, run.hands, config=run.data.subset)
    examples = run.config.evaluation.examples
    total = min(examples or run.data.sizes["test"], run.data.sizes["test"])
    with tqdm(total=total, unit="image", desc="evaluating", dynamic_ncols=True) as bar:
        result = evaluate(
            run.model,
            variables,
            run.hands,
            evaluation_batches(run, "test", examples),
            baseline=baseline,
            progress=bar.update,
        )
    write_evaluation(path, result)
    found, mean = result["wrist_scaled"], result["baseline_mean_hand"]["wrist_scaled"]
    print(
        f"test: wrist_scaled MPJPE {found['mpjpe_mm']:.2f} mm (mean hand "
        f"{mean['mpjpe_mm']:.2f}), MPVPE {found['mpvpe_mm']:.2f} mm; all of it in {path}",
        file=sys.stderr,
    )


def _draw(run: Run, variables: Any, missing: list[int], folder: Path) -> None:
    batch = next(iter(evaluation_batches(run, "test", run.config.evaluation.examples)))
    evaluation = Evaluation(run.model, variables, run.hands)
    examples = examples_of(batch, evaluation.estimates(batch), run.hands, missing[-1] + 1)
    for index in missing:
        save_png(picture_path(folder, index), comparison_picture(examples[index]))
    print(f"pictures of {len(missing)} test examples in {folder}", file=sys.stderr)
