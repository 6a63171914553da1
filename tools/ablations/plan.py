"""Which runs a comparison of recipes needs, checked before the first of them starts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

import dir_jax
from dir_jax.evaluation.published import ABLATION_TABLES, ABLATIONS
from dir_jax.training import settings
from dir_jax.training.command_line import read
from dir_jax.training.exits import BadInputError
from dir_jax.weights.workdir import CONFIG_FILE, DATA_FOLDER

ROOT = Path(dir_jax.__file__).parent.parent
CONFIGS = ROOT / "configs"
SMALL = "ablation_small"
QUIET = ("--config.evaluation.pictures=0",)
"""Set for every run unless the user says otherwise: dozens of runs need no pictures each."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One training run.

    Attributes:
      recipe: its name.
      seed: of weights, order and augmentation.
      workdir: of the run.
      arguments: of train.py.
      config: all fields, as plain data.
    """

    recipe: str
    seed: int
    workdir: Path
    arguments: tuple[str, ...] = dataclasses.field(repr=False)
    config: Mapping[str, Any] = dataclasses.field(repr=False, hash=False)

    def __str__(self) -> str:
        return f"{self.recipe} seed {self.seed}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """All runs of a comparison.

    Attributes:
      jobs: in the order in which they run: all recipes with the first seed come first.
      trained_as: the recipe that stands for each of the requested ones; recipes that are equal in
        every field (row 8 and T = 2) are trained once.
      seeds: of every recipe.
      config: the first recipe, which decides on the data.
    """

    jobs: tuple[Job, ...]
    trained_as: Mapping[str, str]
    seeds: tuple[int, ...]
    config: ConfigDict

    def workdirs(self, recipe: str) -> dict[int, Path]:
        """Work folders of a requested recipe by seed."""
        name = self.trained_as[recipe]
        return {job.seed: job.workdir for job in self.jobs if job.recipe == name}


def recipe_names(requested: Sequence[str]) -> list[str]:
    """Recipes by name, or by the table of the paper they stand in; nothing: those of all tables.

    Raises:
      BadInputError: there is no such recipe.
    """
    names: list[str] = []
    for name in requested or list(ABLATION_TABLES):
        found = [row.recipe for row in ABLATIONS if row.table == name]
        if not found and not (CONFIGS / f"{name}.py").is_file():
            known = sorted(path.stem for path in CONFIGS.glob("ablation_*.py"))
            raise BadInputError(
                f"there is no recipe {name!r}; wanted a file of configs/ without .py, such as "
                f"{', '.join(known)}, or a table: {', '.join(ABLATION_TABLES)}"
            )
        names += found or [name]
    return list(dict.fromkeys(names))


def make_plan(
    recipes: Sequence[str],
    seeds: Sequence[int],
    workdir: Path,
    overrides: Sequence[str] = (),
    small: bool = False,
) -> Plan:
    """Lists the runs.

    Args:
      recipes: names as from `recipe_names`.
      seeds: one run of each recipe for every seed.
      workdir: of the comparison; runs go to WORKDIR/runs/RECIPE/seed_N.
      overrides: `--config.x.y=v`, for all runs.
      small: make every recipe small (configs/ablation_small.py).

    Raises:
      BadInputError: an override that no recipe has, recipes that cannot share their data, or a
        work folder that holds other runs.
    """
    _check_request(seeds, overrides)
    standard = list(dict.fromkeys(row.recipe for row in ABLATIONS))
    ordered = [name for name in standard if name not in (SMALL,)]
    ordered += [name for name in recipes if name not in ordered]
    configs = {name: _read(_arguments(name, small, overrides, workdir)) for name in ordered}
    first_of: dict[str, str] = {}
    trained_as = {
        name: first_of.setdefault(_content(config), name) for name, config in configs.items()
    }
    trained_as = {name: trained_as[name] for name in recipes}
    needed = list(dict.fromkeys(trained_as.values()))
    _check_data([(name, configs[name]) for name in needed])
    config = configs[needed[0]].copy_and_resolve_references()
    data = config.data.dir or str(workdir / DATA_FOLDER)
    jobs = []
    for seed in seeds:
        for name in needed:
            folder = workdir / "runs" / name / f"seed_{seed}"
            fixed = (f"--config.seed={seed}", f"--config.data.dir={data}")
            arguments = _arguments(name, small, [*overrides, *fixed], folder)
            plain = settings.plain(_read(arguments))
            _check_earlier(folder, plain)
            jobs.append(Job(name, seed, folder, tuple(arguments), plain))
    return Plan(tuple(jobs), trained_as, tuple(seeds), config)


def _check_request(seeds: Sequence[int], overrides: Sequence[str]) -> None:
    if len(set(seeds)) < len(seeds):
        raise BadInputError(f"--seeds names one twice: {' '.join(map(str, seeds))}")
    if any(text.split("=")[0] == "--config.seed" for text in overrides):
        raise BadInputError("--config.seed is set by --seeds; leave it out")


def _arguments(name: str, small: bool, overrides: Sequence[str], folder: Path) -> list[str]:
    file = f"{CONFIGS / SMALL}.py:{name}" if small else f"{CONFIGS / name}.py"
    return ["--config", file, "--workdir", str(folder), *QUIET, *overrides]


def _read(arguments: Sequence[str]) -> ConfigDict:
    config, _ = read(list(arguments))
    settings.check_values(config)
    return config


def _content(config: ConfigDict) -> str:
    """Equal for recipes that compute the same."""
    fields = settings.flat(settings.plain(config))
    return json.dumps({k: v for k, v in fields.items() if not settings.is_free(k)}, sort_keys=True)


def _check_data(configs: Sequence[tuple[str, ConfigDict]]) -> None:
    """All runs share one data folder, so their recipes must want the same data."""

    def wanted(config: ConfigDict) -> dict[str, Any]:
        fields = settings.flat(settings.plain(config.data))
        own = {f"data.{k}": v for k, v in fields.items() if not k.startswith("augment")}
        return own | {"mano": config.mano}

    first_name, first = configs[0]
    for name, config in configs[1:]:
        other = wanted(config)
        for field, value in wanted(first).items():
            if other[field] != value:
                raise BadInputError(
                    f"{first_name} and {name} cannot share their data: {field} is {value} "
                    f"and {other[field]}; set it for all with --config.{field}=..."
                )


def _check_earlier(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuses to mix runs with different settings in one comparison."""
    path = folder / CONFIG_FILE
    if path.is_file():
        settings.check_fits(config, settings.read_config(folder), folder)
