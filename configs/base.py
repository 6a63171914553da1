"""Every field of a recipe: its type, what it may be, what it means, and a value that suits most.

`FIELDS` is the one place; `python train.py --help` prints it, `check` refuses what does not fit it,
and any field can be set on the command line: --config.group.field=value. A recipe sets those it is
about. The length of the run and the learning rate have no value here: every recipe gives its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from flax import traverse_util
from ml_collections import ConfigDict

from dir_jax.losses.terms import LOSS_FIELDS, RECIPES, loss_config
from dir_jax.models.config import MODEL_FIELDS, PRESETS, Field, model_config

_BEST = 1 - 1e-6  # decay rates of exactly 1 divide by zero

FIELDS: dict[str, Field] = {
    "seed": Field(0, "decides initial weights, order and augmentation of the data"),
    "mano": Field("", "folder with MANO_LEFT and MANO_RIGHT (.pkl or .npz); empty: the open hand"),
    **{f"model.{name}": field for name, field in MODEL_FIELDS.items()},
    **{f"loss.{name}": field for name, field in LOSS_FIELDS.items()},
    # AdamW as torch has it.
    "optimizer.learning_rate": Field(0.0, "every recipe gives its own", high=1000),
    "optimizer.schedule": Field(
        "cosine",
        "cosine: to 0 at the end; inverse_root: constant, then falling with 1 / sqrt(step)",
        choices=("cosine", "inverse_root"),
    ),
    "optimizer.constant_steps": Field(3000, "of inverse_root", low=1),
    "optimizer.warmup_steps": Field(0, "in which the learning rate rises from 0"),
    "optimizer.weight_decay": Field(0.01, "times the learning rate, of every parameter", high=1000),
    "optimizer.encoder_factor": Field(
        1.0,
        "times the learning rate, of an encoder that came with weights; 0: it stays as it is",
        high=1000,
    ),
    "optimizer.b1": Field(0.9, "decay of the gradients' mean", high=_BEST),
    "optimizer.b2": Field(0.999, "decay of their squares' mean", high=_BEST),
    "optimizer.eps": Field(1e-8, "added to the squares' root", low=1e-20, high=1),
    # Where examples come from and how they are changed in training.
    "data.subset": Field("interacting", "of the data", choices=("interacting", "single", "all")),
    "data.dir": Field("", "what input_pipeline.prepare wrote; empty: WORKDIR/data"),
    "data.synthesize": Field(False, "make WORKDIR/data first, from synthesised photographs"),
    "data.synthesize_train": Field(2000, "synthesised photographs for training", low=1),
    "data.synthesize_val": Field(200, "for validation", low=1),
    "data.synthesize_test": Field(200, "for the evaluation at the end", low=1),
    "data.synthesize_variety": Field(
        "studio",
        "everyday: all sides, places and light; plain: two hands from the front, apart",
        choices=("studio", "everyday", "plain"),
    ),
    "data.augment": Field(True, "change every example anew each time"),
    "data.augmentation.rotation_degrees": Field(180.0, "turned by up to this, either way"),
    "data.augmentation.scale": Field(0.1, "magnified by 1 - this to 1 + this", high=1),
    "data.augmentation.translation_px": Field(10.0, "shifted by up to this along x and y"),
    "data.augmentation.flip": Field(0.5, "probability of the mirror, which swaps hands", high=1),
    "data.augmentation.blur": Field(0.3, "probability of motion blur", high=1),
    "data.augmentation.blur_lengths": Field((3, 9), "shortest and longest path, pixels", 1, 9),
    "data.augmentation.gain": Field(0.3, "channels times 1 - this to 1 + this, each its own", 0, 1),
    "data.augmentation.brightness": Field(0.05, "added to all pixels, part of full white"),
    "data.augmentation.noise": Field(0.01, "deviation of every value's noise, part of full white"),
    "data.augmentation.jpeg": Field(0.0, "probability of a second compression", high=1),
    "data.augmentation.occlusion": Field(0.0, "probability of a patch over the hands", high=1),
    "train.batch_size": Field(64, "over all devices of all machines", low=1),
    "train.epochs": Field(0.0, "every recipe gives its own, or steps"),
    "train.steps": Field(0, "if not 0, instead of epochs"),
    "train.imagenet_weights": Field("", "a torchvision ResNet-50, .pth or .safetensors"),
    "train.initial_checkpoint": Field("", "a run, checkpoint, file, or shipped weights' name"),
    "train.checkpoint_every": Field(1000, "steps from one checkpoint to the next", low=1),
    "train.keep": Field(2, "latest checkpoints; the best on validation is kept besides", low=1),
    "train.nonfinite_limit": Field(0, "updates that may be left out as not finite; 0: stop"),
    # On the split "val" during training; the best wrist_scaled MPJPE is kept.
    "validation.every": Field(5000, "steps from one validation to the next", low=1),
    "validation.examples": Field(2000, "of the split val; 0: all"),
    # On the split "test" when training is over.
    "evaluation.batch_size": Field(64, "of validation too", low=1),
    "evaluation.examples": Field(0, "of the split test when training is over; 0: all"),
    "evaluation.pictures": Field(8, "of test examples, drawn at the end"),
    "log.every": Field(100, "steps from one line of metrics.jsonl to the next", low=1),
    # Devices and machines, see docs/recipes.md.
    "parallel.backend": Field(
        "pmap", "jit: one program over a NamedSharding", choices=("pmap", "jit")
    ),
    "parallel.coordinator": Field(
        "", '"host:port" of process 0, or "auto" (Slurm, TPU pods, ...); empty: one process'
    ),
    "parallel.processes": Field(1, "how many there are", low=1),
    "parallel.process": Field(0, "which of them this one is"),
    "parallel.heartbeat_seconds": Field(
        100, "a process silent for so long is lost, and ends the run", low=1
    ),
    "parallel.xla_flags": Field("", "for the compiler, besides those of the environment"),
    "parallel.compilation_cache": Field(
        "~/.cache/dir_jax/compiled", "keeps compiled programs; empty: none"
    ),
}
"""By name, group and field joined by points."""


def get_config(network: str = "released") -> ConfigDict:
    """All fields; architecture and losses as in the released code, or as in the "paper"."""
    values = {name: field.default for name, field in FIELDS.items()}
    config = ConfigDict(traverse_util.unflatten_dict(values, sep="."))
    config.model.update(dataclasses.asdict(PRESETS[network]))
    config.loss.update(RECIPES[network])
    return config.lock()


def flat(config: ConfigDict | Mapping[str, Any]) -> dict[str, Any]:
    """{"train.batch_size": 64, ...}."""
    nested = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
    return traverse_util.flatten_dict(nested, sep=".")


def check(config: ConfigDict | Mapping[str, Any]) -> None:
    """Refuses a recipe that cannot work, before anything starts.

    Raises:
      ValueError: names the field, what came and what was wanted.
    """
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in flat(config).items()}
    for name in values:
        if name not in FIELDS:
            raise ValueError(f"the recipe has no field {name!r}; python train.py --help lists them")
    if missing := [name for name in FIELDS if name not in values]:
        raise ValueError(
            f"the recipe lacks {len(missing)} of its {len(FIELDS)} fields, the first "
            f"{missing[0]!r}; start from configs.base.get_config() and change what differs"
        )
    for name, field in FIELDS.items():
        field.check(name, values[name])
    model_config(config["model"])
    loss_config(config["loss"])
    value = values.__getitem__
    steps, warmup = value("train.steps"), value("optimizer.warmup_steps")
    processes, coordinator = value("parallel.processes"), value("parallel.coordinator")
    lengths = value("data.augmentation.blur_lengths")
    problems = {
        "optimizer.learning_rate is 0; wanted more": not value("optimizer.learning_rate"),
        "train.epochs and train.steps are both 0; set one of them": not (
            steps or value("train.epochs")
        ),
        f"optimizer.warmup_steps is {warmup}; wanted less than train.steps, {steps}": (
            0 < steps <= warmup
        ),
        "train.imagenet_weights and train.initial_checkpoint both name initial weights; give one "
        "of them": value("train.imagenet_weights") and value("train.initial_checkpoint"),
        f"data.augmentation.blur_lengths is {lengths}; wanted the shorter first": (
            lengths[0] > lengths[1]
        ),
        f"parallel.processes is {processes} without parallel.coordinator; wanted the address of "
        "process 0, or auto": processes > 1 and not coordinator,
        f"parallel.process is {value('parallel.process')}; wanted less than parallel.processes, "
        f"{processes}": coordinator != "auto" and value("parallel.process") >= processes,
    }
    for problem, found in problems.items():
        if found:
            raise ValueError(problem)


def describe_fields() -> str:
    """Every field with its default, what it may be and what it means."""
    lines = []
    for name, field in FIELDS.items():
        lines += [f"  --config.{name}={field.default}", f"      {field.wanted}: {field.meaning}"]
    return "\n".join(lines)
