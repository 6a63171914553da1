"""Ablation, row 8: row 5 with one plane of features per joint (MFP): the full method.

    python train.py --config configs/ablation_8_mfp.py --workdir DIR --config.data.dir DATA

Published (paper, ablation table; InterHand2.6M test, wrist_scaled): MPJPE 10.49 mm, MPVPE 10.26
mm, MIAA 6.18 px.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import dir_paper


def get_config() -> ConfigDict:
    """The paper's recipe as it is."""
    config = dir_paper.get_config()
    config.model.planes = "joint"
    return config
