"""Results as text: tables with the published figures beside, and a row for each sample (CSV)."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dir_jax.evaluation.internet import GROUPS
from dir_jax.evaluation.metrics import shown_in
from dir_jax.evaluation.protocols import PROTOCOLS
from input_pipeline.files import whole_file
from mano_jax.constants import SIDES

IDENTITY = ("file_name", "capture", "sequence", "camera_name", "frame", "hand_type")
"""Columns that say which photograph a sample is (fields of `input_pipeline.dataset.Record`)."""

Results = Mapping[str, Mapping[str, Any]]
"""Contents of `evaluation.json` by the name to print."""


_PAPER = "Ren et al., ICCV 2023"
_CODE = "authors' released checkpoint, github.com/PengfeiRen96/DIR"
PUBLISHED = (
    (
        *("DIR (checkpoint)", _CODE, "wrist_scaled"),
        {"mpjpe_mm": 10.228, "mpjpe_left_mm": 10.733, "mpjpe_right_mm": 9.722, "mpvpe_mm": 10.0,
         "joint_px": 6.086, "miaa_px": 6.002, "mrrpe_mm": 29.26},
    ),
    (
        *("DIR (paper)", _PAPER, "wrist_scaled"),
        {"mpjpe_mm": 10.49, "mpvpe_mm": 10.26, "miaa_px": 6.18, "mrrpe_mm": 28.98,
         "interpenetration_cm3": 4.14},
    ),
    ("DIR (paper)", _PAPER, "mcp_scaled", {"mpjpe_mm": 7.51, "mpvpe_mm": 7.72}),
    ("DIR (paper)", _PAPER, "mcp_unscaled", {"mpjpe_mm": 8.70, "mpvpe_mm": 9.06}),
    ("IntagHand", _PAPER, "wrist_scaled", {"interpenetration_cm3": 4.37}),
)  # fmt: skip
"""Figures on the test split of InterHand2.6M, to stand beside measured ones: the system, where they
were published, the protocol, and figures by key of `evaluation.json`."""


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([row[0].ljust(len(first)), *rest]).rstrip())
    return "\n".join(lines)


def table_columns() -> dict[str, str]:
    """Keys of `evaluation.json` by heading: the columns of a protocol's table."""
    columns = {}
    for metric in shown_in("table"):
        columns[metric.heading] = metric.key()
        if "sides" in metric.shown:
            columns |= {side: metric.key(side) for side in SIDES}
    return columns


def cell(value: float | None, key: str = "") -> str:
    """A figure as text; an area under a curve has more places."""
    if value is None:
        return "-"
    return f"{value:.4f}" if key.startswith("auc") else f"{value:.2f}"


def protocol_rows(results: Results, protocol: str) -> tuple[list[list[str]], list[str]]:
    """One protocol's table.

    Args:
      results: contents of `evaluation.json` by the name to print.
      protocol: a key of `PROTOCOLS`.

    Returns:
      Rows of cells, the first one the header; and a line on each source of published figures.
    """
    columns = table_columns()

    def row(name: str, values: Mapping[str, Any]) -> list[str]:
        cells = [cell(values.get(key), key) for key in columns.values()]
        return [name, *cells, str(values.get("samples", ""))]

    rows = [[protocol, *columns, "samples"]]
    for name, result in results.items():
        rows.append(row(name, {**result, **result[protocol]}))
        if baseline := result.get("baseline_mean_hand"):
            rows.append(row("  mean hand", baseline[protocol]))
    sources: dict[str, str] = {}
    for name, source, published, values in PUBLISHED:
        if published == protocol:
            letter = sources.setdefault(source, "abcdefgh"[len(sources)])
            rows.append(row(f"{name} [{letter}]", values))
    notes = [f"[{a}] published, InterHand2.6M test: {source}" for source, a in sources.items()]
    return rows, notes


def internet_rows(results: Results) -> list[list[str]]:
    """InterNet's protocol: rows of cells; only the header when nobody has annotated joints."""
    header = ["internet (annotated joints)", *(f"{g} mm" for g in GROUPS), "MRRPE mm", "samples"]
    rows = [header]
    for name, result in results.items():
        values = result.get("internet") or {}
        if values.get("all_samples"):
            keys = [*(f"{group}_mpjpe_mm" for group in GROUPS), "mrrpe_mm"]
            cells = [cell(values.get(key)) for key in keys]
            rows.append([name, *cells, str(values["all_samples"])])
    return rows


def all_tables(results: Results) -> str:
    """The tables of every protocol, InterNet's last; letters of published rows are explained."""
    tables = []
    for protocol in PROTOCOLS:
        rows, notes = protocol_rows(results, protocol)
        tables.append("\n  ".join([text_table(rows), *notes]))
    rows = internet_rows(results)
    return "\n\n".join(tables + ([text_table(rows)] if len(rows) > 1 else []))


def identity_row(identity: Any) -> list[Any]:
    """Values of `IDENTITY`; a bare name is the file's."""
    if isinstance(identity, str):
        return [identity, *[""] * (len(IDENTITY) - 1)]
    return [getattr(identity, name) for name in IDENTITY]


def write_samples(
    path: str | os.PathLike,
    columns: Mapping[str, np.ndarray],
    identities: Sequence[Sequence[Any]] | None = None,
) -> None:
    """Writes the per-sample table, whole or not at all.

    Args:
      path: the CSV file.
      columns: (N,) each, "index" first; NaN becomes an empty cell.
      identities: (N, 6) values of `IDENTITY`, or None.
    """
    index, *figures = columns.values()
    with whole_file(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["index", *(IDENTITY if identities else ()), *list(columns)[1:]])
        for row, number in enumerate(index.tolist()):
            numbers = ["" if np.isnan(values[row]) else f"{values[row]:.6g}" for values in figures]
            writer.writerow([number, *(identities[row] if identities else ()), *numbers])
