"""How fast the network is, in every variant, and beside the PyTorch code in the same run.

    python -m dir_jax.benchmark                                     # inference and training step
    python -m dir_jax.benchmark --variants all --batch 1 8
    python -m dir_jax.benchmark --reference CHECKOUT --json figures.json
    python -m dir_jax.benchmark --modes hands                       # the hand model alone

Everything in one table is run in turn, a round at a time, and medians are compared: on a machine
that others use as well only ratios from one run mean anything. Runs on whatever device JAX finds.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from dir_jax.benchmark import analysis, hand_layers, report, session, start_up, variants
from dir_jax.benchmark.summary import parse_fields
from dir_jax.models.config import PRESETS
from dir_jax.models.network import create_model
from dir_jax.weights.loading import load_hands
from input_pipeline.files import write_json

HAND_BATCHES = [1, 64, 1024]
ALL_MODES = (*variants.MODES, "hands", "start_up")


def _parser() -> argparse.ArgumentParser:
    names = "; ".join(f"{name}: {v.purpose}" for name, v in variants.VARIANTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m dir_jax.benchmark",
        description=__doc__.splitlines()[0],
        epilog=f"Variants: {names}.",
    )
    parser.add_argument("--variants", nargs="*", default=[], metavar="NAME", help="or all")
    parser.add_argument("--modes", nargs="+", default=list(variants.MODES), choices=ALL_MODES)
    parser.add_argument("--batch", nargs="+", type=int, default=[8], metavar="N")
    parser.add_argument("--repeats", type=int, default=5, help="rounds that count (default 5)")
    parser.add_argument("--model", default="released", choices=sorted(PRESETS))
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="of the model")
    parser.add_argument("--mano", metavar="DIR", help="official hand files; else the open hand")
    parser.add_argument("--reference", metavar="CHECKOUT", help="the PyTorch code, run as well")
    parser.add_argument("--no_torch_compile", action="store_true", help="saves minutes")
    parser.add_argument("--json", metavar="FILE", help="write all figures")
    return parser


def _check(arguments: argparse.Namespace) -> None:
    for name in ("repeats", "batch"):
        value = getattr(arguments, name)
        if min(value if isinstance(value, list) else [value]) < 1:
            raise ValueError(f"--{name} is {value}; wanted 1 or more")
    for mode in variants.MODES:
        variants.choose(arguments.variants, mode)
    folder = os.path.dirname(arguments.json or "") or "."
    if not os.path.isdir(folder):
        raise ValueError(f"--json: there is no folder {folder}")
    if arguments.reference and (arguments.model != "released" or arguments.set):
        raise ValueError("--reference runs the released network; leave out --model and --set")


def _network(plan: session.Plan, mode: str, batch: int, ceilings: dict[str, float]) -> dict:
    found = session.measure(plan, mode, batch)
    default = found["variants"]["default"]
    print(report.variants_table(mode, batch, found["variants"]))
    if found["reference"]:
        print(report.reference_table(mode, default["seconds"], found["reference"]))
    if mode == "forward":
        gflop = found["gflop_per_image"] * batch
    else:
        gflop = (default["xla_flops"] or 0) / report.GIGA
    if gflop:
        traffic = default["xla_bytes"]
        print(report.roofline(gflop, traffic, default["seconds"], ceilings))
    print()
    return found


def benchmark(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures and prints; returns all figures.

    Raises:
      ValueError: of the arguments; a checkout that is none.
    """
    _check(arguments)
    hands, notes = load_hands(arguments.mano)
    for note in notes:
        print(f"note: {note}")
    fields = parse_fields(arguments.set)
    model = create_model({"preset": arguments.model, **fields}, hands)
    result: dict[str, Any] = session.stamp() | {"variants": {}, "batches": {}}
    with analysis.fresh_cache() as cache:
        result["ceilings"] = ceilings = analysis.ceilings()
        plan = session.Plan(
            model=model,
            names=arguments.variants,
            repeats=arguments.repeats,
            reference=arguments.reference,
            torch_compile=not arguments.no_torch_compile,
            mano=arguments.mano,
            cache=cache,
        )
        for batch in arguments.batch:
            for mode in (m for m in variants.MODES if m in arguments.modes):
                found = _network(plan, mode, batch, ceilings)
                short = report.contract(found)
                result["batches"].setdefault(str(batch), {})[mode] = short | found
                if batch == arguments.batch[0]:
                    result[mode] = {"batch": batch, **short}
                    for name, figures in found["variants"].items():
                        result["variants"].setdefault(name, {})[mode] = figures
        if "start_up" in arguments.modes:
            result["start_up"] = start_up.measure(arguments.model, fields, arguments.batch[0])
            print(report.table(start_up.rows(result["start_up"])), end="\n\n")
    if "hands" in arguments.modes:
        rounds = 3 * arguments.repeats
        rows = hand_layers.compare(hands, arguments.reference, HAND_BATCHES, rounds)
        result["hands"] = rows
        print(report.hands_table(rows))
    return result


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    arguments = _parser().parse_args(argv)
    try:
        result = benchmark(arguments)
        if arguments.json:
            write_json(arguments.json, result)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    apart = [
        name
        for modes in result["variants"].values()
        for name, figures in modes.items()
        if figures["agrees"] is False
    ]
    return 1 if apart else 0


if __name__ == "__main__":
    sys.exit(main())
