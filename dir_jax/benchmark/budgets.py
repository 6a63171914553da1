"""XLA's own figures of the network's programs, stored: a slower program is noticed on any machine.

Nothing is run or timed, so nothing can flake: of a tiny network, inference in every variant and the
whole training step are compiled, and XLA's counts compared with those in tests/golden/budgets.json.
The test of them fails when one grew by more than 3 %; `python -m dir_jax.benchmark
--update_budgets` stores new ones. They hold for one version of jax, whose compiler makes them.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator

import jax

from dir_jax.benchmark.measure import progress, xla_figures
from dir_jax.benchmark.programs import (
    VARIANTS,
    compile_program,
    pseudo_variables,
    variant_model,
)
from dir_jax.models.config import TINY
from input_pipeline.files import write_json
from mano_jax import open_hands

FILE = pathlib.Path(__file__).parents[2] / "tests" / "golden" / "budgets.json"
FIGURES = ("xla_flops", "xla_bytes", "xla_temporary_bytes", "xla_fusions")
GROWTH = 0.03
QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    # Later versions' XLA has no such option.
    **({"xla_cpu_use_fusion_emitters": False} if jax.__version_info__ < (0, 12) else {}),
}
"""The figures are of XLA's own program; the machine's code behind it may be as slow as it likes."""


def programs() -> Iterator[tuple[str, str]]:
    """(variant, mode) of what has a budget: inference where it makes sense, else training.

    The training step has that of "labels", which is all of it, and of what is computed twice.
    """
    for name, variant in VARIANTS.items():
        if name != "no_donation":
            yield name, variant.modes[0]


def measured(name: str, mode: str) -> dict[str, float]:
    """XLA's figures of one variant of the tiny network, by `FIGURES`."""
    model = variant_model({"preset": "released", **TINY}, open_hands(), VARIANTS[name])
    variables = pseudo_variables(model)
    compiled, _ = compile_program(model, variables, VARIANTS[name], mode, 2, QUICK)
    found = xla_figures(compiled)
    return {figure: found[figure] for figure in FIGURES}


def grown(stored: dict[str, float], found: dict[str, float]) -> list[str]:
    """One line for each figure that is more than 3 % larger than its budget."""
    return [
        f"{figure} grew from {stored[figure]:,.0f} to {found[figure]:,.0f}"
        for figure in FIGURES
        if found[figure] > stored[figure] * (1 + GROWTH)
    ]


def update() -> int:
    """Measures all budgets anew and stores them; returns the exit status.

    Raises:
      ValueError: this is an installed package, without its tests.
    """
    if not FILE.parent.is_dir():
        raise ValueError(f"{FILE.parent} is missing; budgets belong to a checkout of the source")
    before = json.loads(FILE.read_text())["budgets"] if FILE.is_file() else {}
    budgets: dict[str, dict[str, float]] = {}
    for name, mode in programs():
        progress(f"compiling {name}, {mode}")
        key = f"{name}/{mode}"
        budgets[key] = measured(name, mode)
        progress("")
        for line in grown(before.get(key, budgets[key]), budgets[key]):
            print(f"{key}: {line}")
    write_json(FILE, {"jax": jax.__version__, "budgets": budgets})
    print(f"{len(budgets)} budgets: {FILE}")
    return 0
