"""Every field of a recipe, with the paper's values; recipes change a few of them.

    python train.py --config configs/base.py --workdir DIR --config.data.dir DATA

Any field can be set on the command line: --config.group.field=value. Paths may be empty ("")
where that has a meaning of its own, given below.
"""

from __future__ import annotations

import dataclasses

from ml_collections import ConfigDict

from dir_jax.losses.terms import RECIPES
from dir_jax.models.config import PRESETS


def get_config() -> ConfigDict:
    """The released architecture and losses under the schedule of the paper (section 4)."""
    config = ConfigDict()
    config.seed = 0  # decides initial weights, order and augmentation of the data
    config.mano = ""  # folder with MANO_LEFT and MANO_RIGHT (.pkl or .npz); "": the open hand
    config.model = ConfigDict(dataclasses.asdict(PRESETS["released"]))
    config.loss = ConfigDict(RECIPES["released"])  # a weight for each term
    config.optimizer = optimizer()
    config.data = data()
    config.train = train()
    config.validation = validation()
    config.evaluation = evaluation()
    config.log = log()
    config.parallel = parallel()
    return config


def optimizer() -> ConfigDict:
    """AdamW as torch has it; the released code's config says 5e-4 for the rate."""
    return ConfigDict(
        {
            "learning_rate": 3e-4,  # falls to 0 along a cosine over the whole run
            "warmup_steps": 0,
            "weight_decay": 0.01,
            "b1": 0.9,
            "b2": 0.999,
            "eps": 1e-8,
        }
    )


def data() -> ConfigDict:
    """Where examples come from and how they are changed in training."""
    return ConfigDict(
        {
            "subset": "interacting",  # or "single", "all"; see input_pipeline/prepare.py
            "dir": "",  # what input_pipeline.prepare wrote; "": WORKDIR/data
            "synthesize": False,  # make WORKDIR/data first, from synthesised photographs
            "synthesize_train": 2000,
            "synthesize_val": 200,
            "synthesize_test": 200,
            "synthesize_single_share": 0.12,  # share of sequences with one hand only
            "synthesize_views": 3,  # photographs of each frame
            "synthesize_meetings": (),  # ways in which hands meet; (): all of them
            "synthesize_yaw": 60.0,  # degrees that cameras stand to either side, at most
            "synthesize_pitch": 30.0,  # degrees that cameras stand up or down, at most
            "augment": True,
            "augmentation": {
                "rotation_degrees": 180.0,
                "scale": 0.1,
                "translation_px": 10.0,
                "flip": 0.5,
                "blur": 0.3,
                "blur_lengths": (3, 9),
                "gain": 0.3,
                "brightness": 0.05,
                "noise": 0.01,
            },
        }
    )


def train() -> ConfigDict:
    """Length of the run, its starting point, and what it does when something goes wrong."""
    return ConfigDict(
        {
            "batch_size": 64,  # over all devices of all machines
            "epochs": 50.0,
            "steps": 0,  # if not 0, instead of epochs
            "imagenet_weights": "",  # a torchvision ResNet-50, .pth or .safetensors; "": none
            "initial_checkpoint": "",  # variables to start from (workdir, checkpoint, converted)
            "checkpoint_every": 1000,  # steps
            "keep": 2,  # latest checkpoints; the best on validation is kept besides
            "nonfinite_limit": 0,  # updates that may be skipped for not being finite; 0: stop
        }
    )


def validation() -> ConfigDict:
    """Evaluation on the split "val" during training; the best wrist_scaled MPJPE is kept."""
    return ConfigDict({"every": 5000, "examples": 2000})  # steps; 0 examples: all of them


def evaluation() -> ConfigDict:
    """Evaluation on the split "test" when training is over."""
    return ConfigDict({"batch_size": 64, "examples": 0, "pictures": 8})  # 0 examples: all


def log() -> ConfigDict:
    """How often, in steps, numbers are written; pictures come with every validation."""
    return ConfigDict({"every": 100})


def parallel() -> ConfigDict:
    """Devices and machines (see docs/recipes.md)."""
    return ConfigDict(
        {
            "backend": "pmap",  # or "jit": one program over a NamedSharding
            "coordinator": "",  # "host:port" of process 0, or "auto" (Slurm, TPU pods, ...)
            "processes": 1,
            "process": 0,
            "heartbeat_seconds": 100,  # a process silent for so long is lost, and ends the run
            "xla_flags": "",  # for the compiler, besides those of the environment
            "compilation_cache": "~/.cache/dir_jax/compiled",  # "": none
        }
    )
