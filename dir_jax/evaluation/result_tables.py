"""Results as text: every protocol in one table, with the published figures beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dir_jax.evaluation.metrics import PROTOCOLS
from dir_jax.evaluation.published import PUBLISHED

COLUMNS = {
    "MPJPE mm": "mpjpe_mm",
    "left": "mpjpe_left_mm",
    "right": "mpjpe_right_mm",
    "MPVPE mm": "mpvpe_mm",
    "joints px": "joint_px",
    "MIAA px": "miaa_px",
    "MRRPE mm": "mrrpe_mm",
    "AUC 0-50": "auc_0_50",
    "IV cm3": "interpenetration_cm3",
}


def _cell(value: float | None, column: str) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if column == "AUC 0-50" else f"{value:.2f}"


def _lines(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def protocol_rows(
    results: Mapping[str, Mapping[str, Any]], protocol: str
) -> tuple[list[list[str]], dict[str, str]]:
    """One protocol's table.

    Args:
      results: contents of `evaluation.json` by the name to print.
      protocol: a key of `PROTOCOLS`.

    Returns:
      Rows of cells, the first one the header; and the letter of each source of published figures.
    """
    rows = [[protocol, *COLUMNS, "samples"]]
    for name, result in results.items():
        values = {**result[protocol], "interpenetration_cm3": result.get("interpenetration_cm3")}
        cells = [_cell(values.get(key), column) for column, key in COLUMNS.items()]
        rows.append([name, *cells, str(values["samples"])])
        baseline = result.get("baseline_mean_hand")
        if baseline:
            cells = [_cell(baseline[protocol].get(key), column) for column, key in COLUMNS.items()]
            rows.append(["  mean hand", *cells, str(baseline[protocol]["samples"])])
    sources: dict[str, str] = {}
    for published in PUBLISHED:
        if published.protocol == protocol:
            letter = sources.setdefault(published.source, "abcdefgh"[len(sources)])
            cells = [_cell(published.values.get(key), column) for column, key in COLUMNS.items()]
            rows.append([f"{published.name} [{letter}]", *cells, ""])
    return rows, {letter: source for source, letter in sources.items()}


def source_line(letter: str, source: str) -> str:
    """What a letter behind a published row stands for."""
    return f"[{letter}] published, InterHand2.6M test: {source}"


def protocol_table(results: Mapping[str, Mapping[str, Any]], protocol: str) -> str:
    """One protocol's table as lines of text; published rows carry a letter, explained below."""
    rows, sources = protocol_rows(results, protocol)
    lines = _lines(rows)
    return "\n".join(lines + [f"  {source_line(*source)}" for source in sources.items()])


def all_tables(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The tables of every protocol, InterNet's last (see `protocol_table`)."""
    tables = [protocol_table(results, protocol) for protocol in PROTOCOLS]
    internet = _internet_table(results)
    return "\n\n".join(tables + ([internet] if internet else []))


def _internet_table(results: Mapping[str, Mapping[str, Any]]) -> str:
    rows = internet_rows(results)
    return "\n".join(_lines(rows)) if len(rows) > 1 else ""


def internet_rows(results: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """InterNet's protocol: rows of cells; only the header when nobody has annotated joints."""
    groups = ("single", "interacting", "all")
    header = ["internet (annotated joints)", *(f"{g} mm" for g in groups), "MRRPE mm", "samples"]
    rows = [header]
    for name, result in results.items():
        values = result.get("internet") or {}
        if values.get("all_samples"):
            cells = [_cell(values.get(f"{group}_mpjpe_mm"), "") for group in groups]
            cells.append(_cell(values.get("mrrpe_mm"), ""))
            rows.append([name, *cells, str(values["all_samples"])])
    return rows
