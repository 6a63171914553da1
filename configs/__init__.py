"""Training recipes: one small file each, read with `--config configs/NAME.py`.

Here is what reads `--config FILE` and its fields from a command line, for every program alike.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from flax import traverse_util
from ml_collections import ConfigDict

from configs.base import FIELDS, check, flat

MISSING = "--config is missing or not a recipe; for example --config configs/quickstart.py"
_NO_RECIPES = {"__init__", "base"}


def split_recipe_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separates `--config FILE` and `--config.x.y=v` from everything else.

    Returns:
      The recipe's arguments, then the rest.
    """
    recipe: list[str] = []
    rest: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        if not argument.startswith("--config.") and argument.partition("=")[0] != "--config":
            rest.append(argument)
        elif "=" in argument:
            recipe.append(argument)
        else:
            recipe += [argument, next(waiting, "")]
    return recipe, rest


def read_recipe(arguments: Sequence[str]) -> ConfigDict:
    """The recipe that `--config FILE[:ARGUMENT] [--config.x.y=v ...]` name, checked as a whole.

    A recipe of this folder may be named without folder and ending: `--config ablation:graph`.

    Returns:
      Every field of `configs.base.FIELDS`; an empty recipe of no arguments.

    Raises:
      ValueError: no such file, a field it does not have, or a value that cannot work; one line.
    """
    source, values = "", {}
    waiting = iter(arguments)
    for argument in waiting:
        name, separator, text = argument.partition("=")
        text = text if separator else next(waiting)
        if name == "--config":
            source = text
        else:
            values[name.removeprefix("--config.")] = text
    if not source:
        if not values:
            return ConfigDict()
        raise ValueError(MISSING)
    fields = flat(_load(source)) | {name: _value(name, text) for name, text in values.items()}
    config = ConfigDict(traverse_util.unflatten_dict(fields, sep=".")).lock()
    check(config)
    return config


def _value(name: str, text: str) -> Any:
    """A field's value from its text; what cannot be understood stays text, which `check` names."""
    if name not in FIELDS or isinstance(default := FIELDS[name].default, str):
        return text
    if isinstance(default, bool):
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    try:
        value = ast.literal_eval(text.strip())
    except Exception:  # Python's parser and its limits raise several kinds
        return text
    if isinstance(default, tuple):
        return tuple(value) if isinstance(value, list) else value
    return float(value) if isinstance(default, float) and type(value) is int else value


def _load(source: str) -> Mapping[str, Any]:
    """What a recipe's file gives, a program that may do whatever it likes.

    Raises:
      ValueError: it cannot be read, or gives no recipe.
    """
    name, colon, argument = source.partition(":")
    shipped = {path.stem: path for path in Path(__file__).parent.glob("*.py")}
    for other in _NO_RECIPES:
        shipped.pop(other)
    file = shipped.get(name, Path(name))
    try:
        module = ModuleType("recipe")
        SourceFileLoader("recipe", str(file)).exec_module(module)
        if not hasattr(module, "get_config"):
            raise ValueError("it has no get_config(); see configs/quickstart.py")
        config = module.get_config(*([argument] if colon else []))
    except OSError as error:
        raise ValueError(
            f"--config cannot be read: {file}: {error.strerror or error}; the shipped recipes are "
            f"{', '.join(sorted(shipped))}"
        ) from None
    except (Exception, SystemExit) as error:
        raise ValueError(f"--config {file} cannot be used: {_reason(error)}") from error
    if not isinstance(config, ConfigDict | Mapping):
        raise ValueError(
            f"--config {file} is not a recipe: its get_config() gives a {type(config).__name__}, "
            "not the ConfigDict of configs.base.get_config() with what differs"
        )
    return config


def _reason(error: BaseException) -> str:
    """What went wrong in a recipe, in one line."""
    text = " ".join(str(error).split())
    if locked := re.match(r"""["'\\]*Key ["'\\]+(.+?)["'\\]+ does not exist""", text):
        return f"the recipe has no field {locked[1]!r}; python train.py --help lists them"
    text = text if len(text) <= 300 else f"{text[:300]} ..."
    if isinstance(error, ValueError):
        return text
    return f"{type(error).__name__}{text and f': {text}'}"
