"""A trained model from wherever its weights lie: shipped, a run, a checkpoint, DIR.pth."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util

import mano_jax
from dir_jax.models.config import PRESETS
from dir_jax.models.network import DIR, create_model, variable_shapes
from dir_jax.models.parts import PARTS
from dir_jax.weights.conversion import fitting, variables_from_torch
from dir_jax.weights.torch_files import WeightsError, read_state_dict, write_state_dict

COMPILED = "~/.cache/dir_jax/compiled"
"""Where compiled programs are kept, unless JAX_COMPILATION_CACHE_DIR says otherwise."""
SHIPPED = pathlib.Path(__file__).parent
"""Folder of the weights that come with the package, NAME.safetensors."""
DEFAULT = "open_hands"
"""Shipped weights that a command uses when none are named."""
OPEN_HAND_NOTE = (
    "Using the built-in open hand, not MANO. "
    "If these weights were trained with MANO, add --mano FOLDER."
)


class Loaded(NamedTuple):
    """A model ready to run.

    Attributes:
      model: the network.
      variables: {"params", "batch_stats"}.
      hands: the hand models inside it.
      meta: what the weights say of themselves (config, step, hands ...).
      notes: plain lines for the person who runs the command.
      source: where the weights lie, as the user named it.
    """

    model: DIR
    variables: dict[str, Any]
    hands: mano_jax.HandPair
    meta: Mapping[str, Any]
    notes: tuple[str, ...]
    source: str = ""


# --- Files and folders of weights ---------------------------------------------------------------


def load_weights(source: str | os.PathLike) -> tuple[dict[str, Any], dict[str, Any]]:
    """Weights, and the network that they belong to.

    Args:
      source: name of shipped weights ("open_hands"), a file that `save_weights` wrote, a training
        run's folder, a checkpoint, or the authors' `DIR.pth`.

    Returns:
      variables {"params", "batch_stats"} of float32 numpy arrays, and the config that
      `dir_jax.create_model` takes.

    Raises:
      ValueError: nothing there, or nothing that can be read; one plain line.
    """
    variables, meta = _read(source)
    return variables, dict(meta["config"]["model"])


def save_weights(
    path: str | os.PathLike,
    variables: Mapping[str, Any],
    config: Mapping[str, Any],
    dtype: Any = np.float32,
    **meta: str,
) -> None:
    """Writes weights as one safetensors file with everything needed to run them.

    Args:
      path: a file name ending in .safetensors.
      variables: {"params", "batch_stats"}.
      config: the network's fields, as for `dir_jax.create_model`.
      dtype: of the numbers in the file, `np.float16` for half its size.
      **meta: more texts of the file's metadata, as hands="open hand".
    """
    flat = traverse_util.flatten_dict(dict(variables), sep="/")
    arrays = {name: np.asarray(value, dtype) for name, value in flat.items()}
    write_state_dict(path, arrays, {"config": json.dumps(dict(config)), **meta})


def shipped(name: str | os.PathLike) -> pathlib.Path | None:
    """The file of weights that come with the package; None: there are none of this name."""
    path = SHIPPED / f"{name}.safetensors"
    return path if path.parent == SHIPPED and path.is_file() else None


def _read(source: str | os.PathLike) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Variables, and what the weights say of themselves, at least {"config": {"model"}}."""
    path = pathlib.Path(source)
    if not path.exists():
        path = shipped(source) or path
    if not path.exists():
        stems = {file.stem for file in SHIPPED.glob("*.safetensors")}
        names = ", ".join(sorted(stem for stem in stems if not stem.startswith("mediapipe_")))
        raise WeightsError(
            f"{source}: no such file or folder; wanted a run's folder, a checkpoint, PyTorch "
            f"weights (DIR.pth){names and f', or one of the shipped weights: {names}'}"
        )
    if path.is_dir():
        from dir_jax.weights.checkpoints import load_variables  # needs orbax; files do not

        return load_variables(path)
    if path.suffix == ".safetensors" and (found := _of_own_file(path)):
        return found
    config = dataclasses.asdict(PRESETS["released"])
    # The weights do not depend on the hands.
    model = create_model(config, mano_jax.open_hands())
    return variables_from_torch(read_state_dict(path), model), {"config": {"model": config}}


