"""How fast the network is, in every variant, and beside the PyTorch code in the same run.

    python -m dir_jax.benchmark                                     # inference and training step
    python -m dir_jax.benchmark --variants all --batch 1 8
    python -m dir_jax.benchmark --reference CHECKOUT --json figures.json
    python -m dir_jax.benchmark --modes hands                       # the hand model alone
    python -m dir_jax.benchmark --update_budgets                    # tests/golden/budgets.json
    python -m dir_jax.benchmark --gpu_report OUT                    # all that a GPU is asked for

Everything in one table is run in turn, a round at a time, and medians are compared: on a machine
that others use as well only ratios from one run mean anything. Runs on whatever device JAX finds.
A form of the PyTorch code that fails is a row with the reason; figures are written as they come.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import sys
import time

import jax

from dir_jax.benchmark import competitors, hands, programs
from dir_jax.benchmark.measure import (
    Figures,
    fresh_cache,
    matrix_gflop_s,
    once,
    peak_bytes,
    progress,
    time_in_turn,
    xla_figures,
)
from dir_jax.benchmark.summary import network, operations
from dir_jax.compare import checkout
from dir_jax.evaluation.tables import text_table
from dir_jax.models.config import PRESETS
from dir_jax.models.network import DIR
from input_pipeline.commands import command
from input_pipeline.files import write_json
from mano_jax import load_hands

BATCHES, HAND_BATCHES = [8], [1, 64, 1024, 16_384]
FEW_HANDS = 1024
"""Up to here one call is so short that three times as many rounds are made."""
GIGA = 1e9


def _parser() -> argparse.ArgumentParser:
    names = "; ".join(f"{name}: {v.purpose}" for name, v in programs.VARIANTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m dir_jax.benchmark",
        description=__doc__.splitlines()[0],
        epilog=f"Variants: {names}.",
    )
    add, modes = parser.add_argument, (*programs.MODES, "hands")
    add("--variants", nargs="*", default=[], metavar="NAME", help="or all")
    add("--modes", nargs="+", default=list(programs.MODES), choices=modes)
    add("--batch", nargs="+", type=int, metavar="N", help="default: 8; of hands, 1 to 16,384")
    add("--repeats", type=int, default=5, help="rounds that count (default 5)")
    add("--model", default="released", choices=sorted(PRESETS))
    add("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="of the model")
    add("--mano", metavar="DIR", help="official hand files; else the open hand")
    add("--reference", metavar="CHECKOUT", help="the PyTorch code, run as well")
    add("--no_torch_compile", action="store_true", help="saves minutes")
    add("--json", metavar="FILE", help="write all figures, as they come")
    add("--update_budgets", action="store_true", help="store XLA's figures for the test of them")
    add("--gpu_report", metavar="OUT", help="write OUT.json and OUT.md: see docs/performance.md")
    return parser


def _check(arguments: argparse.Namespace) -> None:
    for name in ("repeats", "batch"):
        value = getattr(arguments, name)
        if value is not None and min(value if isinstance(value, list) else [value]) < 1:
            raise ValueError(f"--{name} is {value}; wanted 1 or more")
    for mode in programs.MODES:
        programs.choose(arguments.variants, mode)
    for name in ("json", "gpu_report"):
        folder = os.path.dirname(getattr(arguments, name) or "") or "."
        if not os.path.isdir(folder):
            raise ValueError(f"--{name}: there is no folder {folder}")
    if arguments.reference:
        if arguments.model != "released" or arguments.set:
            raise ValueError("--reference runs the released network; leave out --model and --set")
        checkout.usable(arguments.reference)


def measure(
    arguments: argparse.Namespace, model: DIR, mode: str, batch: int, cache: str
) -> Figures:
    """All figures of one mode and batch size.

    Returns:
      `variants` and `reference`: name to figures; `gflop_per_image`: of matrix products and
      convolutions of inference (`dir_jax.benchmark.summary`).
    """
    ours, results, runs = _our_programs(arguments, model, mode, batch)
    theirs: dict[str, Figures] = {}
    if arguments.reference:
        compiled = not arguments.no_torch_compile
        theirs = competitors.prepare(arguments.reference, model, mode, batch, compiled)
    times = time_in_turn(runs | theirs, arguments.repeats, may_fail=theirs.__contains__)
    for name, found in times.items():
        result = found.pop("result", None)
        if name in ours:
            ours[name] |= {key: value for key, value in found.items() if key != "first_s"}
        elif "failed" not in found:
            found["ours_over_theirs"] = times["default"]["seconds"] / found["seconds"]
            if mode == "forward":
                found["difference"] = programs.difference(results["default"], result)
    theirs = {name: times[name] for name in theirs}
    runs.clear()
    config = dataclasses.asdict(model.config)
    request = {"config": config, "mode": mode, "batch": batch, "mano": arguments.mano}
    progress(f"{mode}, batch {batch}: peak memory")
    ours["default"]["peak_bytes"] = peak_bytes(cache, request)
    for name, found in theirs.items():
        way, memory_format = name.split(" ")
        form = {"reference": arguments.reference, "memory_format": memory_format}
        measured = way == "eager" and "failed" not in found
        found["peak_bytes"] = peak_bytes(cache, request | form) if measured else None
    progress("")
    gflop = sum(operations(model).values()) / GIGA
    return {"variants": ours, "reference": theirs, "gflop_per_image": gflop}


def _our_programs(arguments: argparse.Namespace, model: DIR, mode: str, batch: int):
    """Of each variant the figures before it is timed, its result, and what runs it."""
    chosen = programs.choose(arguments.variants, mode)
    ours, results, runs = {}, {}, {}
    for name, variant in chosen.items():
        progress(f"{mode}, batch {batch}: compiling {name}")
        network = programs.variant_model(model.config, model.hands, variant)
        weights = programs.pseudo_variables(network)
        jax.clear_caches()
        seconds, program = once(
            functools.partial(programs.build, network, weights, variant, mode, batch)
        )
        results[name], runs[name] = program.result, program.run
        known = {"purpose": variant.purpose, "compile_s": seconds, "peak_bytes": None}
        ours[name] = known | xla_figures(program.compiled)
    for name, variant in chosen.items():
        # What this one's result must be, if that is being measured.
        equals = (n for n, v in chosen.items() if v.against == variant.against)
        against = next(equals) if variant.against else "default"
        comparable = results[against].keys() == results[name].keys()
        apart = programs.difference(results[name], results[against]) if comparable else None
        judged = apart is not None and variant.tolerance is not None and mode == "forward"
        agrees = apart <= variant.tolerance if judged else None
        ours[name] |= {"difference": apart, "agrees": agrees}
    return ours, results, runs


def contract(found: Figures) -> Figures:
    """The short form of one mode's results: ours, and PyTorch in its better memory format."""
    default = found["variants"]["default"]
    result = {
        "jax_s": default["seconds"],
        "jax_gflop_per_image": found["gflop_per_image"],
        "jax_compile_s": default["compile_s"],
        "jax_peak_bytes": default["peak_bytes"],
    }
    for way in ("eager", "compile"):
        forms = [form for name, form in found["reference"].items() if name.startswith(way)]
        runs = [form for form in forms if "failed" not in form]
        if runs:
            best = min(runs, key=lambda run: run["seconds"])
            result[f"torch_{way}_s"] = best["seconds"]
            if best["peak_bytes"] is not None:
                result[f"torch_{way}_peak_bytes"] = best["peak_bytes"]
        elif forms:
            result[f"torch_{way}_failed"] = forms[0]["failed"]
    return result


