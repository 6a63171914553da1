r"""Row 1 of the ablation without attention: the map is averaged plainly.

    python train.py --config configs/ablation_1_no_attention.py --workdir DIR \
        --config.data.dir DATA

Published (paper, table of the baseline's parts): MPJPE 12.53 mm; row 1 has 12.44.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import ablation_1_no_refinement


def get_config() -> ConfigDict:
    """Row 1 with mean pooling."""
    config = ablation_1_no_refinement.get_config()
    config.model.attention = "none"
    return config
