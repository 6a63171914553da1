"""Row 1 of the ablation with plain L1 in place of smooth L1.

    python train.py --config configs/ablation_1_l1.py --workdir DIR --config.data.dir DATA

Published (paper, table of the baseline's parts): MPJPE 12.49 mm; row 1 has 12.44.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import ablation_1_no_refinement


def get_config() -> ConfigDict:
    """Row 1 with L1."""
    config = ablation_1_no_refinement.get_config()
    config.loss.distance = "l1"
    return config
