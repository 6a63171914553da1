"""One training run, top to bottom: data, network, state, the loop, and what is left at the end."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from configs.base import check, flat
from dir_jax.models.network import create_model, initial_variables, variable_shapes
from dir_jax.training.data import Data, find_data, training_batches
from dir_jax.training.devices import Parallel, set_up_compiler
from dir_jax.training.interruptions import (
    FINISHED,
    STOPPED,
    RunError,
    StopRequest,
    connect,
    locked,
    raise_on_lost_peer,
)
from dir_jax.training.record import Record
from dir_jax.training.step import (
    STOP,
    TrainState,
    adamw,
    create_train_state,
    make_loss,
    make_schedule,
    make_train_step,
    optimizer_state_dict,
    restore_train_state,
)
from dir_jax.training.validation import Validation, evaluate_best, label_sheet
from dir_jax.weights import CHECKPOINTS_FOLDER, CONFIG_FILE, RAW_FOLDER, fill
from dir_jax.weights.checkpoints import CheckpointError, Checkpoints
from input_pipeline.files import write_json
from mano_jax import HandPair, load_hands


def train(config: ConfigDict, workdir: Path) -> int:
    """Trains, or resumes training, and leaves everything in the work folder.

    Args:
      config: a recipe, every field of `configs/base.py`.
      workdir: made when missing.

    Returns:
      An exit code of `dir_jax.training.interruptions`.

    Raises:
      ValueError: bad input of any kind; the message is for the user.
      RunError: the run failed.
    """
    check(config)
    workdir.mkdir(parents=True, exist_ok=True)
    with StopRequest() as stop:
        set_up_compiler(config.parallel)
        connect(config.parallel)
        with locked(workdir):
            checkpoints = Checkpoints(workdir / CHECKPOINTS_FOLDER, config.train.keep)
            with contextlib.closing(checkpoints):
                return train_and_evaluate(config, workdir, checkpoints, stop)


def train_and_evaluate(
    config: ConfigDict, workdir: Path, checkpoints: Checkpoints, stop: StopRequest
) -> int:
    """The run itself; see `train`."""
    leader = jax.process_index() == 0
    hands = load_hands(config.mano)
    parallel = Parallel(config.parallel.backend)
    parallel.check_batch_size(config.train.batch_size)
    model = create_model(config.model.to_dict(), hands)
    checkpoint = checkpoints.restore_latest()
    if checkpoint is not None:
        check_fits(config, checkpoint.meta.get("config", {}), workdir)
    else:
        if (workdir / RAW_FOLDER).is_dir():  # made for the recipe that config.json holds
            check_fits(config, read_config(workdir) or plain(config), workdir)
        variables = first_variables(config, model)  # refused, if so, before data are made
    if leader:
        write_config(config, workdir)

    data = find_data(config, workdir, stop)
    steps = total_steps(config, data.sizes["train"])
    meta = {
        "config": plain(config),
        "hands": hands.name,
        "hands_sha256": hands_checksum(hands),
        "steps": steps,
    }

    optimizer, train_step = build(config, parallel, model, steps)
    if checkpoint is None:
        state = create_train_state(variables, optimizer)
    else:
        check_same_run(meta, checkpoint.meta, workdir)
        state = restore_train_state(variable_shapes(model), optimizer, checkpoint)
    step = first = int(state.step)
    validated = checkpoints.validation(step) is not None
    if leader:
        print(describe(config, parallel, hands, data, steps, state), file=sys.stderr, flush=True)

    with raise_on_lost_peer(), contextlib.ExitStack() as stack:
        record = Record(workdir, config, data, steps, step, int(state.skipped), validated)
        stack.callback(record.close)
        validation = Validation(config, data, model, hands, record)
        state = parallel.replicate(state)

        def save(must: bool) -> None:
            """Writes a checkpoint; a failure ends the run only where nothing better can be done."""
            record.settle()
            if step not in checkpoints.steps():
                host = jax.device_get(state)
                try:
                    checkpoints.save(step, host.variables, optimizer_state_dict(host), meta)
                except CheckpointError as error:
                    if must:
                        raise RunError(str(error)) from error
                    record.say(f"warning: {error}; training continues")
                    return
            stop.protect(False)

        def validate() -> None:
            """Measures the checkpoint of this step, once."""
            if step in checkpoints.steps() and checkpoints.validation(step) is None:
                if values := validation(state):
                    record.validation(step, values)
                    try:
                        checkpoints.record_validation(step, values)
                    except OSError as error:
                        record.say(f"warning: this validation cannot be the best: {error}")
            record.restart_timer()

        def validation_due() -> bool:
            return step % config.validation.every == 0 or step == steps

        if step > 0 and validation_due():  # a run that was ended between a save and its validation
            validate()
        if step == steps and leader:
            print(f"the {steps} steps of this run are done already", file=sys.stderr)
        batches = training_batches(config, data, first, jax.process_index(), jax.process_count())
        for step, batch in enumerate(itertools.islice(batches, steps - first), first + 1):
            asked = np.full(len(batch["index"]), stop.asked, np.float32)
            state, metrics = train_step(state, parallel.shard({**batch, STOP: asked}))
            stop.protect(True)  # the compilation need not be kept, what is computed must be
            record.add(step, metrics, batch["index"])  # waits for the step before this one only
            if step == first + 1:
                if leader:
                    record.picture(step, "training/examples", label_sheet(batch, hands))
                record.restart_timer()

            if validation_due() or step % config.train.checkpoint_every == 0:
                save(must=step == steps)
            if record.stop if jax.process_count() > 1 else stop.asked:  # all processes alike
                save(must=True)
                if leader:
                    print("stopped and saved; start the same command again to resume",
                          file=sys.stderr)  # fmt: skip
                return STOPPED
            if validation_due():
                validate()

    if leader:
        evaluate_best(config, workdir, data, model, hands)
    return FINISHED


def build(config: ConfigDict, parallel: Parallel, model: nn.Module, steps: int):
    """The optimiser, and `train_step(state, batch) -> (state, metrics)` on all devices.

    Args:
      config: the recipe.
      parallel: the devices.
      model: the network.
      steps: of the whole run.
    """
    fields = config.optimizer
    schedule = make_schedule(fields, steps)
    names = ("encoder_factor", "weight_decay", "b1", "b2", "eps")
    optimizer = adamw(schedule, **{name: fields[name] for name in names})
    loss = make_loss(
        model,
        model.hands,
        config.loss.to_dict(),
        root_joint=config.model.root_joint,
        frozen=fields.encoder_factor == 0,
    )
    return optimizer, parallel.step(make_train_step(loss, optimizer, schedule))


def hands_checksum(hands: HandPair) -> str:
    """SHA-256 over both hands' arrays: two folders with the same MANO are the same hands."""
    digest = hashlib.sha256()
    for hand in (hands.left, hands.right):
        for leaf in jax.tree.leaves(hand):
            digest.update(np.ascontiguousarray(leaf, np.float64).tobytes())
    return digest.hexdigest()


