"""What evaluate.py measures: a model on prepared data, or anyone's predictions."""

from __future__ import annotations

import argparse
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from tqdm import tqdm

from dir_jax.evaluation.examples import Shown, model_samples, table_samples
from dir_jax.evaluation.labels import MeanHand, mean_hand
from dir_jax.evaluation.predictions import PredictionTable, read_predictions, score_predictions
from dir_jax.evaluation.runner import evaluate
from dir_jax.evaluation.samples import Samples
from dir_jax.weights.loading import Loaded, load_hands, load_named_model
from dir_jax.weights.workdir import DATA_FOLDER
from mano_jax import HandPair


class Evaluated(NamedTuple):
    """One predictor's evaluation.

    Attributes:
      result: the content of `evaluation.json`.
      samples: what was kept of every sample.
      shown: gives the samples that the page shows.
    """

    result: dict[str, Any]
    samples: Samples
    shown: Callable[[], list[Shown]]


def _data_folder(
    arguments: argparse.Namespace, recipe: Mapping[str, Any]
) -> tuple[pathlib.Path, str]:
    """Where the prepared data lie, and which subset.

    Raises:
      ValueError: nobody says where.
    """
    data = recipe.get("data", {})
    folder = arguments.data or data.get("dir")
    if not folder and arguments.workdir:
        folder = os.path.join(arguments.workdir, DATA_FOLDER)
    if not folder:
        raise ValueError(
            "which data? wanted --data DATA, the folder that python -m input_pipeline.prepare "
            "--output DATA has written (or --config FILE --config.data.dir=DATA)"
        )
    return pathlib.Path(folder).expanduser(), data.get("subset", "interacting")


def _baseline(folder: pathlib.Path, subset: str, loaded: Loaded) -> MeanHand | None:
    """The training split's mean hand; None, with a line that says so, without that split."""
    try:
        return mean_hand(folder, loaded.hands, config=subset)
    except ValueError as error:
        print(f"note: no mean-hand baseline: {error}")
        return None


def evaluate_model(
    arguments: argparse.Namespace, given: Mapping[str, Any], output: pathlib.Path
) -> Evaluated:
    """Evaluates a model as the command line says; writes its per-sample table and pictures.

    Raises:
      ValueError, OSError: bad input; the message is for the user.
    """
    loaded = load_named_model(arguments, given.get("mano"))
    print(f"hands: {loaded.hands.name} ({loaded.hands.licence})")
    recipe = given or loaded.meta.get("config", {})
    folder, subset = _data_folder(arguments, recipe)

    from input_pipeline.batches import eval_batches
    from input_pipeline.dataset import open_split

    names = open_split(folder, arguments.split, subset)
    size = min(arguments.examples or len(names), len(names))
    wanted = arguments.batch_size or recipe.get("evaluation", {}).get("batch_size", 64)
    devices = jax.local_device_count()
    batch_size = -(-min(wanted, size) // devices) * devices
    baseline = _baseline(folder, subset, loaded)
    samples = Samples(output.with_name(f"{output.stem}_samples.csv"), names)
    with tqdm(total=size, unit="image", desc="evaluating", dynamic_ncols=True) as bar:
        result = evaluate(
            loaded.model,
            loaded.variables,
            loaded.hands,
            eval_batches(folder, arguments.split, batch_size=batch_size, limit=size, config=subset),
            baseline=baseline,
            volumes=not arguments.no_volumes,
            samples=samples,
            progress=bar.update,
        )
    result |= {"split": arguments.split, "step": loaded.meta.get("step")}

    def shown() -> list[Shown]:
        data = (folder, arguments.split, subset)
        return model_samples(samples, arguments.pictures, names, loaded, data, batch_size)

    return Evaluated(result, samples, shown)


def evaluate_predictions(
    arguments: argparse.Namespace, output: pathlib.Path
) -> dict[str, Evaluated]:
    """Scores files of predictions as the command line says; writes their per-sample tables.

    Raises:
      ValueError, OSError: bad input; the message is for the user.
    """
    hands, notes = load_hands(arguments.mano)
    if notes:
        print(
            "note: no MANO folder given: joints come from the open hand's regressor; figures of "
            "MANO meshes need --mano to be comparable with published ones"
        )
    print(f"hands: {hands.name} ({hands.licence})")
    # All files are checked before the first is scored.
    tables = [read_predictions(path, arguments.ground_truth) for path in arguments.predictions]
    found: dict[str, Evaluated] = {}
    for table in tables:
        name = table.name
        while name in found:
            name += "'"
        csv = output.with_name(f"{output.stem}_{name}_samples.csv")
        found[name] = _score(arguments, table, name, hands, csv)
    return found


def _score(
    arguments: argparse.Namespace,
    table: PredictionTable,
    name: str,
    hands: HandPair,
    csv: pathlib.Path,
) -> Evaluated:
    samples = Samples(csv, table.sample_ids)
    with tqdm(total=len(table), unit="sample", desc=name, dynamic_ncols=True) as bar:
        result = score_predictions(
            table, hands, volumes=not arguments.no_volumes, samples=samples, progress=bar.update
        )

    def shown() -> list[Shown]:
        return table_samples(samples, arguments.pictures, table, hands)

    return Evaluated(result, samples, shown)
