"""The network as several programs, one for each part, instead of one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn

from dir_jax.models.network import DIR, LEVELS
from dir_jax.models.types import Output


class _Part(DIR):
    """A part of the network under the whole's names of variables."""

    @nn.compact
    def __call__(self, part: str, *arguments):
        return getattr(self, f"_{part}")(*arguments, False)


def compile_stages(
    model: DIR, variables: Any, images: jax.Array
) -> tuple[Callable[[], Output], tuple[Any, ...]]:
    """Compiles inference part by part.

    Args:
      model: the network.
      variables: its weights.
      images: (B, 256, 256, 3), normalised.

    Returns:
      A function that runs all parts on these images, and their executables.
    """
    part = _Part(model.config, model.hands)
    programs: dict[str, Any] = {}

    def run(name, *arguments, index=None):
        """Runs a part, compiled on the first call."""
        key = name if index is None else f"{name}{index}"
        if key not in programs:
            static = (name,) if index is None else (name, index)
            function = jax.jit(lambda v, *a: part.apply(v, *static, *a))
            programs[key] = function.lower(variables, *arguments).compile()
        return programs[key](variables, *arguments)

    whole = functools.partial(_run_parts, model, images, run)
    whole()
    return whole, tuple(programs.values())


def _run_parts(model: DIR, images: jax.Array, run: Callable) -> Output:
    maps = run("encode", images)
    stages, x = (run("first_estimate", maps[-1]),), model.coarsest(maps)
    for index in range(max(model.config.stages, LEVELS)):
        stages, x = run("refine", stages, x, model.skip(maps, index), index=index)
    return run("heads", stages, x)
