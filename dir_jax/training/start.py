"""From a recipe to everything a run is made of."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from dir_jax.models.layers import across_devices
from dir_jax.models.network import create_model, initial_variables
from dir_jax.training.data import Data
from dir_jax.training.devices import Parallel
from dir_jax.training.exits import BadInputError
from dir_jax.training.settings import plain, total_steps
from dir_jax.training.state import (
    TrainState,
    cosine_schedule,
    create_train_state,
    make_optimizer,
)
from dir_jax.training.step import make_loss, make_train_step
from dir_jax.weights.checkpoints import load_variables
from mano_jax import HandPair, load_pair, open_hands


@dataclasses.dataclass(frozen=True)
class Run:
    """All that stays the same during one run.

    Attributes:
      config: the recipe.
      workdir: where results go.
      parallel: the devices.
      hands: the hand models.
      model: the network (with the parallel backend's axis).
      optimizer: AdamW.
      schedule: its learning rate by step.
      data: prepared data.
      steps: of the whole run.
    """

    config: ConfigDict
    workdir: Path
    parallel: Parallel
    hands: HandPair
    model: Any
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    data: Data
    steps: int

    @property
    def leader(self) -> bool:
        """Whether this process writes what is written once."""
        return jax.process_index() == 0

    def meta(self) -> dict[str, Any]:
        """What every checkpoint says about its run."""
        return {
            "config": plain(self.config),
            "hands": self.hands.name,
            "hands_sha256": hands_checksum(self.hands),
            "steps": self.steps,
        }

    def compiled_step(self):
        """(state, sharded batch) -> (state, metrics) on all devices.

        The batch's extra entry `stop` (B,) says in which process a stop was asked for; the metric
        `stop` tells all processes alike, at the same step.
        """
        loss = make_loss(
            self.model,
            self.hands,
            self.config.loss.to_dict(),
            root_joint=self.config.model.root_joint,
        )
        plain_step = make_train_step(loss, self.optimizer, self.schedule)

        def step(state, batch):
            batch = dict(batch)
            stop = across_devices(batch.pop("stop").max(), jax.lax.pmax)
            state, metrics = plain_step(state, batch)
            return state, {**metrics, "stop": stop}

        return self.parallel.step(step)


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


def set_up_compiler(flags: str, folder: str) -> None:
    """Passes flags on to XLA (before its first use) and keeps what it compiles for the next run."""
    if flags:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()
    if folder:
        path = os.path.expanduser(folder)
        jax.config.update("jax_compilation_cache_dir", path)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 2.0)


def check_sources(config: ConfigDict) -> HandPair:
    """Reads what the user named, before anything costly.

    Raises:
      BadInputError, or the reader's own ValueError: what is wrong with which file.
    """
    hands = load_hands(config.mano)
    if config.train.imagenet_weights:
        from dir_jax.weights.torch_files import read_state_dict

        read_state_dict(config.train.imagenet_weights)
    if config.train.initial_checkpoint:
        if config.train.imagenet_weights:
            raise BadInputError(
                "train.imagenet_weights and train.initial_checkpoint both name initial weights; "
                "give one of them"
            )
        load_variables(config.train.initial_checkpoint)
    return hands


def build_run(config: ConfigDict, workdir: Path, hands: HandPair, data: Data) -> Run:
    """Network, optimiser and devices of a recipe.

    Raises:
      ValueError: fields that do not fit each other.
    """
    parallel = Parallel(config.parallel.backend)
    parallel.check_batch_size(config.train.batch_size)
    steps = total_steps(config, data.sizes["train"])
    settings = config.optimizer
    schedule = cosine_schedule(settings.learning_rate, steps, settings.warmup_steps)
    optimizer = make_optimizer(
        schedule,
        weight_decay=settings.weight_decay,
        b1=settings.b1,
        b2=settings.b2,
        eps=settings.eps,
    )
    model = create_model(config.model.to_dict(), hands)
    return Run(config, workdir, parallel, hands, model, optimizer, schedule, data, steps)


def fresh_state(run: Run) -> TrainState:
    """The state before the first step, with the initial weights that the recipe names."""
    settings = run.config.train
    variables = initial_variables(run.model, run.config.seed)
    if settings.initial_checkpoint:
        from dir_jax.training.state import fill

        given, _ = load_variables(settings.initial_checkpoint)
        variables = {name: fill(variables[name], given.get(name, {}), name) for name in variables}
        origin = f"weights from {settings.initial_checkpoint}"
    elif settings.imagenet_weights:
        from dir_jax.weights.conversion import load_imagenet_encoder

        variables = load_imagenet_encoder(settings.imagenet_weights, variables, run.model)
        origin = f"ImageNet weights from {settings.imagenet_weights} in the encoder"
    else:
        origin = (
            "random weights: no ImageNet weights were given (--config.train.imagenet_weights="
            "resnet50.pth), as the paper's training has them"
        )
    if run.leader:
        print(f"starting with {origin}", file=sys.stderr)
    return create_train_state(variables, run.optimizer)


def describe(run: Run, state: TrainState) -> str:
    """What is about to happen, for the terminal."""
    parameters = sum(np.size(leaf) for leaf in jax.tree.leaves(state.params))
    devices = run.parallel.devices
    kinds = ", ".join(sorted({device.device_kind for device in devices}))
    sizes = ", ".join(f"{count} {split}" for split, count in run.data.sizes.items())
    return (
        f"devices     {len(devices)} ({kinds}), {jax.process_count()} process(es), "
        f"backend {run.parallel.backend}\n"
        f"hands       {run.hands.name}\n"
        f"parameters  {parameters:,}\n"
        f"examples    {sizes} ({run.data.folder})\n"
        f"steps       {run.steps} of {run.config.train.batch_size} images "
        f"({run.steps * run.config.train.batch_size / run.data.sizes['train']:.1f} epochs), "
        f"{int(state.step)} done"
    )
