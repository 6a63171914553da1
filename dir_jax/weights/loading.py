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
from dir_jax.models.config import PARTS, PRESETS
from dir_jax.models.network import DIR, create_model, variable_shapes
from dir_jax.weights import WeightsError, fill
from dir_jax.weights.conversion import variables_from_torch
from dir_jax.weights.torch_files import read_state_dict, write_state_dict
from input_pipeline.commands import one_line

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
      dtype: of the numbers in the file, `np.float16` for half its size; arrays with numbers that
        are too large for it (variances of a batch normalisation, say) stay as they are.
      **meta: more texts of the file's metadata, as hands="open hand".
    """
    flat = traverse_util.flatten_dict(dict(variables), sep="/")
    largest = np.finfo(dtype).max
    arrays = {
        name: np.asarray(value, dtype if np.abs(value).max(initial=0) <= largest else np.float32)
        for name, value in flat.items()
    }
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

        variables, meta = load_variables(path)
    elif path.suffix == ".safetensors" and (meta := _meta_of_own_file(path)):
        flat = {name: np.asarray(a, np.float32) for name, a in read_state_dict(path).items()}
        variables = traverse_util.unflatten_dict(flat, sep="/")
    else:
        config = dataclasses.asdict(PRESETS["released"])
        # The weights do not depend on the hands.
        model = create_model(config, mano_jax.open_hands())
        return variables_from_torch(read_state_dict(path), model), {"config": {"model": config}}
    return _of_their_network(variables, meta, path), meta


def _of_their_network(variables, meta, path: pathlib.Path) -> dict[str, Any]:
    """Variables, after proof that they are those of the network that `meta` describes."""
    try:
        config = meta.get("config", {}).get("model", {})
        shapes = variable_shapes(create_model(config, mano_jax.open_hands()))
    except (AttributeError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path} is of no network that this version of the code knows ({one_line(error)})"
        ) from None
    return fill(shapes, variables, f"the weights in {path}")


def _meta_of_own_file(path: pathlib.Path) -> dict[str, Any] | None:
    """What `save_weights` noted in a file; None for one of tensors under PyTorch's names."""
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
    return meta | {"config": {"model": config}}


# --- Models -------------------------------------------------------------------------------------


def load_model(
    source: str | os.PathLike,
    *,
    mano: str | None = None,
    hands: mano_jax.HandPair | None = None,
) -> Loaded:
    """Builds a model and loads its weights.

    Args:
      source: anything that `load_weights` takes.
      mano: folder with MANO_LEFT and MANO_RIGHT; None: the folder the run was trained with if it
        is still there, else the open hand.
      hands: hand models to use instead.

    Returns:
      The model with its weights.

    Raises:
      ValueError: nothing there, or nothing that can be used; one plain line.
    """
    variables, meta = _read(source)
    folder = mano or _mano_of_run(meta)
    chosen = hands or mano_jax.load_hands(folder)
    model = create_model(meta["config"]["model"], chosen)
    notes: tuple[str, ...] = ()
    if trained_with := meta.get("hands"):  # the weights say whether these are the right hands
        if trained_with != chosen.name:
            notes = (f"these weights were trained with {trained_with!r}, running {chosen.name!r}",)
    elif hands is None and not folder:
        notes = (OPEN_HAND_NOTE,)
    return Loaded(model, variables, chosen, meta, notes, str(source))


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
    given = [source for name in names if (source := getattr(arguments, name))]
    if not given and shipped(DEFAULT):
        print(f"note: no weights named; using the shipped {DEFAULT}")
        given = [DEFAULT]
    if len(given) != 1:
        raise ValueError(
            f"{f'{len(given)} models given' if given else 'No model given'}. Use one of --workdir "
            "RUN, --checkpoint PATH, --torch_checkpoint DIR.pth or --weights FILE"
        )
    loaded = load_model(given[0], mano=arguments.mano or mano)
    for note in loaded.notes:
        print(f"note: {note}")
    return loaded


def keep_compiled() -> None:
    """Lets JAX keep what it compiles, so that the next run starts in seconds."""
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser(COMPILED))
