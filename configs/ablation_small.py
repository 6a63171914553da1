r"""Any ablation at the size of the quick start: its widths, synthesised data and short schedule.

    python -m tools.ablations --small --seeds 0 1 2 --workdir DIR
    python train.py --config configs/ablation_small.py --workdir DIR
    python train.py --config configs/ablation_small.py:ablation_3_graph --workdir DIR

The fields that the ablations vary stay as the recipe has them; the learning rate is the quick
start's times the recipe's over the standard one.
"""

from __future__ import annotations

import importlib

from ml_collections import ConfigDict

from configs import base, quickstart
from dir_jax.training.settings import flat

VARIED = (
    "data.augment",
    "data.augmentation.blur",
    "loss.distance",
    "model.attention",
    "model.graph",
    "model.planes",
    "model.stages",
    "model.transformer_blocks",
)
"""Never taken from the quick start: the rows would no longer differ by them."""


def get_config(recipe: str = "ablation_8_mfp") -> ConfigDict:
    """A recipe of this folder, made small.

    Args:
      recipe: its name, without .py.
    """
    config = importlib.import_module(f"configs.{recipe}").get_config()
    standard = flat(base.get_config().to_dict())
    small = flat(quickstart.get_config().to_dict())
    changed = {
        name: value
        for name, value in small.items()
        if value != standard[name] and name not in VARIED
    }
    rate = "optimizer.learning_rate"
    changed[rate] = small[rate] * (config.optimizer.learning_rate / standard[rate])
    config.update_from_flattened_dict(changed)
    return config