# --- What a work folder was made with -----------------------------------------------------------

FREE = (
    "data.dir",
    "evaluation",
    "log",
    "mano",
    "parallel",
    "train.checkpoint_every",
    "train.keep",
    "train.nonfinite_limit",
    "validation",
)
"""Fields and groups that may change when a run is resumed: none of them changes a number it
computes. (Another hand model does, and is recognised by its content.)"""


def plain(config: ConfigDict) -> dict[str, Any]:
    """The recipe as JSON gives it back: dictionaries, lists, numbers, text."""
    return json.loads(json.dumps(config.to_dict()))


def write_config(config: ConfigDict, workdir: Path) -> None:
    """Leaves WORKDIR/config.json."""
    write_json(workdir / CONFIG_FILE, plain(config))


def read_config(workdir: Path) -> dict[str, Any] | None:
    """The recipe a work folder was trained with; None where there is none.

    Raises:
      ValueError: it is not JSON, or no recipe.
    """
    path = workdir / CONFIG_FILE
    try:
        saved = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error})") from None
    if not isinstance(saved, dict):
        raise ValueError(f"{path} holds no recipe")
    return saved


def total_steps(config: ConfigDict, train_size: int) -> int:
    """Optimiser steps of the whole run; the last epoch's rest counts as a step."""
    epochs = config.train.epochs * train_size / config.train.batch_size
    return config.train.steps or math.ceil(epochs)


