"""Decoupled Iterative Refinement of two interacting hands, in JAX."""

from dir_jax.convert import torch_from_variables, variables_from_torch
from dir_jax.losses.terms import loss_terms
from dir_jax.models.network import create_model
from dir_jax.models.types import Output, Stage, Targets

__all__ = [
    "Output",
    "Stage",
    "Targets",
    "create_model",
    "loss_terms",
    "torch_from_variables",
    "variables_from_torch",
]
