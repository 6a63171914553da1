"""Ablation, row 7: row 5 with one heat-map per joint, without features (MHP).

    python train.py --config configs/ablation_7_mhp.py --workdir DIR --config.data.dir DATA

Published (paper, ablation table; InterHand2.6M test, wrist_scaled): MPJPE 10.65 mm, MPVPE 10.44
mm, MIAA 6.27 px.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import dir_paper


def get_config() -> ConfigDict:
    """The paper's recipe with heat-maps."""
    config = dir_paper.get_config()
    config.model.planes = "heatmap"
    return config