_SECONDS, _SMALL = "#.3g", ".1e"
_TIMES = {
    "seconds": ("seconds", 1, _SECONDS),
    "from": ("fastest_s", 1, _SECONDS),
    "to": ("slowest_s", 1, _SECONDS),
}
_VARIANTS = {
    **_TIMES,
    "compile s": ("compile_s", 1, _SECONDS),
    "XLA GFLOP": ("xla_flops", GIGA, ".2f"),
    "XLA GB": ("xla_bytes", GIGA, ".2f"),
    "peak GB": ("peak_bytes", GIGA, ".2f"),
    "difference": ("difference", 1, _SMALL),
}
_REFERENCE = {
    **_TIMES,
    "first run s": ("first_s", 1, _SECONDS),
    "peak GB": ("peak_bytes", GIGA, ".2f"),
    "ours / theirs": ("ours_over_theirs", 1, ".2f"),
}
_HANDS = {
    "ms": ("seconds", 1e-3, ".2f"),
    "times ours": ("times_ours", 1, ".1f"),
    "MB a call": ("bytes", 1e6, ".1f"),
    "difference": ("difference", 1, _SMALL),
}
"""Heading of a column to the key of its figure, the unit it is shown in, and how it is written."""


def table(title: str, rows: dict[str, Figures], columns: dict[str, tuple]) -> str:
    """A line for each row, and those that failed below with the reason."""
    lines = [["", *columns]]
    for name, found in rows.items():
        if "failed" not in found:
            cells = ((found[key], unit, form) for key, unit, form in columns.values())
            lines.append([name, *("-" if v is None else format(v / u, f) for v, u, f in cells)])
    failed = [f"{name}  failed: {f['failed']}" for name, f in rows.items() if "failed" in f]
    return "\n".join([title, text_table(lines), *failed])


