"""Prepares raw hand photographs as a TFDS data set: cropped once, parameters in camera axes.

    python -m input_pipeline.prepare --source RAW --output DATA

RAW has one of the layouts of `sources`, for example InterHand2.6M's. The result is
DATA/interhand26m/<config>/1.0.0 (see dataset.py). A run that was stopped resumes when it is
started again; docs/data.md describes formats and files.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import csv
import hashlib
import io
import json
import math
import pathlib
import shutil
import sys
from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from input_pipeline import dataset
from input_pipeline.commands import FAILED, STOPPED, command, one_line, status_of
from input_pipeline.dataset import CONFIGS, shard_name
from input_pipeline.files import locked_folder, write_bytes, write_json
from input_pipeline.sources import find_layout, open_split
from input_pipeline.sources.frames import SPLITS, Reader
from input_pipeline.troubles import SourceError, Trouble, printable
from input_pipeline.workers import available_cores, in_order

# The hand models and what poses them are imported in functions: --help and bad input are quick.

# Shards of about this many frames, but never more than _MAX_SHARDS of them a split.
_SHARD_SIZE = 256
_MAX_SHARDS = 256


@command
def main(arguments: list[str]) -> int:
    """The command; returns its exit status."""
    again = "finished shards are kept: run the same command again"
    try:
        return _run(_options(arguments))
    except OSError as error:
        if status_of(error) != FAILED:
            raise
        print(f"error: {one_line(error)}; make room; {again}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(f"stopped; {again}", file=sys.stderr)
        return STOPPED


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m input_pipeline.prepare", description=__doc__.split("\n\n")[0]
    )
    add = parser.add_argument
    add("--source", required=True, help="raw folder, for example InterHand2.6M's")
    add("--output", required=True, help="folder that receives interhand26m/<config>/1.0.0")
    add("--mano", help="folder with MANO_LEFT.pkl and MANO_RIGHT.pkl (default: the open hand)")
    add("--split", nargs="+", choices=SPLITS, help="default: every split the source has")
    add("--config", choices=CONFIGS, default="interacting", help="frames to take")
    add("--workers", type=int, default=available_cores(), help="threads")
    add("--shard_size", type=int, help="frames a file (default: by the number of frames)")
    add("--overwrite", action="store_true", help="replace data prepared with other settings")
    options = parser.parse_args(arguments)
    for name in ("workers", "shard_size"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name} must be at least 1, got {value}")
    return options


def _run(options: argparse.Namespace) -> int:
    _, present = find_layout(options.source)
    splits = sorted(options.split or present, key=SPLITS.index)
    for split in splits:
        if split not in present:
            raise SourceError(
                f"{options.source} has no split {split!r}; it has {', '.join(present)}"
            )
    hands = _hands(options.mano)
    folder = dataset.version_folder(options.output, options.config)
    folder.mkdir(parents=True, exist_ok=True)
    busy = f"another prepare is running into {folder}: wait for it or choose another --output"
    with locked_folder(folder, SourceError(busy)):
        state = State(options, hands)
        empty = [split for split in splits if not _prepare_split(split, options, hands, state)]
    total = sum(map(sum, state.lengths.values()))
    print(f"{folder}: {total:,} frames in {', '.join(state.lengths) or 'no split'}")
    if empty:
        raise SourceError(
            f"no frame of {' and '.join(empty)} in {options.source} could be used: see the counts "
            "above; run again when that is mended, or name other splits with --split"
        )
    return 0


def _hands(mano: str | None):
    import mano_jax

    hands = mano_jax.load_hands(mano)
    advice = (
        ". Right for synthesised data; annotations of the real InterHand2.6M belong to MANO: give "
        "its folder with --mano"
    )
    print(f"hands: {hands.name}{'' if mano else advice}")
    return hands


def _prepare_split(split: str, options: argparse.Namespace, hands, state: State) -> int:
    """Prepares one split; returns its number of records."""
    from input_pipeline.shards import make_shard

    print(f"{split}: reading annotations", flush=True)
    reader = open_split(options.source, split)
    if "MANO_NeuralAnnot" in reader.missing:
        raise SourceError(
            f"{reader.missing['MANO_NeuralAnnot']}; without it {split} has nothing to learn from: "
            "get it from the InterHand2.6M site, or leave the split out with --split"
        )
    for reason in reader.missing.values():
        print(f"{split}: {reason}; continuing without")
    selection = reader.select(options.config)
    size = options.shard_size or max(_SHARD_SIZE, math.ceil(len(selection.kept) / _MAX_SHARDS))
    groups = [selection.kept[i : i + size] for i in range(0, len(selection.kept), size)]
    planned = _planned(state, split, reader, groups, options.config, hands)
    dataset.import_libraries()
    notes = []
    with tqdm(total=len(selection.kept), desc=split, unit="image", disable=None) as progress:
        for note in in_order(lambda task: task[1] or make_shard(task[0]), planned, options.workers):
            notes.append(note)
            progress.update(note["records"] + len(note["dropped"]))
    records = sum(note["records"] for note in notes)
    dropped = selection.dropped + [tuple(pair) for note in notes for pair in note["dropped"]]
    if records:
        state.finish(split, notes, dropped)
    print(_report(split, len(reader), selection.other_type, notes, dropped))
    return records


def _planned(state: State, split: str, reader: Reader, groups, config, hands) -> Iterator:
    """(shard, its note if an earlier run has made it) of every group of frames."""
    from input_pipeline.shards import Shard, plan_records

    for number, indices in enumerate(groups):
        shard = Shard(
            state.folder / shard_name(split, number, len(groups)),
            state.folder / ".notes" / split / f"{number:05d}.json",
            pathlib.Path(reader.images_folder),
            *plan_records(reader, indices, config, hands),
        )
        note = shard.earlier_note()
        if note is None or not shard.is_done(note):
            state.open_for_writing(split, allowed=note is not None)
            note = None
        yield shard, note


def _report(split: str, images: int, other_type: int, notes: list, dropped: list) -> str:
    """What became of a split's images, for people."""
    records = sum(note["records"] for note in notes)
    lines = [f"{split}: {records:,} of {images:,} images prepared in {len(notes)} shards"]
    if other_type:
        lines.append(f"  {other_type:9,}  other hand type (not part of this --config)")
    kept = collections.Counter()
    for note in notes:
        kept.update(note["notes"])
    reasons = collections.Counter(reason for _, reason in dropped)
    for what, counts in (("dropped", reasons), ("kept all the same", kept)):
        for reason, count in counts.most_common():
            lines.append(f"  {count:9,}  {what}: {reason}: {Trouble(reason).meaning}")
    return "\n".join(lines)