def check_fits(config: ConfigDict, saved: Mapping[str, Any], workdir: Path) -> None:
    """Refuses to resume with another recipe than the one the work folder was made with.

    Raises:
      ValueError: names every differing field.
    """
    new, saved, absent = flat(plain(config)), flat(saved), "absent"
    free = tuple(f"{name}." for name in FREE)
    found = [
        f"{name}: {new.get(name, absent)} here, {saved.get(name, absent)} in the checkpoint"
        for name in sorted(new.keys() | saved.keys())
        if new.get(name, absent) != saved.get(name, absent) and not f"{name}.".startswith(free)
    ]
    if found:
        raise ValueError(
            f"{workdir} holds a run with another recipe: {'; '.join(found)}. "
            "Give the same values to resume, or another --workdir to start afresh"
        )


def check_same_run(meta: Mapping[str, Any], saved: Mapping[str, Any], workdir: Path) -> None:
    """Refuses a checkpoint made with other hands, or by a run of another length.

    Raises:
      ValueError: says which.
    """
    if saved.get("hands_sha256") != meta["hands_sha256"]:
        raise ValueError(
            f"{workdir} holds a run with {saved.get('hands')}, not {meta['hands']}; "
            "give the same --config.mano, or another --workdir"
        )
    if saved.get("steps") != meta["steps"]:
        raise ValueError(
            f"{workdir} holds a run of {saved.get('steps')} steps, but this data set "
            f"makes it {meta['steps']}; use the same data, or another --workdir"
        )


def first_variables(config: ConfigDict, model: nn.Module) -> dict[str, Any]:
    """The variables before the first step: drawn, then the initial weights that the recipe names.

    Raises:
      ValueError: initial weights that cannot be read, or are not the network's.
    """
    imagenet, initial = config.train.imagenet_weights, config.train.initial_checkpoint
    variables = initial_variables(model, config.seed)
    if initial:
        from dir_jax.weights.loading import load_weights

        variables = fill(variables, load_weights(initial)[0], f"the weights of {initial}")
        origin = f"weights from {initial}"
    elif imagenet:
        from dir_jax.weights.conversion import load_imagenet_encoder

        variables = load_imagenet_encoder(imagenet, variables, model)
        origin = f"ImageNet weights from {imagenet} in the encoder"
    elif config.model.encoder == "landmark":
        origin = "random weights behind MediaPipe's encoder"
    else:
        origin = (
            "random weights: no ImageNet weights were given (--config.train.imagenet_weights="
            "resnet50.pth), as the paper's training has them"
        )
    if jax.process_index() == 0:
        print(f"starting with {origin}", file=sys.stderr)
    return variables


def describe(
    config: ConfigDict,
    parallel: Parallel,
    hands: HandPair,
    data: Data,
    steps: int,
    state: TrainState,
) -> str:
    """What is about to happen, for the terminal."""
    parameters = sum(np.size(leaf) for leaf in jax.tree.leaves(state.params))
    kinds = ", ".join(sorted({device.device_kind for device in parallel.devices}))
    sizes = ", ".join(f"{count} {split}" for split, count in data.sizes.items())
    batch_size = config.train.batch_size
    return (
        f"devices     {len(parallel.devices)} ({kinds}), {jax.process_count()} process(es), "
        f"backend {parallel.backend}\n"
        f"hands       {hands.name}\n"
        f"parameters  {parameters:,}\n"
        f"examples    {sizes} ({data.folder})\n"
        f"steps       {steps} of {batch_size} images "
        f"({steps * batch_size / data.sizes['train']:.1f} epochs), {int(state.step)} done"
    )
