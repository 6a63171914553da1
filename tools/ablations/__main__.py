"""Trains recipes with several seeds and prints tables in the paper's form.

    python -m tools.ablations --small --seeds 0 1 2 --workdir DIR
    python -m tools.ablations --recipes parts --workdir DIR --config.data.dir=DATA --devices 0 1 2
    python -m tools.ablations --recipes ablation_t1 ablation_t3 --workdir DIR ...

Leaves DIR/ablations.md, DIR/ablations.json and DIR/runs/RECIPE/seed_N, each a run of train.py. The
same command goes on: finished runs are kept, one that was stopped goes on from its checkpoint.

Exit codes: 0 all runs finished, 1 some failed (the tables show the others), 2 bad input, 75
stopped by SIGTERM or SIGINT (everything saved).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.arguments import split_recipe_arguments
from dir_jax.training.command_line import prepare_process
from dir_jax.training.exits import BAD_INPUT, FAILED, FINISHED, RunError
from dir_jax.training.stop import StopRequest
from input_pipeline.files import write_bytes, write_json
from tools.ablations import report, runs
from tools.ablations.comparison import Values, errors_of
from tools.ablations.plan import Plan, make_plan, recipe_names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.ablations",
        description=__doc__,
        epilog="Any field of the recipes can be set for all runs: --config.train.steps=1000.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--recipes",
        nargs="+",
        default=[],
        metavar="NAME",
        help="files of configs/ without .py, or tables: parts, row1, stages (default: all three)",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N")
    parser.add_argument("--workdir", required=True, metavar="DIR")
    parser.add_argument(
        "--small", action="store_true", help="at the quick start's size, on synthesised photographs"
    )
    parser.add_argument(
        "--devices",
        nargs="+",
        default=[],
        metavar="D",
        help="one run at a time on each of these GPUs (numbers; or cpu); default: one after the "
        "other, each on all devices",
    )
    parser.add_argument(
        "--no_training", action="store_true", help="only the tables of what is finished"
    )
    return parser


def collect(plan: Plan, recipes: Sequence[str]) -> tuple[dict[str, Values], list[str]]:
    """Errors of all finished runs by requested recipe, and the names of the others."""
    found = {(job.recipe, job.seed): runs.evaluation(job) for job in plan.jobs}
    values: dict[str, Values] = {}
    for recipe in recipes:
        own = {seed: found[plan.trained_as[recipe], seed] for seed in plan.seeds}
        values[recipe] = {seed: errors_of(result) for seed, result in own.items() if result}
    return values, [str(job) for job in plan.jobs if not found[job.recipe, job.seed]]


def about(plan: Plan, arguments: argparse.Namespace, overrides: Sequence[str]) -> dict[str, str]:
    """What the tables' figures are figures of."""
    results = [result for job in plan.jobs if (result := runs.evaluation(job))]
    config = plan.config
    length = (
        f"{config.train.steps} steps" if config.train.steps else f"{config.train.epochs} epochs"
    )
    text = {
        "seeds": " ".join(map(str, plan.seeds)),
        "recipes": "at the quick start's size (configs/ablation_small.py)"
        if arguments.small
        else "as in configs/",
        "training": f"{length} of {config.train.batch_size} images",
        "data": config.data.dir
        or f"{config.data.synthesize_train} synthesised photographs, "
        f"{config.data.synthesize_test} others to test",
    }
    if overrides:
        text["set for all"] = " ".join(overrides)
    if results:
        first = results[0]
        text["measured"] = (
            f"wrist_scaled on the split test, {first['wrist_scaled']['samples']} samples, "
            f"hands: {first.get('hands')}; mean ± standard deviation over the seeds"
        )
        mean = (first.get("baseline_mean_hand") or {}).get("wrist_scaled")
        if mean:
            text["always the mean hand"] = f"MPJPE {mean['mpjpe_mm']:.2f} mm"
    return text


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Runs the parsed command; returns its exit status.

    Raises:
      ValueError, OSError: bad input; the message is for the user.
      RunError: no data could be made.
    """
    workdir = Path(arguments.workdir).expanduser().absolute()
    for device in arguments.devices:
        runs.device_environment(device)
    recipes = recipe_names(arguments.recipes)
    plan = make_plan(recipes, arguments.seeds, workdir, overrides, arguments.small)
    for name, stand_in in plan.trained_as.items():
        if name != stand_in:
            print(f"note: {name} is {stand_in} with these settings: one training serves both")
    if not arguments.no_training:
        _train(plan, workdir, arguments.devices)
    values, missing = collect(plan, recipes)
    notes = about(plan, arguments, overrides)
    text = report.markdown(values, notes, missing)
    write_json(workdir / "ablations.json", report.as_json(values, notes, missing))
    write_bytes(workdir / "ablations.md", text.encode())
    print(f"\n{text}\nwritten to {workdir / 'ablations.md'} and ablations.json")
    return FAILED if missing else FINISHED


def _train(plan: Plan, workdir: Path, devices: Sequence[str]) -> None:
    """Makes the data that all runs share, then runs what is not finished."""
    from dir_jax.training.data import find_data

    def say(text: str) -> None:
        print(text, flush=True)

    runner = runs.Runner(devices, say)
    workdir.mkdir(parents=True, exist_ok=True)
    with StopRequest() as stop:
        stop.on_leave(runner.stop)
        data = find_data(plan.config, workdir, stop)
        sizes = ", ".join(f"{count} {split}" for split, count in data.sizes.items())
        say(f"{len(plan.jobs)} runs on {sizes} examples in {data.folder}")
        runner.run(plan.jobs)


def main(argv: list[str] | None = None) -> int:
    """Entry point of `python -m tools.ablations`; returns the exit status."""
    overrides, rest = split_recipe_arguments(sys.argv[1:] if argv is None else argv)
    arguments = _parser().parse_args(rest)
    prepare_process()
    try:
        return run(arguments, overrides)
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
