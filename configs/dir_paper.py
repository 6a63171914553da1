"""The paper's text: light attention, graph weights per joint (only they give its 55.1 M weights),
one plane per joint, four transformer blocks, mean square errors for the auxiliary maps.

    python train.py --config configs/dir_paper.py --workdir DIR --config.data.dir DATA

Published (Ren et al., ICCV 2023; InterHand2.6M test, wrist_scaled): MPJPE 10.49 mm, MPVPE 10.26
mm, MIAA 6.18 px, MRRPE 28.98 mm; mcp_scaled 7.51 / 7.72 mm, mcp_unscaled 8.70 / 9.06 mm;
interpenetration 4.14 cm^3. Give the encoder its ImageNet weights:
--config.train.imagenet_weights=resnet50.pth
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import dir_interhand


def get_config() -> ConfigDict:
    """The schedule of dir_interhand with the paper's architecture and losses."""
    return dir_interhand.get_config("paper")
