"""The command behind evaluate.py: a model on prepared data, or anyone's predictions."""

from __future__ import annotations

import argparse
import functools
import os
import pathlib
import sys
import time
from collections.abc import Mapping
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
from tqdm import tqdm

from configs import read_recipe, split_recipe_arguments
from dir_jax.evaluation.examples import model_samples, table_samples
from dir_jax.evaluation.ground_truth import mean_hand
from dir_jax.evaluation.predictions import __doc__ as predictions_format
from dir_jax.evaluation.predictions import read_predictions, score_predictions
from dir_jax.evaluation.runner import Evaluation, write_evaluation
from dir_jax.evaluation.scores import Evaluated
from dir_jax.evaluation.tables import IDENTITY, all_tables, identity_row, write_samples
from dir_jax.weights import DATA_FOLDER, EVALUATION_FILE
from dir_jax.weights.loading import (
    DEFAULT,
    add_model_arguments,
    load_named_model,
    shipped,
)
from input_pipeline.commands import command, one_line
from mano_jax import load_hands


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="evaluate.py",
        description="Measures reconstructions of two hands under every protocol of the field.",
        epilog=predictions_format + "\nA recipe's fields can be set for a model's evaluation: "
        "--config FILE --config.data.dir=DATA.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_arguments(parser)
    add = parser.add_argument
    add("--predictions", nargs="+", metavar="P.npz", help="instead of a model: anyone's output")
    add("--ground_truth", metavar="G.npz", help="ground truth of --predictions")
    add("--data", metavar="DATA", help="prepared data (default: the recipe's)")
    add("--split", default="test", help="train, val or test (default: test)")
    add("--examples", type=int, default=0, help="only the first N (default: all)")
    add("--batch_size", type=int, default=0, help="default: the recipe's, or 64")
    add("--output", metavar="FILE", help="default: evaluation.json in the workdir, or here")
    add("--pictures", type=int, default=8, metavar="N",
        help="show the N worst, median and best samples (default: 8; 0: none)")  # fmt: skip
    add("--report", metavar="FILE", help="default: evaluation.html beside evaluation.json")
    add("--no_report", action="store_true", help="no page to look at")
    add("--no_volumes", action="store_true", help="leave interpenetration out")
    return parser


_PROCESS_COUNTS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
"""How srun and mpirun tell each process how many there are."""


def _check(arguments: argparse.Namespace, recipe: Mapping[str, Any]) -> None:
    """Refuses arguments that make no sense, and to be one of several processes.

    Raises:
      ValueError: what came and what was wanted.
    """
    for name in ("examples", "batch_size", "pictures"):
        if getattr(arguments, name) < 0:
            raise ValueError(f"--{name} is {getattr(arguments, name)}; wanted 0 or more")
    sources = ("workdir", "checkpoint", "torch_checkpoint", "weights", "predictions")
    given = [f"--{name}" for name in sources if getattr(arguments, name)]
    if len(given) != 1 and (given or not shipped(DEFAULT)):
        raise ValueError(
            f"{' and '.join(given) or 'nothing'} given; wanted one of "
            + ", ".join(f"--{name}" for name in sources)
        )
    counts = [int(recipe.get("parallel", {}).get("processes", 1)), jax.process_count()]
    counts += [int(value) for name in _PROCESS_COUNTS if (value := os.environ.get(name, "1"))]
    if max(counts) > 1:  # they would all write the same files
        raise ValueError(
            f"started as {max(counts)} processes; wanted one: evaluation uses all devices of one "
            "machine (start evaluate.py without srun or mpirun, parallel.processes=1)"
        )


def _outputs(arguments: argparse.Namespace) -> tuple[pathlib.Path, pathlib.Path]:
    """Where evaluation.json and the page go; the samples' tables go beside the former.

    Raises:
      ValueError: one of them is a folder, or a file that is read.
    """
    output = arguments.output or os.path.join(arguments.workdir or "", EVALUATION_FILE)
    output = pathlib.Path(output)
    page = pathlib.Path(arguments.report or output.with_suffix(".html"))
    read = [*(arguments.predictions or ()), arguments.ground_truth]
    read = {pathlib.Path(path).resolve() for path in read if path}
    for option, path in (("--output", output), ("--report", page)):
        if path.is_dir():
            raise ValueError(f"{option} {path} is a folder; wanted the name of a file in it")
        if path.resolve() in read:
            raise ValueError(f"{option} {path} is read too; wanted another name")
    return output, page


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


