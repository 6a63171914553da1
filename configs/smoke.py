"""Twenty steps of a tiny network on a few synthesised photographs, to see that all parts work.

    python train.py --config configs/smoke.py --workdir /tmp/dir_smoke

56 seconds on two cores, nothing cached. Its hands are no better than the mean hand's.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import base
from dir_jax.models.config import TINY


def get_config() -> ConfigDict:
    """The released architecture, every part once and tiny."""
    config = base.get_config()
    config.model.update(TINY)
    # Nearly all of its time is compiling: without the compiler's optimisations it takes less.
    config.parallel.xla_flags = "--xla_backend_optimization_level=0"
    config.data.update(synthesize=True, synthesize_train=16, synthesize_val=4, synthesize_test=4)
    config.train.update(batch_size=4, steps=20, checkpoint_every=10)
    config.optimizer.learning_rate = 3e-4
    config.validation.every = 20
    config.evaluation.update(batch_size=4, pictures=2)
    config.log.every = 2
    return config
