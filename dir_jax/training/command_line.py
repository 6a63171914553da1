"""Flags of train.py, and how its process behaves."""

from __future__ import annotations

import logging
import os
import sys
import warnings

from configs.arguments import parse_recipe
from dir_jax.training.exits import BAD_INPUT, FINISHED, BadInputError


def parse(arguments: list[str], usage: str):
    """Reads `--config FILE [--config.x.y=v ...] --workdir DIR`, or says what is wrong with it.

    Args:
      arguments: without the program's name.
      usage: what --help prints before the fields.

    Returns:
      (config, workdir), or an exit code when there is nothing to run.
    """
    if {"--help", "-h", "-help"} & set(arguments):
        print(f"{usage.strip()}\n\nFields of a recipe, all of them in configs/base.py:\n")
        print(_fields())
        return FINISHED
    try:
        return read(arguments)
    except BadInputError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT


def read(arguments: list[str]) -> tuple:
    """The recipe with its overrides, and the work folder.

    Args:
      arguments: `--config FILE [--config.x.y=v ...] --workdir DIR`.

    Raises:
      BadInputError: what is not understood, in one line.
    """
    config, workdir, rest = parse_recipe(arguments)
    if rest:
        raise BadInputError(f"{rest[0]!r} is not understood; wanted --config FILE --workdir DIR")
    if not workdir:
        raise BadInputError("--workdir is missing; results go there")
    return config, workdir


def _fields() -> str:
    from configs.base import get_config
    from dir_jax.training.settings import flat, plain

    items = flat(plain(get_config()))
    return "\n".join(f"  --config.{name}={value}" for name, value in items.items())


def prepare_process() -> None:
    """Keeps libraries' chatter off the terminal; our own warnings are one line each."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # else it announces them, several times
    warnings.filterwarnings("ignore", category=FutureWarning, message=".*pmap.*")
    logging.basicConfig(level=logging.WARNING, format="warning: %(message)s", force=True)
    from absl import logging as absl_logging

    absl_logging.set_verbosity(absl_logging.ERROR)
