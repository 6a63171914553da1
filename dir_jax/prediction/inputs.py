"""What predict.py looks at: photos, videos and folders of them; what its results are called."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from dir_jax.prediction.photos import PHOTO_SUFFIXES

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg"})
RESULT_MARK = ".hands."
"""In the name of every file that predict.py writes, and of no file that it reads."""
LONGEST_STEM = 180
"""Bytes of a result's name before the mark; file systems end at 255."""


class Source(NamedTuple):
    """One photo or video.

    Attributes:
      path: the file.
      stem: what the names of its results begin with; below a folder that was given it holds the
        subfolders too, so that results lie as the photos do.
      video: whether it has frames.
      argument: which of the given names it comes from, counted from 0.
    """

    path: str
    stem: str
    video: bool
    argument: int


def find_sources(names: Sequence[str]) -> tuple[list[Source], list[str]]:
    """Files as they are given; of folders every photo and video in them and below, by name.

    Results of predict.py itself (`RESULT_MARK`) are left out of folders, and refused by name: so
    that no result can ever take the place of an input.

    Args:
      names: files and folders. A name that does not exist becomes a photo, whose reading fails.

    Returns:
      The photos and videos in order, and one plain line for every name that gives none.
    """
    sources: list[Source] = []
    useless: list[str] = []
    taken: set[str] = set()
    for number, name in enumerate(names):
        if os.path.isdir(name):
            files = _files_below(name)
            if not files:
                useless.append(f"{name}: no photo or video in this folder")
            for file in files:
                stem = _untaken(str(pathlib.PurePath(file).with_suffix("")), taken)
                sources.append(Source(os.path.join(name, file), stem, _is_video(file), number))
        elif RESULT_MARK in os.path.basename(name):
            useless.append(f"{name}: a result of predict.py by its name; rename it to use it")
        else:
            stem = _untaken(pathlib.PurePath(name).stem, taken)
            sources.append(Source(str(name), stem, _is_video(name), number))
    return sources, useless


def result_path(folder: str | os.PathLike, stem: str, ending: str) -> pathlib.Path:
    """FOLDER/STEM.hands.ENDING."""
    return pathlib.Path(folder) / f"{stem}{RESULT_MARK}{ending}"


def _untaken(stem: str, taken: set[str]) -> str:
    """The stem, shortened to what file systems take and numbered if it was used before."""
    folder, name = os.path.split(stem)
    name = name.encode(errors="surrogateescape")[:LONGEST_STEM].decode(errors="ignore") or "photo"
    candidate, number = os.path.join(folder, name), 2
    while candidate.lower() in taken:  # some file systems do not tell a.jpg from A.jpg
        candidate = os.path.join(folder, f"{name}_{number}")
        number += 1
    taken.add(candidate.lower())
    return candidate


def _is_video(name: str) -> bool:
    return pathlib.PurePath(name).suffix.lower() in VIDEO_SUFFIXES


def _natural_order(name: str) -> list[tuple[int, int, str]]:
    """Sorts frame9 before frame10."""
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts]


def _files_below(folder: str) -> list[str]:
    """Photos and videos below a folder, relative to it; neither hidden ones nor results."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in files:
            known = pathlib.PurePath(file).suffix.lower() in PHOTO_SUFFIXES | VIDEO_SUFFIXES
            if known and not file.startswith(".") and RESULT_MARK not in file:
                found.append(os.path.relpath(os.path.join(place, file), folder))
    return sorted(found, key=_natural_order)
