"""The whole chain in a few minutes: synthesises photographs of hands in InterHand2.6M's layout,
prepares them, trains a small network, evaluates it and draws what it sees.

    python train.py --config configs/quickstart.py --workdir /tmp/dir
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """The base recipe with small widths."""
    config = base.get_config()
    config.model.update(
        {
            "encoder_blocks": (1, 1, 1, 1),
            "encoder_width": 8,
            "attention": "light",
            "feature_width": 32,
            "joint_width": 32,
            "plane_width": 16,
            "graph_layers": 2,
            "transformer_heads": 2,
        }
    )
    config.data.synthesize = True
    config.data.synthesize_train = 1600
    config.data.synthesize_val = 160
    config.data.synthesize_test = 160
    config.data.augmentation.rotation_degrees = 15.0
    config.data.augmentation.blur = 0.0
    config.train.batch_size = 16
    config.train.steps = 500
    config.optimizer.learning_rate = 1e-3
    config.train.checkpoint_every = 250
    config.validation.every = 250
    config.validation.examples = 160
    config.evaluation.batch_size = 50
    config.log.every = 20
    return config