def evaluate_model(
    arguments: argparse.Namespace, given: Mapping[str, Any], output: pathlib.Path
) -> Evaluated:
    """Evaluates a model as the command line says; writes its per-sample table.

    Raises:
      ValueError, OSError: bad input; the message is for the user.
    """
    loaded = load_named_model(arguments, given.get("mano"))
    hands = loaded.hands
    print(f"hands: {hands.name} ({hands.licence})")
    recipe = given or loaded.meta.get("config", {})
    folder, subset = _data_folder(arguments, recipe)
    split = arguments.split

    from input_pipeline.batches import eval_batches
    from input_pipeline.dataset import open_split

    names = open_split(folder, split, subset)
    size = min(arguments.examples or len(names), len(names))
    wanted = arguments.batch_size or recipe.get("evaluation", {}).get("batch_size", 64)
    devices = jax.local_device_count()
    batch_size = -(-min(wanted, size) // devices) * devices
    baseline, volumes = None, not arguments.no_volumes
    try:
        baseline = mean_hand(folder, hands, config=subset)
    except ValueError as error:
        print(f"note: no mean-hand baseline: {error}")
    evaluation = Evaluation(
        loaded.model, loaded.variables, hands, baseline=baseline, volumes=volumes
    )
    with tqdm(total=size, unit="image", desc="evaluating", dynamic_ncols=True) as bar:
        batches = eval_batches(folder, split, batch_size=batch_size, limit=size, config=subset)
        evaluation.run(batches, bar.update)
    columns = evaluation.scores.columns()
    who = [identity_row(names[number]) for number in columns["index"].tolist()]
    write_samples(output.with_name(f"{output.stem}_samples.csv"), columns, who)
    result = evaluation.result([row[IDENTITY.index("camera_name")] for row in who])
    result |= {"split": split, "step": loaded.meta.get("step")}
    data, count, scores = (folder, split, subset), arguments.pictures, evaluation.scores
    return Evaluated(
        result, scores, lambda: model_samples(scores, count, names, loaded, data, batch_size)
    )


def evaluate_predictions(
    arguments: argparse.Namespace, output: pathlib.Path
) -> dict[str, Evaluated]:
    """Scores files of predictions as the command line says; writes their per-sample tables.

    Raises:
      ValueError, OSError: bad input; the message is for the user.
    """
    hands = load_hands(arguments.mano)
    if not arguments.mano:
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
        volumes = not arguments.no_volumes
        with tqdm(total=len(table), unit="sample", desc=name, dynamic_ncols=True) as bar:
            scores = score_predictions(table, hands, volumes=volumes, progress=bar.update)
        columns, who = scores.columns(), None
        if table.sample_ids is not None:
            who = [identity_row(one) for one in table.sample_ids[columns["index"]].tolist()]
        write_samples(output.with_name(f"{output.stem}_{name}_samples.csv"), columns, who)
        shown = functools.partial(table_samples, scores, arguments.pictures, table, hands)
        found[name] = Evaluated(scores.report(), scores, shown)
    return found


def _write_page(
    arguments: argparse.Namespace, path: pathlib.Path, found: Mapping[str, Evaluated]
) -> str:
    """Writes the page if wanted; returns what the last line says of it."""
    if arguments.no_report:
        return ""
    try:
        from dir_jax.evaluation.page import write_report
    except ModuleNotFoundError as error:
        if arguments.report:
            raise
        return f"; no page to look at: {one_line(error)}"
    write_report(path, found)
    return f", to look at in {path}"


@command
def main(argv: list[str]) -> int:
    """Entry point of evaluate.py; returns the exit status."""
    begin = time.perf_counter()
    recipe_arguments, rest = split_recipe_arguments(argv)
    arguments, recipe = _parser().parse_args(rest), read_recipe(recipe_arguments)
    _check(arguments, recipe)
    output, page = _outputs(arguments)
    if arguments.predictions:
        found = evaluate_predictions(arguments, output)
    else:
        found = {"this model": evaluate_model(arguments, recipe, output)}
    results = {name: evaluated.result for name, evaluated in found.items()}
    content = next(iter(results.values())) if len(results) == 1 else {"predictions": results}
    write_evaluation(output, content)
    written = _write_page(arguments, page, found)
    print(f"\n{all_tables(results)}\n")
    samples = sum(result["samples"] for result in results.values())
    seconds = time.perf_counter() - begin
    print(f"{samples} samples in {seconds:.1f} s; all figures in {output}{written}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
