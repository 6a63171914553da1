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
