"""Looking into one split of a raw data set: what its annotations promise and its files hold."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import os
import pathlib
from typing import Any

import numpy as np
from tqdm import tqdm

from input_pipeline.annotations import annotation_path
from input_pipeline.dataset import HAND_CONFIGS
from input_pipeline.image_files import is_black, read_photo, safe_path
from input_pipeline.image_table import HAND_TYPES
from input_pipeline.interhand import OPTIONAL, REQUIRED, InterhandSplit
from input_pipeline.plan import Reader
from input_pipeline.sources import open_split
from input_pipeline.troubles import FrameTrouble, SourceError, Tally, Trouble
from input_pipeline.workers import processes

# InterHand2.6M v1.0, 5 fps: images, and those with two interacting hands.
OFFICIAL_IMAGES = {"train": 1_361_062, "val": 380_125, "test": 849_160}
OFFICIAL_INTERACTING = {"train": 673_514, "val": 145_942, "test": 360_192}
# After keeping valid interacting frames with both MANO hands that are not black.
OFFICIAL_USABLE = {"train": 366_358, "test": 261_000}

# Troubles that leave a frame usable all the same.
HARMLESS = {Trouble.IMAGE_SIZE_DIFFERS, Trouble.FIT_FAR_FROM_JOINTS}
# A fit whose joints lie further than this from the annotated ones on average is worth a word.
FAR_FIT_MM = 20.0
_CHUNK = 128


@dataclasses.dataclass
class SplitReport:
    """What was found in one split; `as_dict` is its JSON form.

    Attributes:
      split: its name.
      error: why it cannot be read at all, or "".
      annotation_files: kind to "ok" or what is wrong.
      images: number of images the annotations name.
      hand_types: how many of each annotated hand type.
      captures: captures the annotations name.
      missing_folders: capture and sequence folders named but not there.
      selections: configuration to {"kept": n, "dropped": {reason: n}}.
      tally: troubles of annotations.
      looked_at, usable_looked_at: images opened, and those of them that --config interacting keeps.
      image_tally: troubles of the images opened.
      bad_usable: images counted in `usable_looked_at` that cannot be used.
      complete: whether every image was opened.
      fits_compared: hands whose fit was compared with annotated joints.
    """

    split: str
    error: str = ""
    annotation_files: dict[str, str] = dataclasses.field(default_factory=dict)
    images: int = 0
    hand_types: dict[str, int] = dataclasses.field(default_factory=dict)
    captures: list[str] = dataclasses.field(default_factory=list)
    missing_folders: list[str] = dataclasses.field(default_factory=list)
    selections: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    tally: Tally = dataclasses.field(default_factory=Tally)
    looked_at: int = 0
    usable_looked_at: int = 0
    image_tally: Tally = dataclasses.field(default_factory=Tally)
    bad_usable: int = 0
    complete: bool = False
    fits_compared: int = 0

    @property
    def usable(self) -> int:
        """Frames training can use: exact after a complete run, else judged by the sample."""
        kept = self.selections.get("interacting", {}).get("kept", 0)
        if not self.usable_looked_at:
            return 0
        return round(kept * (1 - self.bad_usable / self.usable_looked_at))

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values for `--json`."""
        values = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if not isinstance(getattr(self, field.name), Tally)
        }
        for name in ("tally", "image_tally"):
            tally = getattr(self, name)
            values["annotation_troubles" if name == "tally" else "image_troubles"] = {
                str(reason): {"count": count, "examples": tally.examples.get(reason, [])}
                for reason, count in tally.counts.most_common()
            }
        official = {
            "images": OFFICIAL_IMAGES.get(self.split),
            "interacting": OFFICIAL_INTERACTING.get(self.split),
            "usable": OFFICIAL_USABLE.get(self.split),
        }
        return {**values, "usable": self.usable, "official": official}


def inspect_split(
    source: str | os.PathLike, split: str, *, sample: int | None, workers: int, hands=None
) -> SplitReport:
    """Inspects one split; writes nothing.

    Args:
      source: raw folder of either layout.
      split: its name.
      sample: images to open, spread evenly; None for all of them.
      workers: processes that open images.
      hands: MANO hands to compare fits with annotated joints, or None.
    """
    report = SplitReport(split)
    try:
        reader = open_split(source, split)
    except SourceError as error:
        report.error = str(error)
        report.annotation_files = _annotation_files(source, split, str(error))
        return report
    if isinstance(reader, InterhandSplit):
        _describe_annotations(report, reader)
    else:
        report.hand_types = {"interacting": len(reader)}
    report.images = len(reader)
    report.tally = reader.tally
    selections = {config: reader.select(config) for config in HAND_CONFIGS}
    for config, selection in selections.items():
        dropped = collections.Counter(reason for _, reason in selection.dropped)
        dropped = {str(reason): count for reason, count in dropped.items()}
        report.selections[config] = {"kept": len(selection.kept), "dropped": dropped}
    kept = np.array(selections["interacting"].kept, np.int64)
    chosen = _choose(len(reader), kept, sample)
    report.complete = len(chosen) == len(reader)
    _open_images(report, reader, chosen, set(kept.tolist()), workers)
    if hands is not None:
        _compare_fits(report, reader, np.intersect1d(chosen, kept), hands)
    return report


def _annotation_files(source, split: str, error: str) -> dict[str, str]:
    files = {}
    for kind in (*REQUIRED, *OPTIONAL):
        path = annotation_path(pathlib.Path(source), split, kind)
        files[kind] = error if str(path) in error else "ok" if path.is_file() else "missing"
    return files


