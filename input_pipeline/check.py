"""Says what a copy of InterHand2.6M holds, what is wrong with it and whether training can start.

    python -m input_pipeline.check --source RAW            # a sample of the images: a minute or two
    python -m input_pipeline.check --source RAW --complete # every image

Reads any of the layouts of `sources`, also incomplete ones, and writes nothing there. Exit status:
0 training can start, 1 it cannot, 2 the folder is no such data set.
"""

from __future__ import annotations

import argparse
import collections
import json
import pathlib
import sys
from typing import Any

import numpy as np
from tqdm import tqdm

from input_pipeline.commands import command
from input_pipeline.dataset import CONFIGS
from input_pipeline.files import write_json
from input_pipeline.image_files import is_black, read_photo, safe_path
from input_pipeline.sources import find_layout, open_split
from input_pipeline.sources.frames import Reader
from input_pipeline.sources.interhand import KINDS, annotation_path
from input_pipeline.troubles import FrameTrouble, SourceError, Tally, Trouble, printable
from input_pipeline.workers import available_cores, in_order

_SAMPLE = 2000
# InterHand2.6M v1.0, 5 fps: images, those with two interacting hands, and of these the valid ones
# with both MANO hands that are not black.
OFFICIAL = {
    "train": {"images": 1_361_062, "interacting": 673_514, "usable": 366_358},
    "val": {"images": 380_125, "interacting": 145_942},
    "test": {"images": 849_160, "interacting": 360_192, "usable": 261_000},
}
# Troubles that leave a frame usable all the same.
_HARMLESS = {Trouble.IMAGE_SIZE_DIFFERS, Trouble.FIT_FAR_FROM_JOINTS}
# A fit whose joints lie further than this from the annotated ones on average is worth a word.
FAR_FIT_MM = 20.0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m input_pipeline.check", description=__doc__.split("\n\n")[0]
    )
    add = parser.add_argument
    add("--source", required=True, help="raw folder, for example InterHand2.6M's")
    add("--sample", type=int, default=_SAMPLE, help=f"images opened a split (default {_SAMPLE})")
    add("--complete", action="store_true", help="open every image")
    add("--mano", help="folder with MANO files: also compares the fits with annotated joints")
    add("--json", metavar="FILE", help="write the findings as JSON; - for standard output")
    add("--workers", type=int, default=available_cores(), help="threads")
    options = parser.parse_args(arguments)
    for name in ("sample", "workers"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(options, name)}")
    return options


@command
def main(arguments: list[str]) -> int:
    """The command; returns its exit status."""
    options = _options(arguments)
    source = pathlib.Path(options.source)
    layout, splits = find_layout(source)
    written = pathlib.Path(options.json) if options.json not in (None, "-") else None
    if written and written.resolve().is_relative_to(source.resolve()):
        raise SourceError(f"--json {written} lies inside the source, which is not touched")
    hands = None
    if options.mano:
        from mano_jax import load_pair

        hands = load_pair(options.mano)
    sample = None if options.complete else options.sample
    reports = {}
    for split in splits:
        print(f"{split}: reading annotations", file=sys.stderr)
        reports[split] = inspect_split(source, split, sample, options.workers, hands)
    reasons = _obstacles(reports)
    findings = {
        "source": str(source),
        "layout": layout,
        "training_can_start": not reasons,
        "reasons": reasons,
        "splits": reports,
    }
    if written:
        write_json(written, findings)
    if options.json == "-":
        print(json.dumps(findings, indent=2))
    else:
        print(f"{source}: {layout} layout")
        for split, report in reports.items():
            print("\n".join(["", split, *_table(report)]))
        print("training cannot start" if reasons else "training can start")
        for reason in reasons:
            print(f"  {reason}")
    return 1 if reasons else 0


