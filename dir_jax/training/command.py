"""Trains DIR.

    python train.py --config configs/quickstart.py --workdir DIR [--config.group.field=value ...]

Leaves in DIR: config.json, checkpoints/, metrics.jsonl, validation.jsonl, tensorboard/,
evaluation.json and pictures/. The same command resumes from the last checkpoint.

Exit codes: 0 finished, 1 failed, 2 bad input, 70 a fault of this program, 75 stopped by SIGTERM or
SIGINT (everything saved).
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from configs import MISSING, read_recipe, split_recipe_arguments
from configs.base import describe_fields
from input_pipeline.commands import command, report

if TYPE_CHECKING:
    from ml_collections import ConfigDict


@command
def main(arguments: list[str]) -> int:
    """Runs the command; returns its exit status."""
    if {"--help", "-h", "-help"} & set(arguments):
        print(f"{__doc__.strip()}\n\nFields of a recipe (configs/base.py):\n\n{describe_fields()}")
        return 0
    config, workdir = parse(arguments)
    prepare_process()
    from dir_jax.training import interruptions
    from dir_jax.training.run import train

    if config.parallel.coordinator and not interruptions.is_watched():
        return interruptions.watch_over([sys.executable, *sys.orig_argv[1:]])
    if interruptions.is_watched():
        interruptions.die_with_parent()
    try:
        return train(config, workdir)
    except Exception as error:
        if not interruptions.has_peers():
            raise
        interruptions.exit_now(report(error))  # returning would wait for peers, perhaps for ever


def parse(arguments: list[str]) -> tuple[ConfigDict, Path]:
    """Reads `--config FILE [--config.x.y=v ...] --workdir DIR`.

    Returns:
      The recipe with its overrides, and the work folder.

    Raises:
      ValueError: what is not understood, in one line.
    """
    recipe, rest = split_recipe_arguments(arguments)
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--workdir")
    try:
        options, rest = parser.parse_known_args(rest)
    except argparse.ArgumentError as error:
        raise ValueError(str(error)) from None
    if rest:
        raise ValueError(f"{rest[0]!r} is not understood; wanted --config FILE --workdir DIR")
    config = read_recipe(recipe)
    if not config:
        raise ValueError(MISSING)
    if not options.workdir:
        raise ValueError("--workdir is missing; results go there")
    return config, Path(options.workdir)


def prepare_process() -> None:
    """Keeps libraries' chatter off the terminal; our own warnings are one line each."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # else it announces them, several times
    warnings.filterwarnings("ignore", category=FutureWarning, message=".*pmap.*")
    logging.basicConfig(level=logging.WARNING, format="warning: %(message)s", force=True)
    from absl import logging as absl_logging

    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    absl_logging.set_verbosity(absl_logging.ERROR)
