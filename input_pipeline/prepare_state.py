"""What a preparation leaves beside the shards: who works here, what is done, what was dropped."""

from __future__ import annotations

import collections
import contextlib
import csv
import fcntl
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
from collections.abc import Iterator

import numpy as np

from input_pipeline import dataset, shards
from input_pipeline.dataset import SPLITS, shard_name
from input_pipeline.dataset_writer import write_metadata
from input_pipeline.frames import Selection
from input_pipeline.troubles import SourceError, Trouble, printable
from mano_jax.constants import SIDES

STATE_FILE = "prepare.json"
_HAND_ARRAYS = (
    *("v_template", "shapedirs", "posedirs", "J_regressor", "lbs_weights"),
    *("hands_components", "hands_mean", "faces"),
)


def describe_hands(hands) -> dict[str, str]:
    """Name, licence and a digest of a hand pair, to compare what data and training use."""
    digest = hashlib.sha256()
    for side in SIDES:
        for name in _HAND_ARRAYS:
            digest.update(np.ascontiguousarray(getattr(hands[side], name), np.float64).tobytes())
    return {"name": hands.name, "licence": hands.licence, "sha256": digest.hexdigest()}


@contextlib.contextmanager
def lock(folder: pathlib.Path) -> Iterator[None]:
    """Lets one preparation at a time work in a folder; the lock ends with the process.

    Raises:
      SourceError: when another preparation holds it.
    """
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SourceError(
                f"another prepare is running into {folder}: wait for it or choose another --output"
            ) from None
        yield


class State:
    """prepare.json: the hands used and, for every finished split, its shards' notes."""

    def __init__(self, folder: pathlib.Path, hands, overwrite: bool):
        """Reads the state an earlier run left.

        Raises:
          SourceError: when it was made with other hands and `overwrite` is not given.
        """
        self.folder, self.overwrite = folder, overwrite
        self.hands = describe_hands(hands)
        self.splits: dict[str, dict] = {}
        try:
            stored = json.loads((folder / STATE_FILE).read_text())
            before = (stored["format"], stored["hands"]["sha256"])
            name, splits = stored["hands"]["name"], dict(stored["splits"])
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError):
            before, name, splits = None, "unknown hands", {}
        if before == (shards.FORMAT, self.hands["sha256"]):
            self.splits = splits
        elif overwrite:
            self._withdraw()
        else:
            raise SourceError(
                f"{folder} was prepared with {name}, now {hands.name}: add --overwrite to replace "
                "it or choose another --output"
            )

    def open_for_writing(self, split: str) -> None:
        """Called before a shard is made anew: a finished split is not half replaced unasked.

        Raises:
          SourceError: when the split is finished and `overwrite` was not given.
        """
        if split not in self.splits:
            return
        if not self.overwrite:
            raise SourceError(
                f"{self.folder} holds {split} made from other data or settings: add --overwrite "
                "to replace it or choose another --output"
            )
        del self.splits[split]
        self._withdraw()

    def _withdraw(self) -> None:
        # Readers must not meet a mixture of old and new shards.
        (self.folder / "dataset_info.json").unlink(missing_ok=True)
        self._save()

    def _save(self) -> None:
        content = {"format": shards.FORMAT, "hands": self.hands, "splits": self.splits}
        shards.write_text(self.folder / STATE_FILE, json.dumps(content, indent=1) + "\n")

    def finish(self, split: str, selection: Selection, notes: list[dict]) -> None:
        """Lists the dropped frames, then declares the split finished."""
        write_dropped(self.folder / f"dropped_{split}.csv", all_dropped(selection, notes))
        names = {shard_name(split, i, len(notes)) for i in range(len(notes))}
        pattern = re.compile(rf"{dataset.NAME}-{split}\.array_record-\d+-of-\d+")
        for path in self.folder.iterdir():
            if pattern.fullmatch(path.name) and path.name not in names:
                path.unlink()  # of an earlier preparation in other pieces
        self.splits[split] = {"records": sum(n["records"] for n in notes), "shards": notes}
        self._save()
        lengths = {
            name: [note["records"] for note in self.splits[name]["shards"]]
            for name in SPLITS
            if name in self.splits
        }
        write_metadata(self.folder, lengths)
        shutil.rmtree(self.work_folder(split))
        with contextlib.suppress(OSError):  # another split's unfinished notes may be there
            self.work_folder(split).parent.rmdir()

    def work_folder(self, split: str) -> pathlib.Path:
        """Where the notes of a split's shards wait until it is finished."""
        return self.folder / ".work" / split

    def begin(self, split: str) -> None:
        """Clears what a killed run was writing and puts a finished split's notes in place."""
        work = self.work_folder(split)
        work.mkdir(parents=True, exist_ok=True)
        for place in (self.folder, work):  # the lock says that nobody writes now
            for path in place.glob(".*.tmp"):
                path.unlink()
        for path in self.folder.glob(".metadata-*"):
            shutil.rmtree(path)
        for number, note in enumerate(self.splits.get(split, {}).get("shards", ())):
            path = work / f"{number:05d}.json"
            if not path.exists():
                shards.write_text(path, json.dumps(note))


def all_dropped(selection: Selection, notes: list[dict]) -> list[tuple[str, str]]:
    """(file name, reason) of every frame dropped by annotation, geometry or image."""
    dropped = [(name, str(reason)) for name, reason in selection.dropped]
    return dropped + [(name, reason) for note in notes for name, reason in note["dropped"]]


def write_dropped(path: str | os.PathLike, dropped: list[tuple[str, str]]) -> None:
    """Writes the list of dropped frames as CSV: file_name, reason."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file_name", "reason"])
    writer.writerows([printable(name), reason] for name, reason in dropped)
    shards.write_text(pathlib.Path(path), text.getvalue())


def split_report(split: str, images: int, selection: Selection, notes: list[dict]) -> str:
    """What became of a split's images, for people."""
    records = sum(note["records"] for note in notes)
    lines = [f"{split}: {records:,} of {images:,} images prepared in {len(notes)} shards"]
    if selection.other_type:
        lines.append(f"  {selection.other_type:9,}  other hand type (not part of this --config)")
    counts = collections.Counter(reason for _, reason in all_dropped(selection, notes))
    for reason, count in counts.most_common():
        lines.append(f"  {count:9,}  dropped: {reason}: {Trouble(reason).meaning}")
    kept = collections.Counter()
    for note in notes:
        kept.update(note["notes"])
    for reason, count in kept.most_common():
        lines.append(f"  {count:9,}  kept all the same: {reason}: {Trouble(reason).meaning}")
    return "\n".join(lines)
