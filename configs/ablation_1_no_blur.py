"""Row 1 of the ablation without motion blur in the augmentation.

    python train.py --config configs/ablation_1_no_blur.py --workdir DIR --config.data.dir DATA

Published (paper, table of the baseline's parts): MPJPE 12.50 mm; row 1 has 12.44.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import ablation_1_no_refinement


def get_config() -> ConfigDict:
    """Row 1 without blurred photographs."""
    config = ablation_1_no_refinement.get_config()
    config.data.augmentation.blur = 0.0
    return config
