"""Raw data sets: one reader for each folder layout, found by the table `SOURCES`.

A new layout is one file with a `frames.Reader` and one entry here.
"""

from __future__ import annotations

import os
import pathlib

from input_pipeline.sources.folder import FolderSplit
from input_pipeline.sources.frames import Reader
from input_pipeline.sources.intaghand import IntaghandSplit
from input_pipeline.sources.interhand import InterhandSplit
from input_pipeline.troubles import SourceError

SOURCES: dict[str, type[Reader]] = {
    "official": InterhandSplit,
    "IntagHand-processed": IntaghandSplit,
    "folder of photographs": FolderSplit,
}


def find_layout(source: str | os.PathLike) -> tuple[str, list[str]]:
    """Name of a raw folder's layout, a key of `SOURCES`, and its splits.

    Raises:
      SourceError: when the folder is missing, empty, of no known layout or without any split.
    """
    folder = pathlib.Path(source)
    if not folder.is_dir():
        raise SourceError(f"{folder} is no folder: give the one that holds annotations and images")
    for name, reader in SOURCES.items():
        splits = reader.splits(folder)
        if splits:
            return name, splits
        if splits is not None:
            raise SourceError(
                f"{folder} has no split: wanted annotations/train, annotations/val or "
                "annotations/test"
            )
    try:
        holds = ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "nothing"
    except OSError as error:
        raise SourceError(f"{folder} cannot be read: {error.strerror}") from None
    raise SourceError(
        f"{folder} holds {holds}; wanted the folders annotations and images of InterHand2.6M, "
        "train/anno and train/img of an IntagHand-processed copy, or annotations.json and images"
    )


def open_split(source: str | os.PathLike, split: str) -> Reader:
    """Reader of one split.

    Raises:
      SourceError: when its annotations cannot be read.
    """
    return SOURCES[find_layout(source)[0]](pathlib.Path(source), split)