def _describe_annotations(report: SplitReport, reader: InterhandSplit) -> None:
    report.annotation_files = {k: reader.missing.get(k, "ok") for k in (*REQUIRED, *OPTIONAL)}
    table = reader.images
    kinds, counts = np.unique(table.hand_type[table.annotated], return_counts=True)
    report.hand_types = {HAND_TYPES[k]: int(n) for k, n in zip(kinds, counts, strict=True)}
    report.captures = sorted(set(table.capture), key=lambda name: (len(name), name))
    # A half unpacked archive lacks whole folders: cheap to see without opening any image.
    folders = {name.rsplit("/", 2)[0] for name in table.file_name if name.count("/") >= 2}
    captures = {name.split("/", 1)[0] for name in folders}
    missing = []
    for name in [*sorted(captures), *sorted(folders)]:
        try:
            if (
                name.split("/", 1)[0] not in missing
                and not safe_path(reader.images_folder, name).is_dir()
            ):
                missing.append(name)
        except FrameTrouble:
            continue  # counted with its image
    report.missing_folders = missing
    _count_table_troubles(report, reader)


def _count_table_troubles(report: SplitReport, reader: InterhandSplit) -> None:
    annotated = np.flatnonzero(reader.images.annotated)
    if reader.joints is not None:
        absent = annotated[reader.joint_row[annotated] < 0]
        if len(absent) and not reader.tally.counts[Trouble.JOINTS_V0]:
            example = reader.file_name(int(absent[0]))
            reader.tally.add(Trouble.JOINTS_MISSING, example, len(absent))
    for index in annotated[~reader.camera_known[annotated]]:
        reader.tally.add(Trouble.CAMERA_MISSING, reader.file_name(index))


def _choose(count: int, kept: np.ndarray, sample: int | None) -> np.ndarray:
    """Image numbers to open: half of the sample from the usable ones, half from all."""
    if sample is None or sample >= count:
        return np.arange(count)
    every = np.linspace(0, count - 1, max(sample // 2, 1)).astype(np.int64)
    if not len(kept):
        return np.unique(every)
    places = np.linspace(0, len(kept) - 1, min(sample - sample // 2, len(kept))).astype(np.int64)
    return np.union1d(every, kept[places])


def _open_images(report: SplitReport, reader: Reader, chosen, kept: set[int], workers: int) -> None:
    tasks = [chosen[i : i + _CHUNK].tolist() for i in range(0, len(chosen), _CHUNK)]
    progress = tqdm(total=len(chosen), desc=f"{report.split}: images", unit="image", disable=None)
    folder = pathlib.Path(reader.images_folder)
    with progress, processes(workers, len(tasks)) as submit:
        waiting = {}
        for task in tasks:
            entries = [_entry(reader, index) for index in task]
            waiting[submit(look_at_images, folder, entries)] = task
            if len(waiting) >= 4 * workers:
                _collect(report, reader, waiting, kept, progress)
        while waiting:
            _collect(report, reader, waiting, kept, progress)


def _entry(reader: Reader, index: int) -> tuple[str, tuple[int, int], Trouble | None]:
    try:
        frame = reader.frame(index)
    except FrameTrouble as trouble:
        return reader.file_name(index), (0, 0), trouble.reason
    return frame.file_name, frame.size, None


def look_at_images(folder: pathlib.Path, entries: list) -> list[list[Trouble]]:
    """Troubles of each image; entries are (file name, annotated size, trouble found before)."""
    return [_look(folder, *entry) for entry in entries]


def _look(folder: pathlib.Path, name: str, size, known: Trouble | None) -> list[Trouble]:
    troubles = [known] if known else []
    try:
        photo = read_photo(safe_path(folder, name))
    except FrameTrouble as trouble:
        return [*troubles, trouble.reason]
    if is_black(photo):
        troubles.append(Trouble.IMAGE_BLACK)
    if any(size) and photo.shape[1::-1] != tuple(size):
        troubles.append(Trouble.IMAGE_SIZE_DIFFERS)
    return troubles


def _collect(report: SplitReport, reader: Reader, waiting: dict, kept: set[int], progress) -> None:
    first = concurrent.futures.FIRST_COMPLETED
    for future in concurrent.futures.wait(waiting, return_when=first).done:
        task = waiting.pop(future)
        for index, troubles in zip(task, future.result(), strict=True):
            report.looked_at += 1
            report.usable_looked_at += index in kept
            report.bad_usable += index in kept and not HARMLESS.issuperset(troubles)
            for reason in troubles:
                report.image_tally.add(reason, reader.file_name(index))
        progress.update(len(task))


def _compare_fits(report: SplitReport, reader: Reader, chosen: np.ndarray, hands) -> None:
    from input_pipeline.camera_space import hands_in_camera
    from mano_jax import joints_from_vertices
    from mano_jax.constants import SIDES

    for start in range(0, len(chosen), 1024):
        frames = []
        for index in chosen[start : start + 1024]:
            try:
                frames.append(reader.frame(int(index)))
            except FrameTrouble:
                continue
        if not frames:
            continue
        vertices = hands_in_camera(frames, hands).vertices_xyz
        for number, side in enumerate(SIDES):
            joints = np.asarray(joints_from_vertices(hands[side], vertices[:, number]))
            for frame, found in zip(frames, joints, strict=True):
                valid = frame.joint_valid[number]
                if not valid.any() or frame.fits[number] is None:
                    continue
                error = np.linalg.norm(found - frame.joints_xyz[number], axis=-1)[valid].mean()
                report.fits_compared += 1
                if 1000 * error > FAR_FIT_MM:
                    example = f"{frame.file_name} {side} {1000 * error:.0f} mm"
                    report.image_tally.add(Trouble.FIT_FAR_FROM_JOINTS, example)