def inspect_split(source, split: str, sample: int | None, workers: int, hands=None) -> dict:
    """Inspects one split; writes nothing.

    Args:
      source: raw folder of any layout.
      split: its name.
      sample: images to open, spread evenly; None for all of them.
      workers: threads that open images.
      hands: MANO hands to compare fits with annotated joints, or None.

    Returns:
      What --json writes: {"error": why it cannot be read at all, "annotation_files": kind to "ok"
      or what is wrong}, and when it can be read images (named by the annotations), hand_types,
      captures, missing_folders, selections (kept and dropped by configuration), looked_at and
      usable_looked_at (images opened, and those of them that --config interacting keeps),
      bad_usable (of the latter, those that cannot be used), complete, fits_compared, usable
      (exact after a complete run, else judged by the sample), annotation_troubles and
      image_troubles (count and examples by reason), official (counts of the full data set).
    """
    try:
        reader = open_split(source, split)
    except SourceError as error:
        report = {"error": str(error), "annotation_files": {}}
        for kind in KINDS:
            path = annotation_path(source, split, kind)
            known = "ok" if path.is_file() else "missing"
            report["annotation_files"][kind] = str(error) if str(path) in str(error) else known
        return report
    report = {"annotation_files": {}, "captures": [], "missing_folders": [], **reader.describe()}
    selections = {config: reader.select(config) for config in CONFIGS}
    report |= {"error": "", "images": len(reader), "selections": {}}
    for config, selection in selections.items():
        dropped = collections.Counter(reason for _, reason in selection.dropped)
        report["selections"][config] = {"kept": len(selection.kept), "dropped": dict(dropped)}
    kept = np.array(selections["interacting"].kept, np.int64)
    chosen = _choose(len(reader), kept, sample)
    tally = Tally()
    report |= _open_images(reader, split, chosen, np.isin(chosen, kept), workers, tally)
    both = np.intersect1d(chosen, kept)
    compared = 0 if hands is None else _compare_fits(reader, both, hands, tally)
    seen = report["usable_looked_at"]
    return {
        **report,
        "complete": len(chosen) == len(reader),
        "fits_compared": compared,
        "usable": round(len(kept) * (1 - report["bad_usable"] / seen)) if seen else 0,
        "annotation_troubles": reader.tally.as_dict(),
        "image_troubles": tally.as_dict(),
        "official": OFFICIAL.get(split, {}),
    }


