r"""Ablation, row 5: two refinements with graph network and transformer.

    python train.py --config configs/ablation_5_graph_transformer.py --workdir DIR \
        --config.data.dir DATA

Published (paper, ablation table; InterHand2.6M test, wrist_scaled): MPJPE 10.73 mm, MPVPE 10.53
mm, MIAA 6.31 px.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import dir_paper


def get_config() -> ConfigDict:
    """The paper's recipe without projection."""
    config = dir_paper.get_config()
    config.model.planes = "none"
    return config
