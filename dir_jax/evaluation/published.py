"""Published figures on the test split of InterHand2.6M, to stand beside measured ones."""

from __future__ import annotations

from typing import NamedTuple

PAPER = "Ren et al., ICCV 2023"
CODE = "authors' released checkpoint, github.com/PengfeiRen96/DIR"


class Published(NamedTuple):
    """One row of figures.

    Attributes:
      name: of the system.
      protocol: a key of `dir_jax.evaluation.metrics.PROTOCOLS`.
      values: figures by key of `evaluation.json`.
      source: where they were published.
    """

    name: str
    protocol: str
    values: dict[str, float]
    source: str


PUBLISHED = (
    Published(
        "DIR (checkpoint)",
        "wrist_scaled",
        {
            "mpjpe_mm": 10.228,
            "mpjpe_left_mm": 10.733,
            "mpjpe_right_mm": 9.722,
            "mpvpe_mm": 10.000,
            "joint_px": 6.086,
            "miaa_px": 6.002,
            "mrrpe_mm": 29.26,
        },
        CODE,
    ),
    Published(
        "DIR (paper)",
        "wrist_scaled",
        {
            "mpjpe_mm": 10.49,
            "mpvpe_mm": 10.26,
            "miaa_px": 6.18,
            "mrrpe_mm": 28.98,
            "interpenetration_cm3": 4.14,
        },
        PAPER,
    ),
    Published("DIR (paper)", "mcp_scaled", {"mpjpe_mm": 7.51, "mpvpe_mm": 7.72}, PAPER),
    Published("DIR (paper)", "mcp_unscaled", {"mpjpe_mm": 8.70, "mpvpe_mm": 9.06}, PAPER),
    Published("IntagHand", "wrist_scaled", {"interpenetration_cm3": 4.37}, PAPER),
)


class Ablation(NamedTuple):
    """One row of the paper's ablation tables (InterHand2.6M test, wrist_scaled).

    Attributes:
      table: a key of `ABLATION_TABLES`.
      label: what the row is.
      recipe: that trains it, configs/RECIPE.py.
      values: published figures by key of `evaluation.json`.
      source: where they were published.
    """

    table: str
    label: str
    recipe: str
    values: dict[str, float]
    source: str = PAPER


ABLATION_TABLES = {
    "parts": "What each part brings",
    "row1": "Row 1 without one of its parts",
    "stages": "Number of refinements T",
}


def _part(label: str, recipe: str, mpjpe: float, mpvpe: float, miaa: float) -> Ablation:
    values = {"mpjpe_mm": mpjpe, "mpvpe_mm": mpvpe, "miaa_px": miaa}
    return Ablation("parts", label, recipe, values)


ABLATIONS = (
    _part("1 no refinement", "ablation_1_no_refinement", 12.44, 12.11, 7.41),
    _part("2 two corrections", "ablation_2_corrections", 11.30, 11.03, 6.60),
    _part("3 with graph network", "ablation_3_graph", 10.94, 10.75, 6.42),
    _part("4 with transformer", "ablation_4_transformer", 10.98, 10.80, 6.45),
    _part("5 with both", "ablation_5_graph_transformer", 10.73, 10.53, 6.31),
    _part("6 and one plane (SFP)", "ablation_6_sfp", 10.68, 10.45, 6.27),
    _part("7 and heat-maps (MHP)", "ablation_7_mhp", 10.65, 10.44, 6.27),
    _part("8 and feature planes (MFP)", "ablation_8_mfp", 10.49, 10.26, 6.18),
    Ablation("row1", "row 1", "ablation_1_no_refinement", {"mpjpe_mm": 12.44}),
    Ablation("row1", "without attention", "ablation_1_no_attention", {"mpjpe_mm": 12.53}),
    Ablation("row1", "without smooth L1", "ablation_1_l1", {"mpjpe_mm": 12.49}),
    Ablation("row1", "without motion blur", "ablation_1_no_blur", {"mpjpe_mm": 12.50}),
    Ablation("row1", "without the larger rate", "ablation_1_smaller_rate", {"mpjpe_mm": 12.79}),
    Ablation("row1", "without all four", "ablation_1_none", {"mpjpe_mm": 13.01}),
    Ablation("stages", "T = 1", "ablation_t1", {"mpjpe_mm": 10.95}),
    Ablation("stages", "T = 2", "ablation_t2", {"mpjpe_mm": 10.49}),
    Ablation("stages", "T = 3", "ablation_t3", {"mpjpe_mm": 10.44}),
)
"""In the paper's order."""
