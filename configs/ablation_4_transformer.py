r"""Ablation, row 4: two refinements with the transformer.

    python train.py --config configs/ablation_4_transformer.py --workdir DIR \
        --config.data.dir DATA

Published (paper, ablation table; InterHand2.6M test, wrist_scaled): MPJPE 10.98 mm, MPVPE 10.80
mm, MIAA 6.45 px.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import dir_paper


def get_config() -> ConfigDict:
    """The paper's recipe without graph network and projection."""
    config = dir_paper.get_config()
    config.model.graph = "none"
    config.model.planes = "none"
    return config
