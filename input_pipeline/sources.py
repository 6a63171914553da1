"""Which layout a raw folder has, and the reader for it."""

from __future__ import annotations

import os
import pathlib

from input_pipeline import folder as plain_folder
from input_pipeline import intaghand, interhand
from input_pipeline.troubles import SourceError

OFFICIAL, PROCESSED, FOLDER = "official", "IntagHand-processed", "folder of photographs"
_MODULES = {OFFICIAL: interhand, PROCESSED: intaghand, FOLDER: plain_folder}
_READERS = {
    OFFICIAL: interhand.InterhandSplit,
    PROCESSED: intaghand.IntaghandSplit,
    FOLDER: plain_folder.FolderSplit,
}


def layout(source: str | os.PathLike) -> str:
    """`OFFICIAL`, `PROCESSED` or `FOLDER`.

    Raises:
      SourceError: when the folder is missing, empty or of no known layout.
    """
    folder = pathlib.Path(source)
    if not folder.is_dir():
        raise SourceError(f"{folder} is no folder: give the one that holds annotations and images")
    if interhand.is_official(folder):
        return OFFICIAL
    if intaghand.is_processed(folder):
        return PROCESSED
    if plain_folder.is_folder(folder):
        return FOLDER
    try:
        holds = ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "nothing"
    except OSError as error:
        raise SourceError(f"{folder} cannot be read: {error.strerror}") from None
    raise SourceError(
        f"{folder} holds {holds}; wanted the folders annotations and images of InterHand2.6M, "
        "train/anno and train/img of an IntagHand-processed copy, or annotations.json and images"
    )


def splits_present(source: str | os.PathLike) -> list[str]:
    """Splits of a raw folder.

    Raises:
      SourceError: as `layout`, and when there is no split at all.
    """
    splits = _MODULES[layout(source)].splits_present(source)
    if not splits:
        raise SourceError(
            f"{source} has no split: wanted annotations/train, annotations/val or annotations/test"
        )
    return splits


def open_split(source: str | os.PathLike, split: str):
    """Reader of one split: see `plan.Reader`.

    Raises:
      SourceError: when its annotations cannot be read.
    """
    return _READERS[layout(source)](source, split)
