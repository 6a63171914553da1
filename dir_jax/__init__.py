"""Decoupled Iterative Refinement of two interacting hands, in JAX.

The names below are imported when they are first used, so that a command does not wait for what it
does not need.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dir_jax.losses.terms import loss_terms
    from dir_jax.models.network import create_model
    from dir_jax.models.types import Output, Stage, Targets
    from dir_jax.weights.conversion import torch_from_variables, variables_from_torch
    from dir_jax.weights.loading import load_weights

__version__ = "0.2.0"

_HOMES = {
    "Output": "dir_jax.models.types",
    "Stage": "dir_jax.models.types",
    "Targets": "dir_jax.models.types",
    "create_model": "dir_jax.models.network",
    "load_weights": "dir_jax.weights.loading",
    "loss_terms": "dir_jax.losses.terms",
    "torch_from_variables": "dir_jax.weights.conversion",
    "variables_from_torch": "dir_jax.weights.conversion",
}

__all__ = [
    "Output",
    "Stage",
    "Targets",
    "create_model",
    "load_weights",
    "loss_terms",
    "torch_from_variables",
    "variables_from_torch",
]


class _Recipes:
    """Finds `configs`: at the top of the repository, but inside this folder where a wheel put it.

    At the top of site-packages a package of that name would be in the way of other people's; so
    this one is asked last.
    """

    folder = os.path.join(os.path.dirname(__file__), "configs")

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        """As of every finder in `sys.meta_path`."""
        if name == "configs":
            return importlib.util.spec_from_file_location(name, f"{cls.folder}/__init__.py")
        return None


if os.path.isdir(_Recipes.folder):
    sys.meta_path.append(_Recipes)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'dir_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
