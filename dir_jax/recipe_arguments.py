"""A recipe and its fields on the command lines of programs with arguments of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


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
