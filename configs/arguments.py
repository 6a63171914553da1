"""A recipe and its fields on the command lines of programs with arguments of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dir_jax.training.exits import BadInputError

if TYPE_CHECKING:
    from ml_collections import ConfigDict


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
    """Reads `--config FILE [--config.x.y=v ...] [--workdir DIR]`.

    Returns:
      The recipe with its fields set, the work folder (None when none is named), and what is
      neither a flag nor a flag's value.

    Raises:
      BadInputError: no recipe, no such file, or a field it does not have; one line.
    """
    from absl import flags
    from ml_collections import config_flags

    command = ["program", *arguments]  # absl leaves the first out
    values = flags.FlagValues()
    recipe = config_flags.DEFINE_config_file(
        "config",
        None,
        "Recipe, for example configs/quickstart.py.",
        flag_values=values,
        sys_argv=command,
    )
    workdir = flags.DEFINE_string("workdir", None, "Results go here.", flag_values=values)
    try:
        rest = values(command)[1:]
        if hasattr(recipe.value, "to_dict"):
            return recipe.value, workdir.value, rest
        problem = "--config is missing or not a recipe; for example --config configs/quickstart.py"
    except OSError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        problem = f"--config cannot be read: {lines[-1]}"
    except (AttributeError, KeyError) as error:
        # A KeyError's text is quoted, once or twice, with a proposal on a second line.
        name = str(error).replace("\\n", "\n").splitlines()[0].strip("\"'\\")
        problem = f"the recipe has no field {name!r}; python train.py --help lists them"
    except (flags.Error, ValueError, TypeError, SyntaxError, ImportError) as error:
        problem = str(error).splitlines()[0]
    raise BadInputError(problem)


def read_recipe(arguments: Sequence[str]) -> dict[str, Any]:
    """The recipe named on the command line, overrides applied; {} when there is none.

    Raises:
      BadInputError: no such file, or a field it does not have.
    """
    return parse_recipe(arguments)[0].to_dict() if arguments else {}
