r"""Ablation, row 1: the initial estimate alone.

    python train.py --config configs/ablation_1_no_refinement.py --workdir DIR \
        --config.data.dir DATA

Published (paper, ablation table; InterHand2.6M test, wrist_scaled): MPJPE 12.44 mm, MPVPE 12.11
mm, MIAA 7.41 px.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import dir_paper


def get_config() -> ConfigDict:
    """The paper's recipe without any refinement."""
    config = dir_paper.get_config()
    config.model.stages = 0
    return config