def hands_table(rows: list[Figures]) -> str:
    """Hand layers: milliseconds and times ours, by batch and mode."""
    named = {f"{row['layer']}, {row['mode']}, batch {row['batch']}": row for row in rows}
    return table("hand model, right hand, float32", named, _HANDS)


def _print(mode: str, batch: int, found: Figures, most: float) -> None:
    print(table(f"{mode}, batch {batch}", found["variants"], _VARIANTS))
    if found["reference"]:
        print(table(f"{mode}, the PyTorch code", found["reference"], _REFERENCE))
    default, gflop = found["variants"]["default"], found["gflop_per_image"] * batch
    if mode == "train_step":
        gflop = (default["xla_flops"] or 0) / GIGA
    if gflop:
        rate = gflop / default["seconds"]
        share = f"{rate / most:.0%} of the {most:.0f} GFLOP/s of a large matrix product"
        print(f"roofline: {gflop:.1f} GFLOP = {rate:.0f} GFLOP/s, {share}")
    print()


def stamp() -> dict[str, str]:
    """When and on what the figures were measured."""
    device = jax.devices()[0]
    return {
        "time": time.strftime("%Y-%m-%d %H:%M:%S"),
        "jax": jax.__version__,
        "device": f"{device.platform} {device.device_kind}",
    }


def benchmark(arguments: argparse.Namespace) -> Figures:
    """Measures, prints and writes; returns all figures.

    Raises:
      ValueError: of the arguments; a checkout that is none.
    """
    pair = load_hands(arguments.mano)
    print(f"hands: {pair.name}")
    model = network(arguments.model, arguments.set, pair)
    result: Figures = stamp() | {"variants": {}, "batches": {}}

    def save() -> None:
        if arguments.json:
            write_json(arguments.json, result)

    with fresh_cache() as cache:
        result["matrix_gflop_s"] = matrix_gflop_s()
        batches = arguments.batch or BATCHES
        for batch in batches:
            for mode in (m for m in programs.MODES if m in arguments.modes):
                found = measure(arguments, model, mode, batch, cache)
                _print(mode, batch, found, result["matrix_gflop_s"])
                short = contract(found)
                result["batches"].setdefault(str(batch), {})[mode] = short | found
                if batch == batches[0]:
                    result[mode] = {"batch": batch, **short}
                    for name, figures in found["variants"].items():
                        result["variants"].setdefault(name, {})[mode] = figures
                save()
    if "hands" in arguments.modes:
        result["hands"] = []
        for batch in arguments.batch or HAND_BATCHES:
            repeats = arguments.repeats * (3 if batch <= FEW_HANDS else 1)
            rows = hands.compare(pair, arguments.reference, batch, repeats)
            print(hands_table(rows))
            result["hands"] += rows
            save()
    return result


@command
def main(argv: list[str]) -> int:
    """Runs the command; returns its exit status."""
    arguments = _parser().parse_args(argv)
    _check(arguments)
    if arguments.update_budgets:
        from dir_jax.benchmark import budgets

        return budgets.update()
    if arguments.gpu_report:  # has batches of its own
        from dir_jax.benchmark import gpu_report

        return gpu_report.write(arguments, stamp())
    result = benchmark(arguments)
    figures = [f for modes in result["variants"].values() for f in modes.values()]
    return 1 if any(f["agrees"] is False for f in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
