"""Weights between PyTorch and Flax, exactly, both ways, as `dir_jax.weights.table` says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from dir_jax.models.network import DIR, variable_shapes
from dir_jax.weights import SHOWN, WeightsError, fill, raise_if
from dir_jax.weights.table import DIMENSIONS, Entry, encoder_entries, is_unused, table
from dir_jax.weights.torch_files import read_state_dict


def variables_from_torch(state_dict: Mapping[str, Any], model: DIR) -> dict[str, Any]:
    """Flax variables from the released code's state dict.

    Args:
      state_dict: PyTorch name to array (numpy, or anything `np.asarray` takes). Values keep
        their floating dtype.
      model: of the released structure.

    Returns:
      {"params": ..., "batch_stats": ...}, numpy arrays.

    Raises:
      WeightsError: names every tensor that is missing, left over or of another shape.
    """
    entries, shapes = _checked_table(model)
    used = {name for entry in entries for name in entry.sources}
    left_over = [n for n in state_dict if n not in used and not is_unused(n)]
    raise_if([f"{n} {np.shape(state_dict[n])}" for n in left_over], "tensors nobody expects")
    return traverse_util.unflatten_dict(_fill(entries, state_dict, shapes), sep="/")


def torch_from_variables(variables: Mapping[str, Any], model: DIR) -> dict[str, np.ndarray]:
    """The released code's state dict from Flax variables; the inverse of `variables_from_torch`.

    Tensors that the network does not use (see `dir_jax.weights.table.UNUSED`) are not made up: load
    the result with `strict=False`.

    Raises:
      WeightsError: variables that are missing, left over or of another shape.
    """
    entries, _ = _checked_table(model)
    variables = fill(variable_shapes(model), variables, "the variables")
    flat = traverse_util.flatten_dict(variables, sep="/")
    state: dict[str, np.ndarray] = {}
    for entry in entries:
        value = np.asarray(flat[entry.path])
        state.update(zip(entry.sources, entry.to_torch(value), strict=True))
    return state


def load_imagenet_encoder(path: str, variables: Mapping[str, Any], model: DIR) -> dict[str, Any]:
    """Variables whose encoder is replaced by a torchvision ResNet-50 file's.

    Args:
      path: `.pth` or `.safetensors` of torchvision's names (`conv1.weight`, `layer1.0...`).
      variables: of `model.init`.
      model: its encoder must be a ResNet-50.

    Raises:
      WeightsError: unreadable file, or tensors that are missing or of another shape.
    """
    if model.config.encoder != "resnet50":
        raise WeightsError(f"{path} is for the encoder resnet50, not {model.config.encoder!r}")
    state = read_state_dict(path)
    values = _fill(list(encoder_entries(model.config, "")), state, _flat_shapes(model))
    flat = traverse_util.flatten_dict(dict(variables), sep="/")
    flat |= {name: np.asarray(value, np.float32) for name, value in values.items()}
    return traverse_util.unflatten_dict(flat, sep="/")


def _flat_shapes(model: DIR) -> dict[str, Any]:
    return traverse_util.flatten_dict(variable_shapes(model), sep="/")


def _checked_table(model: DIR):
    """The table, after proof that it fills every variable once and takes every source once."""
    entries, shapes = table(model.config), _flat_shapes(model)
    paths = [entry.path for entry in entries]
    sources = [name for entry in entries for name in entry.sources]
    if len(set(sources)) != len(sources) or sorted(paths) != sorted(shapes):
        difference = sorted(set(paths) ^ set(shapes))
        raise AssertionError(f"conversion table and model disagree on {difference[:SHOWN]}")
    return entries, shapes


def _fill(entries: list[Entry], state: Mapping[str, np.ndarray], shapes) -> dict[str, np.ndarray]:
    """Flat variables from the entries' sources, every shape checked."""
    values: dict[str, np.ndarray] = {}
    problems: list[str] = []
    for entry in entries:
        missing = [name for name in entry.sources if name not in state]
        problems += [f"{name} is missing" for name in missing]
        if missing:
            continue
        arrays = [np.asarray(state[name]) for name in entry.sources]
        got = " and ".join(str(shape) for shape in dict.fromkeys(a.shape for a in arrays))
        wanted = entry.to_torch(np.zeros(shapes[entry.path].shape, np.int8))[0].shape
        dimensions = DIMENSIONS.get(entry.layout, len(wanted))
        fits = all(a.shape == arrays[0].shape and a.ndim == dimensions for a in arrays)
        value = entry.to_flax(arrays) if fits else None
        if value is not None and value.shape == shapes[entry.path].shape:
            values[entry.path] = value
        else:
            problems.append(f"{' and '.join(entry.sources)} has shape {got}, wanted {wanted}")
    raise_if(problems, "the weights do not fit the model")
    return values