def _of_own_file(path: pathlib.Path):
    """What `save_weights` wrote; None for a file of tensors under PyTorch's names."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            meta = dict(file.metadata() or {})
        if "config" not in meta:
            return None
        config = dict(json.loads(meta["config"]))
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise WeightsError(f"{path} cannot be read as weights ({error})") from None
    for kind in PARTS:  # a file from elsewhere shall not choose what is imported
        module, colon, _ = str(config.get(kind, "")).partition(":")
        if colon and module not in sys.modules:
            raise WeightsError(
                f"{path} needs the part {config[kind]!r}; import {module} first if you trust it"
            )
    flat = {name: np.asarray(a, np.float32) for name, a in read_state_dict(path).items()}
    shapes = variable_shapes(create_model(config, mano_jax.open_hands()))
    flat = fitting(flat, traverse_util.flatten_dict(shapes, sep="/"))
    variables = {"batch_stats": {}} | traverse_util.unflatten_dict(flat, sep="/")
    return variables, meta | {"config": {"model": config}}


# --- Models -------------------------------------------------------------------------------------


def load_hands(folder: str | os.PathLike | None) -> tuple[mano_jax.HandPair, tuple[str, ...]]:
    """Hand models from a MANO folder, or the open hand, and what to tell the user about it.

    Raises:
      HandError: the folder holds no usable hand models.
    """
    if folder:
        return mano_jax.load_pair(folder), ()
    return mano_jax.open_hands(), (OPEN_HAND_NOTE,)


def load_model(
    *,
    workdir: str | None = None,
    checkpoint: str | None = None,
    torch_checkpoint: str | None = None,
    weights: str | None = None,
    mano: str | None = None,
    hands: mano_jax.HandPair | None = None,
) -> Loaded:
    """Builds a model and loads its weights.

    Args:
      workdir: folder of a training run.
      checkpoint: a checkpoints folder, one step's folder, or what `dir_jax.convert` wrote.
      torch_checkpoint: the authors' `DIR.pth`, or a state dict of the same structure.
      weights: anything that `load_weights` takes.
      mano: folder with MANO_LEFT and MANO_RIGHT; None: the folder the run was trained with if it
        is still there, else the open hand.
      hands: hand models to use instead.

    Returns:
      The model with its weights.

    Raises:
      ValueError: not exactly one source, or one that cannot be used; one plain line.
    """
    sources = [s for s in (workdir, checkpoint, torch_checkpoint, weights) if s]
    if len(sources) != 1:
        given = f"{len(sources)} models given" if sources else "No model given"
        raise ValueError(
            f"{given}. Use one of --workdir RUN, --checkpoint PATH, --torch_checkpoint DIR.pth "
            "or --weights FILE"
        )
    variables, meta = _read(sources[0])
    notes: tuple[str, ...] = ()
    if hands is None:
        hands, notes = load_hands(mano or _mano_of_run(meta))
    model = create_model(meta["config"]["model"], hands)
    trained_with = meta.get("hands")
    if trained_with:  # the weights themselves say whether these are the right hands
        notes = ()
    if trained_with and trained_with != hands.name:
        notes += (f"these weights were trained with {trained_with!r}, running {hands.name!r}",)
    return Loaded(model, variables, hands, meta, notes, str(sources[0]))


def _mano_of_run(meta: Mapping[str, Any]) -> str | None:
    folder = meta.get("config", {}).get("mano")
    return folder if folder and os.path.isdir(folder) else None


# --- Command lines ------------------------------------------------------------------------------


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the ways to name a trained model (at most one may be given) and --mano."""
    group = parser.add_argument_group(f"model (one of these; default: the shipped {DEFAULT})")
    group.add_argument("--workdir", metavar="DIR", help="folder of a training run")
    group.add_argument(
        "--checkpoint", metavar="PATH", help="checkpoint, or dir_jax.convert's output"
    )
    group.add_argument("--torch_checkpoint", metavar="DIR.pth", help="the authors' weights")
    group.add_argument(
        "--weights", metavar="NAME_OR_FILE", help="shipped weights, or a .safetensors file"
    )
    parser.add_argument(
        "--mano", metavar="DIR", help="folder with MANO_LEFT and MANO_RIGHT (.pkl or .npz)"
    )


def load_named_model(arguments: argparse.Namespace, mano: str | None = None) -> Loaded:
    """Loads the model that the arguments name and prints what is to be known of it.

    Args:
      arguments: parsed, with those of `add_model_arguments`.
      mano: used without --mano.

    Raises:
      ValueError, OSError: bad input; the message is for the user.
    """
    names = ("workdir", "checkpoint", "torch_checkpoint", "weights")
    named = {name: getattr(arguments, name) for name in names}
    if not any(named.values()) and shipped(DEFAULT):
        print(f"note: no weights named; using the shipped {DEFAULT}")
        named["weights"] = DEFAULT
    loaded = load_model(**named, mano=arguments.mano or mano)
    for note in loaded.notes:
        print(f"note: {note}")
    return loaded


def keep_compiled() -> None:
    """Lets JAX keep what it compiles, so that the next run starts in seconds."""
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser(COMPILED))
