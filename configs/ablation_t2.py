"""Number of refinements T = 2.

    python train.py --config configs/ablation_t2.py --workdir DIR --config.data.dir DATA

Published (paper, InterHand2.6M test, wrist_scaled): MPJPE 10.49 mm (31 frames a second).
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import dir_paper


def get_config() -> ConfigDict:
    """The paper's recipe with 2 refinements."""
    config = dir_paper.get_config()
    config.model.stages = 2
    return config
