"""The benchmark's table and its JSON."""

from __future__ import annotations

from typing import Any

GIGA = 1e9


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _scaled(value: float | None, unit: float, digits: int = 2) -> str:
    return "-" if value is None else f"{value / unit:.{digits}f}"


def _row(cells: list[str], widths: list[int]) -> str:
    first, *rest = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
    return "  ".join([cells[0].ljust(len(first)), *rest])


def table(rows: list[list[str]]) -> str:
    """Rows of cells, the first one the header, in columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(_row(row, widths) for row in rows)


def variants_table(mode: str, batch: int, variants: dict[str, dict[str, Any]]) -> str:
    """One line a variant: times, XLA's analysis, memory, difference from what it stands for."""
    header = ["variant", "seconds", "from", "to", "cold s", "cached s"]
    header += ["XLA GFLOP", "XLA GB", "peak GB", "difference"]
    rows = [header]
    for name, found in variants.items():
        apart = found["difference"]
        rows.append(
            [
                name,
                *(_seconds(found[key]) for key in ("seconds", "fastest_s", "slowest_s")),
                *(_seconds(found[key]) for key in ("compile_s", "compile_cached_s")),
                _scaled(found["xla_flops"], GIGA, 1),
                _scaled(found["xla_bytes"], GIGA),
                _scaled(found["peak_bytes"], GIGA),
                "-" if apart is None else f"{apart:.1e}",
            ]
        )
    return f"{mode}, batch {batch}\n{table(rows)}"


def reference_table(mode: str, ours: float, reference: dict[str, dict[str, Any]]) -> str:
    """One line for each way to run the PyTorch code, and ours as a share of it."""
    rows = [["PyTorch", "seconds", "from", "to", "first run s", "peak GB", "ours / theirs"]]
    for name, found in reference.items():
        rows.append(
            [
                name,
                *(_seconds(found[key]) for key in ("seconds", "fastest_s", "slowest_s")),
                _seconds(found["first_s"]),
                _scaled(found["peak_bytes"], GIGA),
                f"{ours / found['seconds']:.2f}",
            ]
        )
    return f"{mode}, the PyTorch code\n{table(rows)}"


def roofline(
    gflop: float, traffic_bytes: float | None, seconds: float, ceilings: dict[str, float]
) -> str:
    """How near a run comes to what the machine reaches at best."""
    rate = gflop / seconds
    share = rate / ceilings["matrix_gflop_s"]
    text = (
        f"roofline: {gflop:.1f} GFLOP in {seconds:.3f} s = {rate:.0f} GFLOP/s, {share:.0%} of the "
        f"{ceilings['matrix_gflop_s']:.0f} GFLOP/s of a large matrix product"
    )
    if traffic_bytes is not None:
        speed = traffic_bytes / GIGA / seconds
        text += (
            f"; at most {speed:.1f} GB/s of memory traffic by XLA's count, where a large copy "
            f"reaches {ceilings['memory_gb_s']:.1f}"
        )
    return text


def hands_table(rows: list[dict[str, Any]]) -> str:
    """Hand layers: milliseconds and times ours, by batch and mode."""
    lines = [["layer", "batch", "mode", "ms", "times ours", "difference"]]
    for row in rows:
        lines.append(
            [
                row["layer"],
                str(row["batch"]),
                row["mode"],
                f"{1e3 * row['seconds']:.2f}",
                f"{row['times_ours']:.1f}",
                f"{row['difference']:.1e}",
            ]
        )
    return "hand model, right hand, float32\n" + table(lines)


def contract(found: dict[str, Any]) -> dict[str, Any]:
    """The short form of one mode's results: ours, and PyTorch in its better memory format."""
    default = found["variants"]["default"]
    result = {
        "jax_s": default["seconds"],
        "jax_gflop_per_image": found["gflop_per_image"],
        "jax_compile_s": default["compile_s"],
        "jax_compile_cached_s": default["compile_cached_s"],
        "jax_peak_bytes": default["peak_bytes"],
    }
    for way in ("eager", "compile"):
        runs = [r for name, r in found["reference"].items() if name.startswith(way)]
        if runs:
            best = min(runs, key=lambda run: run["seconds"])
            result[f"torch_{way}_s"] = best["seconds"]
            if best["peak_bytes"] is not None:
                result[f"torch_{way}_peak_bytes"] = best["peak_bytes"]
    return result
