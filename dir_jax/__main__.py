"""All commands under one name: `dir-jax COMMAND ...`, or `python -m dir_jax COMMAND ...`.

`dir-jax train --config quickstart ...` is `python train.py --config configs/quickstart.py ...`, and
so on. A command's module is imported when it is called, so that none pays for what another needs.
"""

from __future__ import annotations

import gc
import importlib
import sys

import dir_jax
from input_pipeline.commands import command

COMMANDS = {
    "train": ("dir_jax.training.command", "trains a network from a recipe"),
    "evaluate": ("dir_jax.evaluation.command", "measures a model, or anyone's predictions"),
    "predict": ("dir_jax.prediction.command", "both hands in photographs and videos"),
    "demo": ("dir_jax.demo.__main__", "a page in the browser to try photographs on"),
    "convert": ("dir_jax.convert", "weights between PyTorch and Flax"),
    "compare": ("dir_jax.compare.__main__", "this code beside a checkout of the PyTorch code"),
    "benchmark": ("dir_jax.benchmark.__main__", "time and memory of every variant"),
    "summary": ("dir_jax.benchmark.summary", "weights and arithmetic by part"),
    "export": ("dir_jax.export", "inference as a file that runs without this code"),
    "synthesize": ("input_pipeline.synthesize", "photographs of hands in InterHand2.6M's layout"),
    "check": ("input_pipeline.check", "what a copy of InterHand2.6M holds and lacks"),
    "prepare": ("input_pipeline.prepare", "raw photographs to what training reads"),
}
"""Name: (module with a `main`, what it does)."""

COLLECT_EVERY = 10_000
"""New objects after which Python looks for unreachable ones. Imports and tracing make millions that
stay; looking through them at Python's 700 took a tenth of `predict.py`'s time for one photo."""


@command
def main(arguments: list[str]) -> int:
    """Runs a command; returns its exit status."""
    name, *rest = arguments or ["--help"]
    if name in ("--help", "-h"):
        print(usage())
        return 0
    if name == "--version":
        print(dir_jax.__version__)
        return 0
    if name not in COMMANDS:
        raise ValueError(f"unknown command {name!r}; wanted one of {', '.join(COMMANDS)}")
    gc.set_threshold(COLLECT_EVERY)
    sys.argv[0] = f"dir-jax {name}"  # what --help and argparse's errors call the program
    return importlib.import_module(COMMANDS[name][0]).main(rest)


def usage() -> str:
    """What --help prints."""
    lines = (f"  {name:<12}{does}" for name, (_, does) in COMMANDS.items())
    return "\n".join(
        ["usage: dir-jax COMMAND ...   (--help after a command names its options)", "", *lines]
    )


if __name__ == "__main__":
    sys.exit(main())
