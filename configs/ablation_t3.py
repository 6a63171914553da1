"""Number of refinements T = 3.

    python train.py --config configs/ablation_t3.py --workdir DIR --config.data.dir DATA

Published (paper, InterHand2.6M test, wrist_scaled): MPJPE 10.44 mm (23 frames a second).
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import dir_paper


def get_config() -> ConfigDict:
    """The paper's recipe with 3 refinements."""
    config = dir_paper.get_config()
    config.model.stages = 3
    return config
