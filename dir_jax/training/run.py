"""One training run, top to bottom: data, network, state, the loop, and what is left at the end."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import linen as nn
from ml_collections import ConfigDict

from configs.arguments import BadInputError
from dir_jax.models.network import create_model, initial_variables, variable_shapes
from dir_jax.training import settings
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
from dir_jax.training.optimiser import adamw, make_schedule
from dir_jax.training.record import Record, StepResults
from dir_jax.training.step import (
    STOP,
    TrainState,
    create_train_state,
    fill,
    make_loss,
    make_train_step,
    optimizer_state_dict,
    restore_train_state,
)
from dir_jax.training.validation import Validation, evaluate_best, label_sheet
from dir_jax.weights.checkpoints import Checkpoint, CheckpointError, Checkpoints
from dir_jax.weights.workdir import CHECKPOINTS_FOLDER, RAW_FOLDER
from mano_jax import HandPair, load_pair, open_hands


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
    settings.check_values(config)
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
    checkpoint = checkpoints.restore_latest()
    check_sources(config, workdir, checkpoint)
    if leader:
        settings.write_config(config, workdir)

    data = find_data(config, workdir, stop)
    steps = settings.total_steps(config, data.sizes["train"])
    meta = {
        "config": settings.plain(config),
        "hands": hands.name,
        "hands_sha256": hands_checksum(hands),
        "steps": steps,
    }

    model, optimizer, train_step = build(config, parallel, hands, steps)
    if checkpoint is None:
        state = fresh_state(config, model, optimizer)
    else:
        check_same_run(meta, checkpoint.meta, workdir)
        state = restore_train_state(variable_shapes(model), optimizer, checkpoint)
    step = first = int(state.step)
    validated = checkpoints.validation(step) is not None
    if leader:
        print(describe(config, parallel, hands, data, steps, state), file=sys.stderr, flush=True)

    with raise_on_lost_peer(), contextlib.ExitStack() as stack:
        record = Record(workdir, step, steps, config.train.batch_size, validated)
        stack.callback(record.close)
        results = StepResults(
            record, workdir, data, skipped=int(state.skipped), every=config.log.every, steps=steps,
            skipped_limit=config.train.nonfinite_limit,
        )  # fmt: skip
        validation = Validation(config, data, model, hands, record)
        state = parallel.replicate(state)

        def save(must: bool) -> None:
            """Writes a checkpoint; a failure ends the run only where nothing better can be done."""
            results.settle()
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
            results.add(step, metrics, batch["index"])  # waits for the step before this one only
            if step == first + 1:
                if leader:
                    record.picture(step, "training/examples", label_sheet(batch, hands))
                record.restart_timer()

            if validation_due() or step % config.train.checkpoint_every == 0:
                save(must=step == steps)
            if results.stop if jax.process_count() > 1 else stop.asked:  # all processes alike
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


def build(config: ConfigDict, parallel: Parallel, hands: HandPair, steps: int):
    """What a recipe is made of.

    Args:
      config: the recipe.
      parallel: the devices.
      hands: the hand models.
      steps: of the whole run.

    Returns:
      The network, the optimiser, and `train_step(state, batch) -> (state, metrics)` on all devices.
    """
    fields = config.optimizer
    schedule = make_schedule(fields, steps)
    optimizer = adamw(
        schedule, weight_decay=fields.weight_decay, b1=fields.b1, b2=fields.b2, eps=fields.eps
    )
    model = create_model(config.model.to_dict(), hands)
    loss = make_loss(model, hands, config.loss.to_dict(), root_joint=config.model.root_joint)
    train_step = parallel.step(make_train_step(loss, optimizer, schedule))
    return model, optimizer, train_step


def load_hands(mano: str) -> HandPair:
    """The user's MANO files, or the open hand when none are given."""
    return load_pair(Path(mano).expanduser()) if mano else open_hands()


def hands_checksum(hands: HandPair) -> str:
    """SHA-256 over both hands' arrays: two folders with the same MANO are the same hands."""
    digest = hashlib.sha256()
    for hand in (hands.left, hands.right):
        for leaf in jax.tree.leaves(hand):
            digest.update(np.ascontiguousarray(leaf, np.float64).tobytes())
    return digest.hexdigest()


def check_sources(config: ConfigDict, workdir: Path, checkpoint: Checkpoint | None) -> None:
    """Looks at what the run is to start from, before data are made for it.

    Raises:
      BadInputError, or the reader's own ValueError: a work folder of another recipe, or initial
        weights that cannot be read.
    """
    if checkpoint is not None:
        settings.check_fits(config, checkpoint.meta["config"], workdir)
        return
    if (workdir / RAW_FOLDER).is_dir():  # made for the recipe that config.json holds
        settings.check_fits(config, settings.read_config(workdir) or config, workdir)
    imagenet, initial = config.train.imagenet_weights, config.train.initial_checkpoint
    if imagenet and initial:
        raise BadInputError(
            "train.imagenet_weights and train.initial_checkpoint both name initial weights; "
            "give one of them"
        )
    if imagenet:
        from dir_jax.weights.torch_files import read_state_dict

        read_state_dict(imagenet)
    if initial:
        from dir_jax.weights.loading import load_weights

        load_weights(initial)


def check_same_run(meta: Mapping[str, Any], saved: Mapping[str, Any], workdir: Path) -> None:
    """Refuses a checkpoint made with other hands, or by a run of another length.

    Raises:
      BadInputError: says which.
    """
    if saved["hands_sha256"] != meta["hands_sha256"]:
        raise BadInputError(
            f"{workdir} holds a run with {saved['hands']}, not {meta['hands']}; "
            "give the same --config.mano, or another --workdir"
        )
    if saved["steps"] != meta["steps"]:
        raise BadInputError(
            f"{workdir} holds a run of {saved['steps']} steps, but this data set "
            f"makes it {meta['steps']}; use the same data, or another --workdir"
        )


def fresh_state(
    config: ConfigDict, model: nn.Module, optimizer: optax.GradientTransformation
) -> TrainState:
    """The state before the first step, with the initial weights that the recipe names."""
    imagenet, initial = config.train.imagenet_weights, config.train.initial_checkpoint
    variables = initial_variables(model, config.seed)
    if initial:
        from dir_jax.weights.loading import load_weights

        given, _ = load_weights(initial)
        variables = {name: fill(variables[name], given.get(name, {}), name) for name in variables}
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
    return create_train_state(variables, optimizer)


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
