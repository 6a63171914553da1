"""Number of refinements T = 1.

    python train.py --config configs/ablation_t1.py --workdir DIR --config.data.dir DATA

Published (paper, InterHand2.6M test, wrist_scaled): MPJPE 10.95 mm.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import dir_paper


def get_config() -> ConfigDict:
    """The paper's recipe with 1 refinement."""
    config = dir_paper.get_config()
    config.model.stages = 1
    return config
