"""Row 1 of the ablation without attention, smooth L1, motion blur and the larger rate.

    python train.py --config configs/ablation_1_none.py --workdir DIR --config.data.dir DATA

Published (paper, table of the baseline's parts): MPJPE 13.01 mm; row 1 has 12.44. The paper does
not state the smaller rate: 1e-4 is that of IntagHand, its baseline.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import ablation_1_no_refinement


def get_config() -> ConfigDict:
    """Row 1 without all four."""
    config = ablation_1_no_refinement.get_config()
    config.model.attention = "none"
    config.loss.distance = "l1"
    config.data.augmentation.blur = 0.0
    config.optimizer.learning_rate = 1e-4
    return config
