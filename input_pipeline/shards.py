"""One shard of prepared data: read the photos, crop, encode, write. Runs in worker processes.

A shard's file and its note (a small JSON file: key, records, size, what was dropped) appear under
their names only when complete, the note last; a shard whose note carries the right key is done.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib

import numpy as np

from input_pipeline.crop import crop_image
from input_pipeline.dataset_writer import write_shard
from input_pipeline.image_files import is_black, read_photo, safe_path
from input_pipeline.records import MARGIN, STORED_SIZE, Record, encode_jpeg, serialize
from input_pipeline.troubles import FrameTrouble, Trouble

# Part of every shard's key: raise the first number when the same input shall give other bytes.
FORMAT = f"1, {STORED_SIZE} px"


@dataclasses.dataclass(frozen=True, eq=False)
class ShardJob:
    """What a worker needs to write one shard.

    Attributes:
      path: final name of the shard.
      note: final name of its note.
      images_folder: folder the records' file names are relative to.
      templates: records without images.
      dropped: (file name, reason) of frames already dropped from this shard.
      key: identifies the content; see `shard_key`.
    """

    path: pathlib.Path
    note: pathlib.Path
    images_folder: pathlib.Path
    templates: list[Record]
    dropped: list[tuple[str, str]]
    key: str


def shard_key(templates: list[Record], dropped: list[tuple[str, str]]) -> str:
    """A digest of everything that goes into a shard but the photos themselves."""
    digest = hashlib.sha256(FORMAT.encode())
    for template in templates:
        digest.update(serialize(template))
    digest.update(json.dumps(dropped).encode())
    return digest.hexdigest()


def finished(job: ShardJob) -> dict | None:
    """The note of an earlier run when it finished this very shard, else None."""
    try:
        note = json.loads(job.note.read_text())
        same = note["key"] == job.key and note["bytes"] == job.path.stat().st_size
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return note if same else None


def make_shard(job: ShardJob) -> dict:
    """Writes one shard and its note.

    Returns:
      The note: key, records, bytes, dropped [[file name, reason]], notes {reason: count}.

    Raises:
      OSError: when the disk is full or not writable.
    """
    dropped = [list(pair) for pair in job.dropped]
    notes: dict[str, int] = {}

    def records():
        for template in job.templates:
            try:
                record, differs = _with_image(template, job.images_folder)
            except FrameTrouble as trouble:
                dropped.append([template.file_name, str(trouble.reason)])
                continue
            if differs:
                reason = str(Trouble.IMAGE_SIZE_DIFFERS)
                notes[reason] = notes.get(reason, 0) + 1
            yield serialize(record)

    count = write_shard(job.path, records())
    note = {
        "key": job.key,
        "records": count,
        "bytes": job.path.stat().st_size,
        "dropped": dropped,
        "notes": notes,
    }
    write_text(job.note, json.dumps(note))
    return note


def _with_image(template: Record, folder: pathlib.Path) -> tuple[Record, bool]:
    photo = read_photo(safe_path(folder, template.file_name))
    if is_black(photo):
        raise FrameTrouble(Trouble.IMAGE_BLACK)
    size = np.array(photo.shape[1::-1])
    x, y, half_side = (float(value) for value in template.source_square)
    if not (-half_side < x < size[0] + half_side and -half_side < y < size[1] + half_side):
        raise FrameTrouble(Trouble.OUTSIDE_PHOTO)
    window = crop_image(photo, template.source_square, margin=MARGIN)
    record = dataclasses.replace(template, image=encode_jpeg(window), source_size=size)
    return record, bool(template.source_size.any() and (template.source_size != size).any())


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a small text file that appears only when complete."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
