"""Ablation, row 3: two refinements with the graph network.

    python train.py --config configs/ablation_3_graph.py --workdir DIR --config.data.dir DATA

Published (paper, ablation table; InterHand2.6M test, wrist_scaled): MPJPE 10.94 mm, MPVPE 10.75
mm, MIAA 6.42 px.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import dir_paper


def get_config() -> ConfigDict:
    """The paper's recipe without transformer and projection."""
    config = dir_paper.get_config()
    config.model.transformer_blocks = 0
    config.model.planes = "none"
    return config
