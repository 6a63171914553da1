"""What predict.py looks at: photos, videos, and the folders that hold them."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

PHOTO_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff", ".jp2", ".pgm", ".ppm"}
)
VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg"})


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


def unique_stem(name: str | os.PathLike, taken: set[str]) -> str:
    """A file's name without folder and suffix, numbered when it was used before (and noted)."""
    return _untaken(pathlib.Path(name).stem or "photo", taken)


def _untaken(stem: str, taken: set[str]) -> str:
    candidate, number = stem, 2
    while candidate in taken:
        candidate = f"{stem}_{number}"
        number += 1
    taken.add(candidate)
    return candidate


def is_video(path: str | os.PathLike) -> bool:
    """Whether a file's name says that it is a video."""
    return pathlib.Path(path).suffix.lower() in VIDEO_SUFFIXES


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Sorts frame9 before frame10."""
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts]


def find_sources(names: Sequence[str]) -> tuple[list[Source], list[str]]:
    """Files as they are given; of folders every photo and video in them and below, by name.

    Args:
      names: files and folders. A name that does not exist becomes a photo, whose reading fails.

    Returns:
      The photos and videos in order, and one plain line for every folder without any.
    """
    sources: list[Source] = []
    empty: list[str] = []
    taken: set[str] = set()
    for number, name in enumerate(names):
        if not os.path.isdir(name):
            sources.append(Source(str(name), unique_stem(name, taken), is_video(name), number))
            continue
        files = _files_below(name)
        if not files:
            empty.append(f"{name}: no photo or video in this folder")
        for file in files:
            stem = _untaken(str(pathlib.PurePath(file).with_suffix("")), taken)
            sources.append(Source(os.path.join(name, file), stem, is_video(file), number))
    return sources, empty


def _files_below(folder: str) -> list[str]:
    """Photos and videos below a folder, relative to it; hidden ones are left out."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in files:
            suffix = pathlib.PurePath(file).suffix.lower()
            if not file.startswith(".") and suffix in PHOTO_SUFFIXES | VIDEO_SUFFIXES:
                found.append(os.path.relpath(os.path.join(place, file), folder))
    return sorted(found, key=natural_order)
