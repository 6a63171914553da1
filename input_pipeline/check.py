"""Says what a copy of InterHand2.6M holds, what is wrong with it and whether training can start.

    python -m input_pipeline.check --source RAW            # a sample of the images: a minute or two
    python -m input_pipeline.check --source RAW --complete # every image

Reads the official layout (also incomplete) and the IntagHand-processed one, and writes nothing
there. Exit status: 0 training can start, 1 it cannot, 2 the folder is no such data set.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys

from input_pipeline import inspection
from input_pipeline.inspection import SplitReport, inspect_split
from input_pipeline.shards import write_text
from input_pipeline.sources import layout, splits_present
from input_pipeline.troubles import SourceError, Tally, printable
from input_pipeline.workers import available_cores

_SAMPLE = 2000


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    options = _options(arguments)
    try:
        return _run(options)
    except (SourceError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m input_pipeline.check", description=__doc__.split("\n\n")[0]
    )
    add = parser.add_argument
    add("--source", required=True, help="raw folder: official or IntagHand-processed layout")
    add("--sample", type=int, default=_SAMPLE, help=f"images opened a split (default {_SAMPLE})")
    add("--complete", action="store_true", help="open every image")
    add("--mano", help="folder with MANO files: also compares the fits with annotated joints")
    add("--json", metavar="FILE", help="write the findings as JSON; - for standard output")
    add("--workers", type=int, default=available_cores(), help="processes")
    options = parser.parse_args(arguments)
    for name in ("sample", "workers"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(options, name)}")
    return options


def _run(options: argparse.Namespace) -> int:
    source = pathlib.Path(options.source)
    kind = layout(source)
    if options.json and options.json != "-":
        target = pathlib.Path(options.json).resolve()
        if target.is_relative_to(source.resolve()):
            raise SourceError(f"--json {options.json} lies inside the source, which is not touched")
    hands = None
    if options.mano:
        import mano_jax

        try:
            hands = mano_jax.load_pair(options.mano)
        except mano_jax.HandError as error:
            raise SourceError(str(error)) from None
    reports = []
    for split in splits_present(source):
        print(f"{split}: reading annotations", file=sys.stderr)
        sample = None if options.complete else options.sample
        reports.append(
            inspect_split(source, split, sample=sample, workers=options.workers, hands=hands)
        )
    ready, reasons = verdict(reports)
    if options.json:
        findings = {
            "source": os.fspath(source),
            "layout": kind,
            "training_can_start": ready,
            "reasons": reasons,
            "splits": {report.split: report.as_dict() for report in reports},
        }
        text = json.dumps(findings, indent=1)
        if options.json == "-":
            print(text)
        else:
            write_text(pathlib.Path(options.json), text + "\n")
    if options.json != "-":
        print(f"{source}: {kind} layout")
        for report in reports:
            print("\n".join(table(report)))
        print("training can start" if ready else "training cannot start")
        for reason in reasons:
            print(f"  {reason}")
    return 0 if ready else 1


def verdict(reports: list[SplitReport]) -> tuple[bool, list[str]]:
    """Whether training can start, and what speaks against it (or is worth knowing).

    Training needs usable frames in train, and in val or test to measure with.
    """
    usable = {report.split: report.usable for report in reports}
    reasons = []
    if not usable.get("train"):
        reasons.append(_why_none(reports, "train"))
    if not usable.get("val") and not usable.get("test"):
        reasons.append(_why_none(reports, "test" if "test" in usable else "val"))
    return not reasons, reasons


def _why_none(reports: list[SplitReport], split: str) -> str:
    report = next((r for r in reports if r.split == split), None)
    if report is None:
        return f"{split}: there is no such split"
    if report.error:
        return f"{split}: {report.error}"
    missing = report.annotation_files.get("MANO_NeuralAnnot", "ok")
    if missing != "ok":
        return (
            f"{split}: {missing}; the hand meshes to learn from are in it (InterHand2.6M site, "
            "'MANO_NeuralAnnot')"
        )
    return f"{split}: no usable frame with two hands; see what was dropped above"


def table(report: SplitReport) -> list[str]:
    """One split's findings as lines for people."""
    lines = ["", report.split]
    if report.error:
        return [*lines, f"  not readable: {report.error}"]
    for kind, state in report.annotation_files.items():
        if state != "ok":
            lines.append(f"  {kind}: {state}")
    official = inspection.OFFICIAL_IMAGES.get(report.split)
    lines.append(_row(report.images, "images named", official))
    for hand_type, count in sorted(report.hand_types.items()):
        known = inspection.OFFICIAL_INTERACTING.get(report.split)
        lines.append(_row(count, f"  {hand_type}", known if hand_type == "interacting" else None))
    if report.captures:
        lines.append(f"  captures: {printable(' '.join(report.captures))}")
    if report.missing_folders:
        shown = printable(", ".join(report.missing_folders[:4]))
        more = len(report.missing_folders) - 4
        lines.append(f"  image folders missing: {shown}{f' and {more} more' if more > 0 else ''}")
    lines += _troubles("in the annotations", report.tally)
    how = "all" if report.complete else "a sample"
    lines.append(f"  {report.looked_at:9,}  images opened ({how})")
    lines += _troubles("in the images opened", report.image_tally)
    if report.fits_compared:
        lines.append(f"  {report.fits_compared:9,}  fits compared with annotated joints")
    for config, selection in report.selections.items():
        lines.append(f"  --config {config}: {selection['kept']:,} by annotation")
        for reason, count in selection["dropped"].items():
            lines.append(f"  {count:9,}    left out: {reason}")
    about = "" if report.complete else "about "
    known = inspection.OFFICIAL_USABLE.get(report.split)
    lines.append(_row(report.usable, f"{about}usable for training on two hands", known))
    return lines


def _row(count: int, what: str, official: int | None) -> str:
    beside = f"   (official: {official:,})" if official else ""
    return f"  {count:9,}  {what}{beside}"


def _troubles(where: str, tally: Tally) -> list[str]:
    if not tally.counts:
        return []
    lines = [f"  troubles {where}:"]
    for reason, count in tally.counts.most_common():
        lines.append(f"  {count:9,}    {reason}: {reason.meaning}")
        lines.append(f"                 for example {tally.examples[reason][0]}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
