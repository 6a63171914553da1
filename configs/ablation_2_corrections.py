"""Ablation, row 2: two refinements, without graph network, transformer or projection.

    python train.py --config configs/ablation_2_corrections.py --workdir DIR --config.data.dir DATA

Published (paper, ablation table; InterHand2.6M test, wrist_scaled): MPJPE 11.30 mm, MPVPE 11.03
mm, MIAA 6.60 px.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import dir_paper


def get_config() -> ConfigDict:
    """The paper's recipe with bare refinements."""
    config = dir_paper.get_config()
    config.model.graph = "none"
    config.model.transformer_blocks = 0
    config.model.planes = "none"
    return config