def _choose(count: int, kept: np.ndarray, sample: int | None) -> np.ndarray:
    """Image numbers to open: half of the sample from the usable ones, half from all."""
    if sample is None or sample >= count:
        return np.arange(count)
    every = np.linspace(0, count - 1, max(sample // 2, 1)).astype(np.int64)
    if not len(kept):
        return np.unique(every)
    places = np.linspace(0, len(kept) - 1, min(sample - sample // 2, len(kept))).astype(np.int64)
    return np.union1d(every, kept[places])


def _open_images(reader: Reader, split, chosen, usable, workers: int, tally: Tally) -> dict:
    """Opens the chosen images and counts their troubles."""

    def look(index: int) -> list[Trouble]:
        troubles, size = [], (0, 0)
        try:
            size = reader.frame(index).size
        except FrameTrouble as trouble:
            troubles.append(trouble.reason)
        try:
            photo = read_photo(safe_path(reader.images_folder, reader.file_names[index]))
        except FrameTrouble as trouble:
            return [*troubles, trouble.reason]
        if is_black(photo):
            troubles.append(Trouble.IMAGE_BLACK)
        if any(size) and photo.shape[1::-1] != tuple(size):
            troubles.append(Trouble.IMAGE_SIZE_DIFFERS)
        return troubles

    bad = 0
    found = in_order(look, chosen.tolist(), workers)
    found = tqdm(found, f"{split}: images", len(chosen), unit="image", disable=None)
    for index, is_usable, troubles in zip(chosen, usable, found, strict=True):
        bad += bool(is_usable) and not _HARMLESS.issuperset(troubles)
        for reason in troubles:
            tally.add(reason, reader.file_names[index])
    return {"looked_at": len(chosen), "usable_looked_at": int(usable.sum()), "bad_usable": bad}


def _compare_fits(reader: Reader, chosen: np.ndarray, hands, tally: Tally) -> int:
    """Compares MANO hands with annotated joints; returns how many were compared."""
    from input_pipeline.camera_space import hands_in_camera
    from mano_jax import joints_from_vertices
    from mano_jax.constants import SIDES

    compared = 0
    for start in range(0, len(chosen), 1024):
        frames = []
        for index in chosen[start : start + 1024]:
            try:
                frames.append(reader.frame(int(index)))
            except FrameTrouble:
                continue
        vertices = hands_in_camera(frames, hands).vertices_xyz if frames else np.zeros((0, 2))
        for number, side in enumerate(SIDES):
            joints = np.asarray(joints_from_vertices(hands[side], vertices[:, number]))
            for frame, found in zip(frames, joints, strict=True):
                valid = frame.joint_valid[number]
                if not valid.any() or frame.fits[number] is None:
                    continue
                error = np.linalg.norm(found - frame.joints_xyz[number], axis=-1)[valid].mean()
                compared += 1
                if 1000 * error > FAR_FIT_MM:
                    example = f"{frame.file_name} {side} {1000 * error:.0f} mm"
                    tally.add(Trouble.FIT_FAR_FROM_JOINTS, example)
    return compared


def _obstacles(reports: dict[str, dict]) -> list[str]:
    """What keeps training from starting: it needs usable frames in train, and in val or test."""
    usable = {split: report.get("usable", 0) for split, report in reports.items()}
    reasons = []
    if not usable.get("train"):
        reasons.append(_why_none(reports, "train"))
    if not usable.get("val") and not usable.get("test"):
        reasons.append(_why_none(reports, "test" if "test" in usable else "val"))
    for split, report in reports.items():
        far = report.get("image_troubles", {}).get(Trouble.FIT_FAR_FROM_JOINTS, {"count": 0})
        if 2 * far["count"] > report.get("fits_compared", 0):
            reasons.append(
                f"{split}: most hands lie far from their annotated joints: --mano must name the "
                "models that the annotations were made for, left and right not swapped"
            )
    return reasons


def _why_none(reports: dict[str, dict], split: str) -> str:
    if split not in reports:
        return f"{split}: there is no such split"
    if error := reports[split]["error"]:
        return f"{split}: {error}"
    missing = reports[split]["annotation_files"].get("MANO_NeuralAnnot", "ok")
    if missing != "ok":
        return (
            f"{split}: {missing}; the hand meshes to learn from are in it (InterHand2.6M site, "
            "'MANO_NeuralAnnot')"
        )
    return f"{split}: no usable frame with two hands; see what was dropped above"


def _table(report: dict[str, Any]) -> list[str]:
    """One split's findings as lines for people."""
    if report["error"]:
        return [f"  not readable: {report['error']}"]
    files, official = report["annotation_files"], report["official"]
    lines = [f"  {kind}: {state}" for kind, state in files.items() if state != "ok"]

    def row(count: int, what: str, beside: int | None = None) -> None:
        known = f"   (official: {beside:,})" if beside else ""
        lines.append(f"  {count:9,}  {what}{known}")

    def troubles(where: str, found: dict) -> None:
        if found:
            lines.append(f"  troubles {where}:")
        for reason, entry in found.items():
            row(entry["count"], f"  {reason}: {reason.meaning}")
            lines.append(f"                 for example {entry['examples'][0]}")

    row(report["images"], "images named", official.get("images"))
    for hand_type, count in sorted(report["hand_types"].items()):
        row(count, f"  {hand_type}", official.get(hand_type))
    if report["captures"]:
        lines.append(f"  captures: {printable(' '.join(report['captures']))}")
    if report["missing_folders"]:
        more = len(report["missing_folders"]) - 4
        more = f" and {more} more" if more > 0 else ""
        shown = printable(", ".join(report["missing_folders"][:4]))
        lines.append(f"  image folders missing: {shown}{more}")
    troubles("in the annotations", report["annotation_troubles"])
    row(report["looked_at"], f"images opened ({'all' if report['complete'] else 'a sample'})")
    troubles("in the images opened", report["image_troubles"])
    if report["fits_compared"]:
        row(report["fits_compared"], "fits compared with annotated joints")
    for config, selection in report["selections"].items():
        lines.append(f"  --config {config}: {selection['kept']:,} by annotation")
        for reason, count in selection["dropped"].items():
            row(count, f"  left out: {reason}")
    about = "" if report["complete"] else "about "
    row(report["usable"], f"{about}usable for training on two hands", official.get("usable"))
    return lines


if __name__ == "__main__":
    sys.exit(main())
