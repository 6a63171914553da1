"""The items inside one checkpoint, and the checksums by which damage is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import traverse_util

CHECKSUMS = "sha256"


class DamagedError(ValueError):
    """A checkpoint's content is missing or not what was written."""


class Checkpoint(NamedTuple):
    """One checkpoint as read back, all arrays numpy.

    Attributes:
      step: optimiser steps done.
      variables: {"params": ..., "batch_stats": ...}.
      optimizer: state dictionary of the optimiser, None when there is none.
      meta: {"config", "step", "hands", ...} as saved.
    """

    step: int
    variables: dict[str, Any]
    optimizer: dict[str, Any] | None
    meta: dict[str, Any]


def handlers() -> dict[str, ocp.CheckpointHandler]:
    """Orbax handlers by item name."""
    return {
        "variables": ocp.PyTreeCheckpointHandler(),
        "optimizer": ocp.PyTreeCheckpointHandler(),
        "meta": ocp.JsonCheckpointHandler(),
    }


def save_arguments(
    variables: Mapping[str, Any], optimizer: Mapping[str, Any] | None, meta: Mapping[str, Any]
) -> ocp.args.Composite:
    """What orbax is to write: the items as numpy, and meta with everything's checksum."""
    trees = {"variables": to_numpy(variables)}
    if optimizer is not None:
        trees["optimizer"] = to_numpy(optimizer)
    checksums = {name: tree_checksum(tree) for name, tree in trees.items()}
    content = json.loads(json.dumps({**meta, CHECKSUMS: checksums}))  # tuples as they come back
    content[CHECKSUMS]["meta"] = meta_checksum(content)
    items = {name: ocp.args.PyTreeSave(tree) for name, tree in trees.items()}
    return ocp.args.Composite(meta=ocp.args.JsonSave(content), **items)


def read_step(folder: Path, optimizer: bool = True) -> Checkpoint:
    """Reads one step's folder and proves it whole.

    Args:
      folder: WORKDIR/checkpoints/STEP.
      optimizer: whether to read the optimiser's state too, where there is one.

    Raises:
      DamagedError: says which item and why.
    """
    meta = _read_item(folder, "meta", ocp.JsonCheckpointHandler())
    checksums = meta.get(CHECKSUMS, {}) if isinstance(meta, dict) else {}
    if checksums.get("meta") != meta_checksum(meta):
        raise DamagedError("meta does not match its checksum")
    trees = {}
    for name in ("variables", "optimizer"):
        if name not in checksums or (name == "optimizer" and not optimizer):
            continue
        trees[name] = _read_item(folder, name, ocp.PyTreeCheckpointHandler())
        if tree_checksum(trees[name]) != checksums[name]:
            raise DamagedError(f"{name} do not match their checksum")
    return Checkpoint(int(meta["step"]), trees["variables"], trees.get("optimizer"), meta)


def _read_item(folder: Path, name: str, handler: ocp.CheckpointHandler) -> Any:
    try:
        if isinstance(handler, ocp.JsonCheckpointHandler):
            return handler.restore(folder / name)
        tree = handler.metadata(folder / name).tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        arguments = ocp.args.PyTreeRestore(restore_args=as_numpy)
        return handler.restore(folder / name, args=arguments)
    except Exception as error:  # whatever a damaged file makes json, orbax or tensorstore raise
        reason = (str(error).strip().splitlines() or [""])[0]
        raise DamagedError(
            f"{name} cannot be read: {type(error).__name__} {reason[:200]}"
        ) from error


def to_numpy(tree: Any) -> Any:
    """The tree with every leaf a numpy array of its own dtype."""
    return jax.tree.map(np.asarray, jax.device_get(tree))


def tree_checksum(tree: Mapping[str, Any]) -> str:
    """SHA-256 over the leaves' names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for path, leaf in sorted(traverse_util.flatten_dict(dict(tree)).items()):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{'/'.join(path)} {array.dtype} {np.shape(leaf)}\n".encode())
        digest.update(array.data if array.ndim else array.tobytes())
    return digest.hexdigest()


def meta_checksum(meta: Mapping[str, Any]) -> str:
    """SHA-256 of meta's canonical JSON, its own entry left out."""
    checksums = {k: v for k, v in meta.get(CHECKSUMS, {}).items() if k != "meta"}
    content = {**meta, CHECKSUMS: checksums}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
