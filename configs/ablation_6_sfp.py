"""Ablation, row 6: row 5 with all joints' features on one plane (SFP).

    python train.py --config configs/ablation_6_sfp.py --workdir DIR --config.data.dir DATA

Published (paper, ablation table; InterHand2.6M test, wrist_scaled): MPJPE 10.68 mm, MPVPE 10.45
mm, MIAA 6.27 px.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import dir_paper


def get_config() -> ConfigDict:
    """The paper's recipe with single-plane projection."""
    config = dir_paper.get_config()
    config.model.planes = "sum"
    return config
