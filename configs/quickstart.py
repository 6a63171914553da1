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
            "encoder_width": 16,
            "feature_width": 32,
            "joint_width": 32,
            "plane_width": 16,
            "graph_layers": 2,
            "transformer_heads": 2,
        }
    )
    config.data.synthesize = True
    config.train.batch_size = 16
    config.train.steps = 1500
    config.optimizer.learning_rate = 1e-3
    config.train.checkpoint_every = 250
    config.validation.every = 500
    config.validation.examples = 200
    config.evaluation.batch_size = 50
    config.log.every = 20
    return config
