"""Checkpoints that survive kills and say when they are damaged.

Layout (written through orbax's `CheckpointManager`, one folder a step, each renamed into place
only when complete)::

  WORKDIR/checkpoints/STEP/variables        params and batch_stats, nested dictionaries of arrays
                          /optimizer        counters and the optimiser's state (not of a converted
                                            model)
                          /meta             JSON: config, step, name of the hands, checksums
                          /validation.json  the validation's result, once there is one

Arrays are stored as plain numpy, so any number of devices or machines reads them. Every item's
SHA-256 lies in `meta`, and meta carries its own: whatever a disk or a kill may have changed is
noticed on reading.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import traverse_util
from orbax.checkpoint import checkpoint_managers

from dir_jax.weights import CHECKPOINTS_FOLDER, WeightsError
from input_pipeline.commands import one_line
from input_pipeline.files import write_json

FORMAT = 1
OVERHEAD = 2**16
"""Bytes of a checkpoint besides its arrays, about."""
CHECKSUMS = "sha256"
VALIDATION_FILE = "validation.json"
BEST = "mpjpe_mm"
"""The number of a validation by which the best checkpoint is chosen, smallest first."""


class CheckpointError(WeightsError):
    """No checkpoint, or none that can be used."""


class DamagedError(CheckpointError):
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


class Checkpoints:
    """The checkpoints of one run: the latest few, and the best on validation.

    Args:
      folder: where they lie; made when missing.
      keep: how many of the latest are kept (two or more leave one to fall back on).
    """

    def __init__(self, folder: str | os.PathLike, keep: int = 2):
        self.folder = Path(folder).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        policies = [checkpoint_managers.LatestN(keep), _KeepBest(self)]
        options = ocp.CheckpointManagerOptions(
            enable_async_checkpointing=False,
            cleanup_tmp_directories=True,
            preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
        )
        handlers = {name: ocp.PyTreeCheckpointHandler() for name in ("variables", "optimizer")}
        handlers["meta"] = ocp.JsonCheckpointHandler()
        self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)

    def steps(self) -> list[int]:
        """Steps of the checkpoints present, oldest first."""
        return present_steps(self.folder)

    def save(
        self,
        step: int,
        variables: Mapping[str, Any],
        optimizer: Mapping[str, Any] | None,
        meta: Mapping[str, Any],
    ) -> None:
        """Writes the checkpoint of `step`; does nothing when it is there already.

        Raises:
          CheckpointError: the disk refused (full, read-only, gone); older checkpoints are intact.
        """
        if step in self.steps():
            return
        arguments = _save_arguments(variables, optimizer, {"format": FORMAT, "step": step, **meta})
        try:
            self._take_room(sum(leaf.nbytes for leaf in jax.tree.leaves((variables, optimizer))))
            self._manager.save(step, args=arguments, force=True)
            self._manager.wait_until_finished()
        except Exception as error:  # orbax and tensorstore raise many kinds; all mean "not saved"
            self._remove_remains(step)
            raise CheckpointError(
                f"the checkpoint of step {step} could not be written to {self.folder}: "
                f"{one_line(error)[:300]}; the ones before it are intact"
            ) from error

    def restore_latest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole, or None when there is none at all.

        Damaged ones that are newer are moved to `WORKDIR/damaged_checkpoints`, with a warning.

        Raises:
          CheckpointError: there are checkpoints, but not one can be read. All stay where they are,
            so that starting again cannot mistake this for a fresh start.
        """
        checkpoint, damaged = read_newest(self.folder)
        if checkpoint is None and damaged:
            raise CheckpointError(
                f"none of the checkpoints {sorted(damaged)} in {self.folder} can be read "
                f"({damaged[max(damaged)]}); start in another --workdir, or delete this one's "
                "checkpoints to begin again"
            )
        for step, reason in damaged.items():
            _warn(
                f"the checkpoint of step {step} is damaged ({reason}); moved to "
                f"{self._set_aside(step)}, using the one of step {checkpoint.step}"
            )
        return checkpoint

    def record_validation(self, step: int, result: Mapping[str, float]) -> None:
        """Notes the validation's numbers in the checkpoint of `step` (which must exist)."""
        if jax.process_index() == 0:
            write_json(self.folder / str(step) / VALIDATION_FILE, dict(result))

    def validation(self, step: int) -> dict[str, float] | None:
        """What `record_validation` noted, or None."""
        return read_validation(self.folder / str(step))

    def best_step(self) -> int | None:
        """Step of the checkpoint that validated best, None when none has been validated."""
        return best_step(self.folder)

    def close(self) -> None:
        """Releases the manager's threads."""
        self._manager.close()

    def _set_aside(self, step: int) -> Path:
        target = self.folder.parent / "damaged_checkpoints" / str(step)
        if jax.process_index() == 0:
            shutil.rmtree(target, ignore_errors=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(self.folder / str(step), target)
        self._manager.reload()
        return target

    def _take_room(self, size: int) -> None:
        """Asks the disk for room for so many bytes, and gives it back.

        When a disk fills up under orbax and tensorstore, their threads print a hundred tracebacks.

        Raises:
          OSError: there is no room.
        """
        if jax.process_count() > 1 or not hasattr(os, "posix_fallocate"):
            return  # alone in stopping, one of several processes would leave the others waiting
        with tempfile.TemporaryFile(dir=self.folder) as file:
            try:
                os.posix_fallocate(file.fileno(), 0, size + OVERHEAD)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise  # others mean that this file system cannot be asked

    def _remove_remains(self, step: int) -> None:
        """Frees what a failed save has left, so that a full disk can be written to again."""
        for folder in self.folder.glob(f"{step}.orbax-checkpoint-tmp*"):
            shutil.rmtree(folder, ignore_errors=True)
        self._manager.reload()


class _KeepBest(checkpoint_managers.PreservationPolicy):
    """Preserves the checkpoint that validated best."""

    def __init__(self, checkpoints: Checkpoints):
        self._checkpoints = checkpoints

    def should_preserve(self, checkpoints, *, context):
        del context
        best = self._checkpoints.best_step()
        return [checkpoint.step == best for checkpoint in checkpoints]


def load_variables(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads a model's variables: the best on validation, else the latest.

    When that one is damaged, the newest whole one is taken, with a warning.

    Args:
      path: a work folder, a checkpoints folder, one step's folder, or what `dir_jax.convert` wrote.

    Returns:
      variables {"params", "batch_stats"} of numpy arrays, and meta {"config", "step", "hands"...}.

    Raises:
      CheckpointError: nothing there, or nothing that can be read.
    """
    folder = Path(path).absolute()
    if (folder / "variables").is_dir():
        candidates = [folder]
    else:
        inside = folder / CHECKPOINTS_FOLDER
        folder = inside if inside.is_dir() else folder
        best = best_step(folder)
        newest_first = [step for step in reversed(present_steps(folder)) if step != best]
        steps = newest_first if best is None else [best, *newest_first]
        candidates = [folder / str(step) for step in steps]
    if not candidates:
        raise CheckpointError(
            f"no checkpoint in {path}; wanted a training work folder, its checkpoints folder, "
            "one step's folder, or the output of python -m dir_jax.convert"
        )
    damaged = []
    for candidate in candidates:
        try:
            checkpoint = _read(candidate, optimizer=False)
        except DamagedError as error:
            damaged.append(f"{candidate} is damaged: {error}")
            continue
        if damaged:
            _warn(f"{'; '.join(damaged)}; using the checkpoint of step {checkpoint.step}")
        return checkpoint.variables, checkpoint.meta
    raise CheckpointError(f"{'; '.join(damaged)}; there is no other to use")


def save_variables(
    path: str | os.PathLike, variables: Mapping[str, Any], meta: Mapping[str, Any]
) -> None:
    """Writes variables alone (a converted model) as the checkpoint of step 0 in folder `path`.

    An earlier one in the same folder is replaced.

    Raises:
      CheckpointError: the folder cannot be written.
    """
    shutil.rmtree(Path(path) / "0", ignore_errors=True)
    checkpoints = Checkpoints(path)
    try:
        checkpoints.save(0, variables, None, meta)
    finally:
        checkpoints.close()


def read_newest(
    folder: Path, before: int | None = None
) -> tuple[Checkpoint | None, dict[int, DamagedError]]:
    """The newest whole checkpoint of a folder (before a step, if given), None if there is none.

    Returns:
      The checkpoint, and why each newer one that was tried is damaged, by step. Nothing is moved.
    """
    damaged: dict[int, DamagedError] = {}
    for step in reversed(present_steps(folder)):
        if before is not None and step >= before:
            continue
        try:
            return _read(folder / str(step)), damaged
        except DamagedError as error:
            damaged[step] = error
    return None, damaged


def present_steps(folder: Path) -> list[int]:
    """Steps of the finished checkpoints in a checkpoints folder, oldest first."""
    if not folder.is_dir():
        return []
    names = (entry.name for entry in folder.iterdir() if entry.is_dir())
    return sorted(int(name) for name in names if name.isdecimal())


def best_step(folder: Path) -> int | None:
    """The step whose recorded validation is smallest (the earliest of equals), or None."""
    results = {step: read_validation(folder / str(step)) for step in present_steps(folder)}
    values = {
        step: result[BEST]
        for step, result in results.items()
        if result and np.isfinite(result.get(BEST, np.nan))
    }
    return min(values, key=values.get) if values else None


def read_validation(step_folder: Path) -> dict[str, float] | None:
    """The validation noted in one checkpoint, None when there is none that can be read."""
    try:
        result = json.loads((step_folder / VALIDATION_FILE).read_text())
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) else None


def _save_arguments(variables, optimizer, meta) -> ocp.args.Composite:
    """What orbax is to write: the items as numpy, and meta with everything's checksum."""
    trees = {"variables": variables, "optimizer": optimizer}
    trees = {
        name: jax.tree.map(np.asarray, jax.device_get(tree))
        for name, tree in trees.items()
        if tree is not None
    }
    checksums = {name: _tree_checksum(tree) for name, tree in trees.items()}
    content = json.loads(json.dumps({**meta, CHECKSUMS: checksums}))  # tuples as they come back
    content[CHECKSUMS]["meta"] = _meta_checksum(content)
    items = {name: ocp.args.PyTreeSave(tree) for name, tree in trees.items()}
    return ocp.args.Composite(meta=ocp.args.JsonSave(content), **items)


def _read(folder: Path, optimizer: bool = True) -> Checkpoint:
    """Reads WORKDIR/checkpoints/STEP and proves it whole; the optimiser's state if asked to.

    Raises:
      DamagedError: says which item and why.
    """
    meta = _read_item(folder, "meta", ocp.JsonCheckpointHandler())
    checksums = meta.get(CHECKSUMS, {}) if isinstance(meta, dict) else {}
    if not checksums or checksums.get("meta") != _meta_checksum(meta):
        raise DamagedError("meta does not match its checksum")
    if meta.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder} is a checkpoint of format {meta.get('format')}, written by another version "
            f"of this code; wanted format {FORMAT}"
        )
    trees = {}
    for name in ("variables", "optimizer"):
        if name not in checksums or (name == "optimizer" and not optimizer):
            continue
        trees[name] = _read_item(folder, name, ocp.PyTreeCheckpointHandler())
        if _tree_checksum(trees[name]) != checksums[name]:
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
        reason = f"{type(error).__name__} {one_line(error)[:300]}"
        raise DamagedError(f"{name} cannot be read: {reason}") from error


def _tree_checksum(tree: Mapping[str, Any]) -> str:
    """SHA-256 over the leaves' names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for path, leaf in sorted(traverse_util.flatten_dict(dict(tree)).items()):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{'/'.join(path)} {array.dtype} {np.shape(leaf)}\n".encode())
        digest.update(array.data if array.ndim else array.tobytes())
    return digest.hexdigest()


def _meta_checksum(meta: Mapping[str, Any]) -> str:
    """SHA-256 of meta's canonical JSON, its own entry left out."""
    checksums = {k: v for k, v in meta.get(CHECKSUMS, {}).items() if k != "meta"}
    content = {**meta, CHECKSUMS: checksums}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)
