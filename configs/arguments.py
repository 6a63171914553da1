"""Reading `--config FILE` and its fields from a command line, the same way for every program."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ml_collections import ConfigDict


class BadInputError(ValueError):
    """What the user gave does not work; the message says what was wanted."""


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


def parse_recipe(arguments: Sequence[str]) -> tuple[ConfigDict, str | None, list[str]]:
    """Reads `--config FILE[:ARGUMENT] [--config.x.y=v ...] [--workdir DIR]`.

    A recipe of this folder may be named without folder and ending: `--config ablation:graph`.

    Returns:
      The recipe with its fields set, the work folder (None when none is named), and what is
      neither a flag nor a flag's value.

    Raises:
      BadInputError: no recipe, no such file, or a field it does not have; one line.
    """
    from absl import flags
    from ml_collections import config_flags

    command = ["program", *_with_files(arguments)]  # absl leaves the first out
    values = flags.FlagValues()
    recipe = config_flags.DEFINE_config_file(
        "config", None, "Recipe.", flag_values=values, sys_argv=command
    )
    workdir = flags.DEFINE_string("workdir", None, "Results go here.", flag_values=values)
    try:
        rest = values(command)[1:]
        if hasattr(recipe.value, "to_dict"):
            return recipe.value, workdir.value, rest
        problem = "--config is missing or not a recipe; for example --config configs/quickstart.py"
    except Exception as error:  # a recipe is a program: it may raise whatever it likes
        problem = _problem(error)
    raise BadInputError(problem)


def read_recipe(arguments: Sequence[str]) -> dict[str, Any]:
    """The recipe named on the command line, overrides applied; {} when there is none.

    Raises:
      BadInputError: no such file, or a field it does not have.
    """
    return parse_recipe(arguments)[0].to_dict() if arguments else {}


def _with_files(arguments: Sequence[str]) -> list[str]:
    """The arguments, with the file of a recipe of this folder that is given by its name."""
    found = list(arguments)
    for place, argument in enumerate(found):
        if argument.startswith("--config="):
            found[place] = "--config=" + _file(argument.removeprefix("--config="))
        elif place and found[place - 1] == "--config":
            found[place] = _file(argument)
    return found


def _file(recipe: str) -> str:
    name, colon, argument = recipe.partition(":")
    file = Path(__file__).parent / f"{name}.py"
    return f"{file}{colon}{argument}" if name.isidentifier() and file.is_file() else recipe


def _problem(error: Exception) -> str:
    """What went wrong with a recipe or a field of it, in one line."""
    lines = [line.strip() for line in str(error).replace("\\n", "\n").splitlines() if line.strip()]
    first, last = (lines[0], lines[-1]) if lines else (type(error).__name__,) * 2
    if isinstance(error, OSError):
        names = {path.stem for path in Path(__file__).parent.glob("*.py")}
        shipped = ", ".join(sorted(names - {"__init__", "arguments", "base"}))
        return f"--config cannot be read: {last}; the shipped recipes are {shipped}"
    if first.endswith("Error whilst parsing config file:"):
        return f"--config cannot be used: {last.removeprefix('ValueError: ')}"
    if "has no attribute 'get_config'" in first:
        return "--config is not a recipe: it has no get_config(); see configs/quickstart.py"
    if isinstance(error, AttributeError | KeyError):
        # A KeyError's text is quoted, once or twice; a locked ConfigDict names all fields it has.
        named = re.match(r"""["'\\]*Key ["'\\]+(.+?)["'\\]+ does not exist""", first)
        name = named[1] if named else first.strip("\"'\\")
        return f"the recipe has no field {name!r}; python train.py --help lists them"
    return first
