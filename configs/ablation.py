"""The rows of the paper's ablation tables, and each of them at a size for two CPU cores.

    python train.py --config configs/ablation.py:graph --workdir DIR --config.data.dir DATA
    python train.py --config configs/ablation.py:small-graph --workdir DIR
    python -m tools.ablations --workdir DIR --small --seeds 0 1 2

`ROWS` lists them with the figures published (Ren et al., ICCV 2023; InterHand2.6M test,
wrist_scaled). A row is dir_paper with a few fields changed; "small-" in front gives it small
widths, the quick start's synthesised data, and its learning rate in the same proportion.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from configs import dir_paper, quickstart

PARTS = "What each part brings"
BASELINE = "Row 1 without one of its parts"
STAGES = "Number of refinements T"
SMALL = "small-"
SMALL_NETWORK = {
    "encoder": "landmark",
    "landmark_widths": (0, 64, 128, 128),
    "landmark_blocks": 2,
    "feature_width": 32,
    "joint_width": 32,
    "plane_width": 16,
    "graph_layers": 2,
    "transformer_heads": 2,
}
SMALL_RATE = 2e-3
SMALL_STEPS = 1000
RATE = "optimizer.learning_rate"


class Row(NamedTuple):
    """One row of a table.

    Attributes:
      table: its title.
      label: what the row is.
      changes: fields of dir_paper, by name.
      mpjpe_mm: as published.
      mpvpe_mm: as published, None where it was not.
      miaa_px: likewise.
    """

    table: str
    label: str
    changes: Mapping[str, Any]
    mpjpe_mm: float
    mpvpe_mm: float | None = None
    miaa_px: float | None = None


_NO_GRAPH = {"model.graph": "none"}
_NO_TRANSFORMER = {"model.transformer_blocks": 0}
_NO_PLANES = {"model.planes": "none"}
_FIRST = {"model.stages": 0}  # the initial estimate alone
_NO_ATTENTION = {"model.attention": "none"}
_L1 = {"loss.distance": "l1"}
_NO_BLUR = {"data.augmentation.blur": 0.0}
_SMALLER_RATE = {RATE: 1e-4}  # IntagHand's, the paper's baseline; the paper does not state it

ROWS = {
    "no_refinement": Row(PARTS, "1 no refinement", _FIRST, 12.44, 12.11, 7.41),
    "corrections": Row(
        PARTS, "2 two corrections", _NO_GRAPH | _NO_TRANSFORMER | _NO_PLANES, 11.30, 11.03, 6.60
    ),
    "graph": Row(PARTS, "3 with graph network", _NO_TRANSFORMER | _NO_PLANES, 10.94, 10.75, 6.42),
    "transformer": Row(PARTS, "4 with transformer", _NO_GRAPH | _NO_PLANES, 10.98, 10.80, 6.45),
    "graph_transformer": Row(PARTS, "5 with both", _NO_PLANES, 10.73, 10.53, 6.31),
    "sfp": Row(PARTS, "6 and one plane (SFP)", {"model.planes": "sum"}, 10.68, 10.45, 6.27),
    "mhp": Row(PARTS, "7 and heat-maps (MHP)", {"model.planes": "heatmap"}, 10.65, 10.44, 6.27),
    "mfp": Row(PARTS, "8 and feature planes (MFP)", {}, 10.49, 10.26, 6.18),
    "no_attention": Row(BASELINE, "without attention", _FIRST | _NO_ATTENTION, 12.53),
    "l1": Row(BASELINE, "without smooth L1", _FIRST | _L1, 12.49),
    "no_blur": Row(BASELINE, "without motion blur", _FIRST | _NO_BLUR, 12.50),
    "smaller_rate": Row(BASELINE, "without the larger rate", _FIRST | _SMALLER_RATE, 12.79),
    "plain": Row(
        BASELINE,
        "without all four",
        _FIRST | _NO_ATTENTION | _L1 | _NO_BLUR | _SMALLER_RATE,
        13.01,
    ),
    "t1": Row(STAGES, "T = 1", {"model.stages": 1}, 10.95),
    "t2": Row(STAGES, "T = 2", {}, 10.49),
    "t3": Row(STAGES, "T = 3", {"model.stages": 3}, 10.44),
}
"""In the paper's order."""


def get_config(row: str = "mfp") -> ConfigDict:
    """The recipe of one row, a key of `ROWS`, or of "small-" and a key.

    Raises:
      ValueError: there is no such row.
    """
    name = row.removeprefix(SMALL)
    if name not in ROWS:
        raise ValueError(f"there is no ablation {name!r}; wanted one of {', '.join(ROWS)}")
    paper = dir_paper.get_config()
    config, changes = paper, dict(ROWS[name].changes)
    if row != name:
        config = quickstart.get_config()
        config.model, config.loss = paper.model, paper.loss
        config.model.update(SMALL_NETWORK)
        config.data.augmentation.blur = paper.data.augmentation.blur
        config.train.update(initial_checkpoint="", steps=SMALL_STEPS)
        config.optimizer.update(warmup_steps=50, encoder_factor=1.0)
        rate = changes.get(RATE, paper.optimizer.learning_rate)
        changes[RATE] = SMALL_RATE * rate / paper.optimizer.learning_rate
    config.update_from_flattened_dict(changes)
    return config
