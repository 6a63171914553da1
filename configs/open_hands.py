r"""The network that is shipped: MediaPipe's landmark encoder, trained on, under DIR with small
widths, on synthesised photographs of one and two hands from all sides.

    python train.py --config configs/open_hands.py --workdir DIR
    python train.py --config configs/open_hands.py --workdir END \
        --config.train.initial_checkpoint=DIR --config.train.steps=5000 \
        --config.optimizer.schedule=cosine --config.optimizer.learning_rate=5e-4
    python -m tools.ship_weights --workdir END --output dir_jax/weights/open_hands.safetensors

The first line has no end worth waiting for: it is stopped and started again, as time allows, while
the validation figures fall. The second lets the learning rate fall from where it got to. Where a
fast GPU is lent for minutes, `tools/train_resident.py` trains the same recipe; the weights that are
shipped are from there.
"""

from __future__ import annotations

import dataclasses

from ml_collections import ConfigDict

from configs import base
from dir_jax.models.config import PRESETS


def get_config() -> ConfigDict:
    """Boxes as detectors and people draw them: too large or too small by a quarter, beside it."""
    config = base.get_config()
    config.model.update(dataclasses.asdict(PRESETS["open_hands"]))
    config.data.update(
        subset="all",
        synthesize=True,
        synthesize_variety="everyday",
        synthesize_train=16000,
        synthesize_val=300,
        synthesize_test=1000,
    )
    config.data.augmentation.update(
        rotation_degrees=45.0,
        scale=0.28,
        translation_px=38.0,
        blur=0.1,
        brightness=0.1,
        noise=0.02,
        jpeg=0.3,
        occlusion=0.3,
    )
    config.train.update(batch_size=16, steps=400_000, checkpoint_every=500)
    config.optimizer.update(
        learning_rate=2e-3, warmup_steps=200, schedule="inverse_root", encoder_factor=0.2
    )
    config.validation.every = 1000
    config.evaluation.batch_size = 50
    return config
