"""Every field of a recipe, with a value that suits most; a recipe sets those it is about.

Any field can be set on the command line: --config.group.field=value. Paths may be empty ("")
where that has a meaning of its own, given below. The length of the run and the learning rate have
no value here: every recipe gives its own. A field that is not here is refused, in a recipe too.
"""

from __future__ import annotations

import dataclasses

from ml_collections import ConfigDict

from dir_jax.losses.terms import RECIPES
from dir_jax.models.config import PRESETS


def get_config(network: str = "released") -> ConfigDict:
    """All fields; architecture and losses as in the released code, or as in the "paper"."""
    config = ConfigDict()
    config.seed = 0  # decides initial weights, order and augmentation of the data
    config.mano = ""  # folder with MANO_LEFT and MANO_RIGHT (.pkl or .npz); "": the open hand
    config.model = ConfigDict(dataclasses.asdict(PRESETS[network]))
    config.loss = ConfigDict(RECIPES[network])  # a weight for each term
    config.optimizer = {  # AdamW as torch has it
        "learning_rate": 0.0,
        "schedule": "cosine",  # to 0 at the end; or "inverse_root": constant, then 1 / sqrt(step)
        "constant_steps": 3000,  # of inverse_root
        "warmup_steps": 0,
        "weight_decay": 0.01,
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
    }
    config.data = data()
    config.train = {
        "batch_size": 64,  # over all devices of all machines
        "epochs": 0.0,
        "steps": 0,  # if not 0, instead of epochs
        "imagenet_weights": "",  # a torchvision ResNet-50, .pth or .safetensors; "": none
        "initial_checkpoint": "",  # run, checkpoint, file, or shipped weights ("open_hands")
        "checkpoint_every": 1000,  # steps
        "keep": 2,  # latest checkpoints; the best on validation is kept besides
        "nonfinite_limit": 0,  # updates that may be skipped for not being finite; 0: stop
    }
    # On the split "val" during training; the best wrist_scaled MPJPE is kept.
    config.validation = {"every": 5000, "examples": 2000}  # steps; 0 examples: all of them
    # On the split "test" when training is over; 0 examples: all of them.
    config.evaluation = {"batch_size": 64, "examples": 0, "pictures": 8}
    # How often, in steps, numbers are written; pictures come with every validation.
    config.log = {"every": 100}
    config.parallel = {  # devices and machines, see docs/recipes.md
        "backend": "pmap",  # or "jit": one program over a NamedSharding
        "coordinator": "",  # "host:port" of process 0, or "auto" (Slurm, TPU pods, ...)
        "processes": 1,
        "process": 0,
        "heartbeat_seconds": 100,  # a process silent for so long is lost, and ends the run
        "xla_flags": "",  # for the compiler, besides those of the environment
        "compilation_cache": "~/.cache/dir_jax/compiled",  # "": none
    }
    return config.lock()


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
            "synthesize_variety": "studio",  # or "everyday": all sides, places and light
            "synthesize_options": "",  # that change parts of it, as "--views 2 --yaw 30"
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
                "jpeg": 0.0,
                "occlusion": 0.0,
            },
        }
    )
