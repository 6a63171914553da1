"""A trained model from wherever its weights lie: a run, a checkpoint, the authors' file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import mano_jax
from dir_jax.models.network import DIR, create_model
from dir_jax.weights.checkpoints import load_variables
from dir_jax.weights.conversion import variables_from_torch
from dir_jax.weights.torch_files import read_state_dict

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
      meta: what the checkpoint says of itself (config, step, hands); {} for a PyTorch file.
      notes: plain lines for the person who runs the command.
      source: where the weights lie, as the user named it.
    """

    model: DIR
    variables: dict[str, Any]
    hands: mano_jax.HandPair
    meta: Mapping[str, Any]
    notes: tuple[str, ...]
    source: str = ""


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
    mano: str | None = None,
    hands: mano_jax.HandPair | None = None,
) -> Loaded:
    """Builds a model and loads its weights.

    Args:
      workdir: folder of a training run.
      checkpoint: a checkpoints folder, one step's folder, or what `dir_jax.convert` wrote.
      torch_checkpoint: the authors' `DIR.pth`, or a state dict of the same structure.
      mano: folder with MANO_LEFT and MANO_RIGHT; None: the folder the run was trained with if it
        is still there, else the open hand.
      hands: hand models to use instead.

    Returns:
      The model with its weights.

    Raises:
      ValueError: not exactly one source, or one that cannot be used; one plain line.
    """
    sources = [source for source in (workdir, checkpoint, torch_checkpoint) if source]
    if len(sources) != 1:
        raise ValueError(
            f"{len(sources)} sources of weights given; "
            "wanted one of --workdir, --checkpoint, --torch_checkpoint"
        )
    meta: Mapping[str, Any] = {}
    if not os.path.exists(sources[0]):
        raise ValueError(
            f"{sources[0]}: no such file or folder; wanted a run's folder, a checkpoint, "
            "or PyTorch weights (DIR.pth)"
        )
    if not torch_checkpoint:
        variables, meta = load_variables(sources[0])
        mano = mano or _mano_of_run(meta)
    notes: tuple[str, ...] = ()
    if hands is None:
        hands, notes = load_hands(mano)
    if torch_checkpoint:
        model = create_model("released", hands)
        variables = variables_from_torch(read_state_dict(torch_checkpoint), model)
    else:
        model = create_model(meta["config"]["model"], hands)
    trained_with = meta.get("hands")
    if trained_with:  # the checkpoint itself says whether these are the right hands
        notes = ()
    if trained_with and trained_with != hands.name:
        notes += (f"these weights were trained with {trained_with!r}, running {hands.name!r}",)
    return Loaded(model, variables, hands, meta, notes, str(sources[0]))


def _mano_of_run(meta: Mapping[str, Any]) -> str | None:
    folder = meta.get("config", {}).get("mano")
    return folder if folder and os.path.isdir(folder) else None
