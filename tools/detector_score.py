"""How well the detector's boxes fit annotated ones.

    python -m tools.detector_score --source RAW --split test

RAW is a folder in InterHand2.6M's layout.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from dir_jax.prediction.detection import HandDetector
from dir_jax.prediction.photos import Box, box_around, intersection_over_union, read_image
from input_pipeline.commands import command
from input_pipeline.json_files import iterate_arrays

GOOD = 0.5
"""Intersection over union from which a box counts as found."""


class Score(NamedTuple):
    """One photo.

    Attributes:
      name: of the file.
      kind: right, left or interacting.
      hands: how many were seen.
      overlap: intersection over union of the box around them with the annotated one, 0: none seen.
      covered: share of the annotated box inside the found one.
      milliseconds: that it took.
      right: chances of the hands seen to be right ones.
    """

    name: str
    kind: str
    hands: int
    overlap: float
    covered: float
    milliseconds: float
    right: tuple[float, ...]


def annotated_photos(
    raw: str | os.PathLike, split: str = "test"
) -> Iterator[tuple[pathlib.Path, str, Box]]:
    """Files, hand types and boxes of a folder in InterHand2.6M's layout."""
    base = pathlib.Path(raw)
    names: dict[object, str] = {}
    for key, entry in iterate_arrays(base / f"annotations/{split}/InterHand2.6M_{split}_data.json"):
        if key == "images":
            names[entry["id"]] = entry["file_name"]
        elif key == "annotations":
            path = base / "images" / split / names[entry["image_id"]]
            yield path, entry["hand_type"], tuple(entry["bbox"])


def score_photo(detector: HandDetector, path: pathlib.Path, kind: str, box: Box) -> Score:
    """Looks for hands in one photo and compares."""
    image = read_image(path)
    begin = time.perf_counter()
    hands = detector.hands(image)
    spent = 1000 * (time.perf_counter() - begin)
    right = tuple(hand.right for hand in hands)
    if not hands:
        return Score(path.name, kind, 0, 0.0, 0.0, spent, right)
    found = box_around(hand.box for hand in hands)
    low = np.maximum(found[:2], box[:2])
    high = np.minimum(np.add(found[:2], found[2:]), np.add(box[:2], box[2:]))
    covered = float(np.prod(np.maximum(high - low, 0)) / np.prod(box[2:]))
    overlap = intersection_over_union(found, box)
    return Score(path.name, kind, len(hands), overlap, covered, spent, right)


def summary(scores: Sequence[Score]) -> str:
    """A table: per kind of photo, how many were found and how well."""
    lines = [f"{'':12} photos  any hand  IoU>{GOOD}  mean IoU  covered  hands seen  median ms"]
    for kind in (*sorted({score.kind for score in scores}), "all"):
        some = [score for score in scores if kind in (score.kind, "all")]
        seen = np.array([score.hands > 0 for score in some])
        overlap = np.array([score.overlap for score in some])
        covered = np.array([score.covered for score in some])
        hands = np.mean([score.hands for score in some])
        spent = np.median([score.milliseconds for score in some])
        lines.append(
            f"{kind:12} {len(some):6d}  {seen.mean():8.1%}  {(overlap > GOOD).mean():7.1%}  "
            f"{overlap[seen].mean() if seen.any() else 0:8.2f}  "
            f"{covered[seen].mean() if seen.any() else 0:7.1%}  {hands:10.2f}  {spent:9.0f}"
        )
    return "\n".join(lines)


@command
def main(arguments: list[str]) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--source", required=True, help="folder in InterHand2.6M's layout")
    parser.add_argument("--split", default="test", help="default: test")
    parser.add_argument("--limit", type=int, help="photos (default: all)")
    options = parser.parse_args(arguments)
    detector, scores = HandDetector(), []
    for path, kind, box in annotated_photos(options.source, options.split):
        if options.limit and len(scores) >= options.limit:
            break
        scores.append(score_photo(detector, path, kind, box))
        last = scores[-1]
        print(f"{last.overlap:.2f} {last.hands} {last.kind:11} {path}", flush=True)
    if not scores:
        raise ValueError(f"{options.source}: no annotated photos of {options.split}")
    print(summary(scores))
    return 0


if __name__ == "__main__":
    sys.exit(main())