class State:
    """A version folder between runs; .notes/<split> keeps a note of every shard that was made.

    Attributes:
      folder: the version folder.
      lengths: records per shard of every finished split.
    """

    def __init__(self, options: argparse.Namespace, hands):
        """Reads the state an earlier run left and clears what a killed one was writing.

        Raises:
          SourceError: when it was made with other hands and --overwrite is not given.
        """
        from input_pipeline.shards import FORMAT

        self._overwrite = options.overwrite
        self.folder = folder = dataset.version_folder(options.output, options.config)
        for path in (*folder.glob(".[!l]*"), *folder.glob(".notes/*/.*")):
            if path.is_file():  # the lock says that nobody writes now
                path.unlink()
            elif path.name.startswith(".metadata-"):
                shutil.rmtree(path)
        self.lengths: dict[str, list[int]] = {}
        with contextlib.suppress(dataset.DatasetError):
            self.lengths = dataset.split_lengths(options.output, options.config)
        described = _describe(hands)
        try:
            before = json.loads((folder / "prepare.json").read_text())
            name, digest = before["hands"]["name"], before["hands"]["sha256"]
            same = (before["format"], digest) == (FORMAT, described["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            same, name = not self.lengths, "unknown hands"
        if not (same or self._overwrite):
            raise SourceError(
                f"{folder} was prepared with {name}, now {hands.name}: add --overwrite to replace "
                "it or choose another --output"
            )
        if not same:
            self._withdraw(*self.lengths)
        write_json(folder / "prepare.json", {"format": FORMAT, "hands": described})

    def open_for_writing(self, split: str, allowed: bool) -> None:
        """Called before a shard is made: a finished split is not half replaced unasked.

        Raises:
          SourceError: when the split is finished and neither `allowed` nor --overwrite given.
        """
        if split in self.lengths and not (allowed or self._overwrite):
            raise SourceError(
                f"{self.folder} holds {split} made from other data or settings: add --overwrite "
                "to replace it or choose another --output"
            )
        self._withdraw(split)

    def _withdraw(self, *splits: str) -> None:
        """Readers must not meet a mixture of old and new shards."""
        if not any([self.lengths.pop(split, None) for split in splits]):
            return
        if self.lengths:
            dataset.write_metadata(self.folder, self.lengths)
        else:
            (self.folder / "dataset_info.json").unlink(missing_ok=True)

    def finish(self, split: str, notes: list[dict], dropped: list[tuple[str, str]]) -> None:
        """Lists the dropped frames, then declares the split finished."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["file_name", "reason"])
        writer.writerows([printable(name), reason] for name, reason in dropped)
        write_bytes(self.folder / f"dropped_{split}.csv", text.getvalue().encode())
        names = {shard_name(split, i, len(notes)) for i in range(len(notes))}
        for path in self.folder.glob(f"{dataset.NAME}-{split}.array_record-*-of-*"):
            if path.name not in names:
                path.unlink()  # of an earlier preparation in other pieces
        self.lengths[split] = [note["records"] for note in notes]
        self.lengths = {name: self.lengths[name] for name in SPLITS if name in self.lengths}
        dataset.write_metadata(self.folder, self.lengths)


def _describe(hands) -> dict[str, str]:
    """Name, licence and a digest of a hand pair, as in prepare.json."""
    import jax

    digest = hashlib.sha256()
    for array in jax.tree.leaves((hands.left, hands.right)):
        digest.update(np.ascontiguousarray(array, np.float64).tobytes())
    return {"name": hands.name, "licence": hands.licence, "sha256": digest.hexdigest()}


if __name__ == "__main__":
    sys.exit(main())
