"""The command behind evaluate.py."""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
import time
from collections.abc import Mapping
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax

from configs.arguments import read_recipe, split_recipe_arguments
from dir_jax.evaluation.predictions import __doc__ as predictions_format
from dir_jax.evaluation.runner import write_evaluation
from dir_jax.evaluation.sources import Evaluated, evaluate_model, evaluate_predictions
from dir_jax.evaluation.tables import all_tables
from dir_jax.weights.loading import add_model_arguments
from dir_jax.weights.workdir import EVALUATION_FILE
from input_pipeline.commands import one_line


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="evaluate.py",
        description="Measures reconstructions of two hands under every protocol of the field.",
        epilog=predictions_format + "\nA recipe's fields can be set for a model's evaluation: "
        "--config FILE --config.data.dir=DATA.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_arguments(parser)
    parser.add_argument(
        "--predictions", nargs="+", metavar="P.npz", help="instead of a model: anyone's predictions"
    )
    parser.add_argument("--ground_truth", metavar="G.npz", help="ground truth of --predictions")
    parser.add_argument("--data", metavar="DATA", help="prepared data (default: the recipe's)")
    parser.add_argument("--split", default="test", help="train, val or test (default: test)")
    parser.add_argument("--examples", type=int, default=0, help="only the first N (default: all)")
    parser.add_argument("--batch_size", type=int, default=0, help="default: the recipe's, or 64")
    parser.add_argument(
        "--output", metavar="FILE", help="default: evaluation.json in the workdir, or here"
    )
    parser.add_argument(
        "--pictures",
        type=int,
        default=8,
        metavar="N",
        help="show the N worst, median and best samples (default: 8; 0: none)",
    )
    parser.add_argument(
        "--report", metavar="FILE", help="default: evaluation.html beside evaluation.json"
    )
    parser.add_argument("--no_report", action="store_true", help="no page to look at")
    parser.add_argument("--no_volumes", action="store_true", help="leave interpenetration out")
    return parser


_PROCESS_COUNTS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
"""How srun and mpirun tell each process how many there are."""


def check_alone(recipe: Mapping[str, Any]) -> None:
    """Refuses to be one of several processes, which would all write the same files.

    Raises:
      ValueError: there are several.
    """
    counts = [int(recipe.get("parallel", {}).get("processes", 1)), jax.process_count()]
    counts += [int(value) for name in _PROCESS_COUNTS if (value := os.environ.get(name, "1"))]
    if max(counts) > 1:
        raise ValueError(
            f"started as {max(counts)} processes; wanted one: evaluation uses all devices of one "
            "machine (start evaluate.py without srun or mpirun, parallel.processes=1)"
        )


def run(arguments: argparse.Namespace, recipe: Mapping[str, Any]) -> None:
    """Runs the parsed command.

    Raises:
      ValueError, OSError: bad input; the message is for the user.
    """
    begin = time.perf_counter()
    check_alone(recipe)
    for name in ("examples", "batch_size", "pictures"):
        if getattr(arguments, name) < 0:
            raise ValueError(f"--{name} is {getattr(arguments, name)}; wanted 0 or more")
    sources = ("workdir", "checkpoint", "torch_checkpoint", "predictions")
    given = [f"--{name}" for name in sources if getattr(arguments, name)]
    if len(given) != 1:
        raise ValueError(
            f"{' and '.join(given) or 'nothing'} given; wanted one of "
            + ", ".join(f"--{name}" for name in sources)
        )
    default = os.path.join(arguments.workdir or "", EVALUATION_FILE)
    output = pathlib.Path(arguments.output or default)
    if arguments.predictions:
        found = evaluate_predictions(arguments, output)
    else:
        found = {"this model": evaluate_model(arguments, recipe, output)}
    results = {name: evaluated.result for name, evaluated in found.items()}
    content = next(iter(results.values())) if len(results) == 1 else {"predictions": results}
    write_evaluation(output, content)
    page = _write_page(arguments, output, found)
    print(f"\n{all_tables(results)}\n")
    samples = sum(result["samples"] for result in results.values())
    seconds = time.perf_counter() - begin
    print(f"{samples} samples in {seconds:.1f} s; all figures in {output}{page}")


def _write_page(
    arguments: argparse.Namespace, output: pathlib.Path, found: Mapping[str, Evaluated]
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
    page = pathlib.Path(arguments.report or output.with_suffix(".html"))
    write_report(page, found)
    return f", to look at in {page}"


def main(argv: list[str] | None = None) -> int:
    """Entry point of evaluate.py; returns the exit status."""
    recipe, rest = split_recipe_arguments(sys.argv[1:] if argv is None else argv)
    arguments = _parser().parse_args(rest)
    try:
        run(arguments, read_recipe(recipe))
    except (ValueError, OSError, RuntimeError) as error:  # RuntimeError: unreadable examples
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0
