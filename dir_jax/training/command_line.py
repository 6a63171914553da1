"""Flags of train.py, and how its process behaves."""

from __future__ import annotations

import logging
import os
import sys
import warnings

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
    from absl import flags
    from ml_collections import config_flags

    values = flags.FlagValues()
    recipe = config_flags.DEFINE_config_file(
        "config",
        None,
        "Recipe, for example configs/quickstart.py.",
        flag_values=values,
        sys_argv=["train.py", *arguments],
    )
    workdir = flags.DEFINE_string("workdir", None, "Results go here.", flag_values=values)
    try:
        rest = values(["train.py", *arguments])[1:]
        problem = _problem(rest, recipe.value, workdir.value)
    except OSError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        problem = f"--config cannot be read: {lines[-1]}"
    except (AttributeError, KeyError) as error:
        name = str(error).strip("\"'")
        problem = f"the recipe has no field {name!r}; python train.py --help lists them"
    except (flags.Error, ValueError, TypeError, SyntaxError, ImportError) as error:
        problem = str(error).splitlines()[0]
    if problem:
        raise BadInputError(problem)
    return recipe.value, workdir.value


def _problem(rest: list[str], config, workdir: str | None) -> str:
    if rest:
        return f"{rest[0]!r} is not understood; wanted --config FILE --workdir DIR"
    if not hasattr(config, "to_dict"):
        return "--config is missing or not a recipe; for example --config configs/quickstart.py"
    if not workdir:
        return "--workdir is missing; results go there"
    return ""


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
