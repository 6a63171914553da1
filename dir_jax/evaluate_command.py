"""The command behind evaluate.py."""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
from tqdm import tqdm

from dir_jax.evaluation import evaluate, write_evaluation
from dir_jax.evaluation_pictures import draw_evaluation, draw_pck
from dir_jax.loading import Loaded, load_hands, load_model
from dir_jax.mean_hand import MeanHand, mean_hand
from dir_jax.predict_command import add_model_arguments
from dir_jax.prediction_tables import __doc__ as predictions_format
from dir_jax.prediction_tables import read_predictions
from dir_jax.result_tables import all_tables
from dir_jax.samples import Samples
from dir_jax.score_predictions import score_predictions


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
        default=4,
        metavar="N",
        help="draw the N worst, median and best samples of a model (default: 4; 0: none)",
    )
    parser.add_argument("--no_volumes", action="store_true", help="leave interpenetration out")
    return parser


def split_recipe_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separates `--config FILE` and `--config.x.y=v` from everything else.

    Returns:
      The recipe's arguments, then the rest.
    """
    recipe: list[str] = []
    rest: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        if argument == "--config" or (argument.startswith("--config.") and "=" not in argument):
            recipe += [argument, next(waiting, "")]
        elif argument.startswith(("--config=", "--config.")):
            recipe.append(argument)
        else:
            rest.append(argument)
    return recipe, rest


def read_recipe(arguments: Sequence[str]) -> dict[str, Any]:
    """The recipe named on the command line, overrides applied; {} when there is none.

    Raises:
      ValueError: no such file, or a field it does not have.
    """
    if not arguments:
        return {}
    from absl import flags
    from ml_collections import config_flags

    values = flags.FlagValues()
    recipe = config_flags.DEFINE_config_file("config", None, "recipe", flag_values=values)
    try:
        values(["evaluate.py", *arguments])
        if recipe.value is None:
            raise ValueError("--config.x=v needs --config FILE before it")
        return recipe.value.to_dict()
    except OSError:
        raise ValueError(f"--config: {arguments[1:2] or arguments} cannot be read") from None
    except (AttributeError, KeyError) as error:
        name = str(error).strip("\"'")
        raise ValueError(f"the recipe has no field {name!r}") from None
    except (flags.Error, TypeError, SyntaxError) as error:
        raise ValueError(str(error).splitlines()[0]) from None


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
        folder = os.path.join(arguments.workdir, "data")
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


def _evaluate_model(
    arguments: argparse.Namespace, given: Mapping[str, Any], output: pathlib.Path
) -> dict[str, Any]:
    loaded = load_model(
        workdir=arguments.workdir,
        checkpoint=arguments.checkpoint,
        torch_checkpoint=arguments.torch_checkpoint,
        mano=arguments.mano or given.get("mano"),
    )
    for note in loaded.notes:
        print(f"note: {note}")
    print(f"hands: {loaded.hands.name} ({loaded.hands.licence})")
    recipe = given or loaded.meta.get("config", {})
    folder, subset = _data_folder(arguments, recipe)

    from input_pipeline.batches import eval_batches, identities, split_size

    size = split_size(folder, arguments.split, config=subset)
    size = min(arguments.examples or size, size)
    wanted = arguments.batch_size or recipe.get("evaluation", {}).get("batch_size", 64)
    devices = jax.local_device_count()
    batch_size = -(-min(wanted, size) // devices) * devices
    baseline = _baseline(folder, subset, loaded)
    names = identities(folder, arguments.split, config=subset)
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
    if arguments.pictures:
        stem = str(output.with_suffix(""))
        where = (folder, arguments.split)
        draw_evaluation(stem, loaded, *where, samples.ranking(), arguments.pictures, subset)
    return result | {"split": arguments.split, "step": loaded.meta.get("step")}


def _evaluate_predictions(
    arguments: argparse.Namespace, output: pathlib.Path
) -> dict[str, dict[str, Any]]:
    hands, notes = load_hands(arguments.mano)
    if notes:
        print(
            "note: no MANO folder given: joints come from the open hand's regressor; figures of "
            "MANO meshes need --mano to be comparable with published ones"
        )
    print(f"hands: {hands.name} ({hands.licence})")
    # All files are checked before the first is scored.
    tables = [read_predictions(path, arguments.ground_truth) for path in arguments.predictions]
    results: dict[str, dict[str, Any]] = {}
    for table in tables:
        name = table.name
        while name in results:
            name += "'"
        with tqdm(total=len(table), unit="sample", desc=name, dynamic_ncols=True) as bar:
            results[name] = score_predictions(
                table,
                hands,
                volumes=not arguments.no_volumes,
                csv_path=output.with_name(f"{output.stem}_{name}_samples.csv"),
                progress=bar.update,
            )
    return results


def run(arguments: argparse.Namespace, recipe: Mapping[str, Any]) -> None:
    """Runs the parsed command.

    Raises:
      ValueError, OSError: bad input; the message is for the user.
    """
    begin = time.perf_counter()
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
    default = os.path.join(arguments.workdir or "", "evaluation.json")
    output = pathlib.Path(arguments.output or default)
    if arguments.predictions:
        results = _evaluate_predictions(arguments, output)
        content = next(iter(results.values())) if len(results) == 1 else {"predictions": results}
    else:
        content = _evaluate_model(arguments, recipe, output)
        results = {"this model": content}
    write_evaluation(output, content)
    draw_pck(output.with_name(f"{output.stem}_pck.png"), results)
    print(f"\n{all_tables(results)}\n")
    samples = sum(result["samples"] for result in results.values())
    print(f"{samples} samples in {time.perf_counter() - begin:.1f} s; all figures in {output}")


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
