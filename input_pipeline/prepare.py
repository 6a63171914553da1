"""Prepares raw hand photographs as a TFDS data set: cropped once, parameters in camera axes.

    python -m input_pipeline.prepare --source RAW --output DATA

RAW is InterHand2.6M in its official layout, or the form IntagHand's preparation leaves. The result
is DATA/interhand26m/<config>/1.0.0 (see dataset.py). A run that was stopped goes on where it was
when started again; docs/data.md describes formats and files.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import math
import pathlib
import sys
from collections.abc import Iterator

from tqdm import tqdm

from input_pipeline import dataset, shards
from input_pipeline.dataset import HAND_CONFIGS, SPLITS, shard_name
from input_pipeline.prepare_state import State, lock, split_report
from input_pipeline.sources import open_split, splits_present
from input_pipeline.troubles import SourceError
from input_pipeline.workers import available_cores, processes

# Shards of about this many frames, but never more than _MAX_SHARDS of them a split.
_SHARD_SIZE = 256
_MAX_SHARDS = 256


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    options = _options(arguments)
    try:
        return _run(options)
    except SourceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"error: {error}; finished shards are kept: make room or repair the folder, then run "
            "the same command again",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("stopped; finished shards are kept: run the same command again", file=sys.stderr)
        return 130


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m input_pipeline.prepare", description=__doc__.split("\n\n")[0]
    )
    add = parser.add_argument
    add("--source", required=True, help="raw folder: official or IntagHand-processed layout")
    add("--output", required=True, help="folder that receives interhand26m/<config>/1.0.0")
    add("--mano", help="folder with MANO_LEFT.pkl and MANO_RIGHT.pkl (default: the open hand)")
    add("--split", nargs="+", choices=SPLITS, help="default: every split the source has")
    add("--config", choices=HAND_CONFIGS, default="interacting", help="frames to take")
    add("--subset", choices=("full", "small"), default="full", help="small: one frame in twenty")
    add("--fit_missing", action="store_true", help="fit MANO to joints where its parameters lack")
    add("--workers", type=int, default=available_cores(), help="processes")
    add("--shard_size", type=int, help="frames a file (default: by the number of frames)")
    add("--overwrite", action="store_true", help="replace data prepared with other settings")
    options = parser.parse_args(arguments)
    for name in ("workers", "shard_size"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name} must be at least 1, got {value}")
    return options


def _run(options: argparse.Namespace) -> int:
    present = splits_present(options.source)
    splits = options.split or present
    for split in splits:
        if split not in present:
            raise SourceError(
                f"{options.source} has no split {split!r}; it has {', '.join(present)}"
            )
    hands = _hands(options.mano)
    name = options.config + ("_small" if options.subset == "small" else "")
    folder = dataset.version_folder(options.output, name)
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder):
        state = State(folder, hands, options.overwrite)
        for split in sorted(splits, key=SPLITS.index):
            _prepare_split(split, options, hands, state)
    total = sum(entry["records"] for entry in state.splits.values())
    print(f"{folder}: {total:,} frames in {', '.join(state.splits) or 'no split'}")
    if not total:
        raise SourceError(f"no frame of {options.source} could be used: see the counts above")
    return 0


def _hands(mano: str | None):
    import mano_jax

    if mano is None:
        hands = mano_jax.open_hands()
        print(
            f"hands: {hands.name}. Right for synthesised data; annotations of the real "
            "InterHand2.6M belong to MANO: give its folder with --mano"
        )
        return hands
    try:
        hands = mano_jax.load_pair(mano)
    except (mano_jax.HandError, OSError) as error:
        raise SourceError(str(error)) from None
    print(f"hands: {hands.name}")
    return hands


def _prepare_split(split: str, options: argparse.Namespace, hands, state: State) -> None:
    from input_pipeline.fit_missing import MissingFits
    from input_pipeline.plan import in_small_subset

    print(f"{split}: reading annotations", flush=True)
    reader = open_split(options.source, split)
    if "MANO_NeuralAnnot" in reader.missing and not options.fit_missing:
        raise SourceError(
            f"{reader.missing['MANO_NeuralAnnot']}; without it {split} has nothing to learn from: "
            "get it from the InterHand2.6M site, leave the split out with --split, or fit the "
            "joints with --fit_missing"
        )
    for reason in reader.missing.values():
        print(f"{split}: {reason}; going on without")
    selection = reader.select(options.config, options.fit_missing)
    if options.subset == "small":
        selection.kept = [i for i in selection.kept if in_small_subset(reader.file_name(i))]
        selection.dropped = [pair for pair in selection.dropped if in_small_subset(pair[0])]
    size = options.shard_size or max(_SHARD_SIZE, math.ceil(len(selection.kept) / _MAX_SHARDS))
    groups = [selection.kept[i : i + size] for i in range(0, len(selection.kept), size)]
    notes = []
    if groups:
        state.begin(split)
        fits = None
        if options.fit_missing:
            fits = MissingFits(
                hands, state.work_folder(split) / f"fits_{state.hands['sha256']}.npz"
            )
            tried, good = fits.fit(reader, selection.kept, options.config)
            print(f"{split}: {good:,} of {tried:,} hands without MANO parameters fitted to joints")
        jobs = _jobs(state, split, reader, groups, options.config, hands, fits)
        notes = _make_all(jobs, len(groups), len(selection.kept), split, state, options.workers)
        state.finish(split, selection, notes)
    print(split_report(split, len(reader), selection, notes))


def _jobs(
    state: State, split: str, reader, groups, config, hands, fits
) -> Iterator[shards.ShardJob]:
    from input_pipeline.plan import plan_shard

    for number, indices in enumerate(groups):
        plan = plan_shard(reader, indices, config, hands, fits)
        dropped = [(name, str(reason)) for name, reason in plan.dropped]
        yield shards.ShardJob(
            path=state.folder / shard_name(split, number, len(groups)),
            note=state.work_folder(split) / f"{number:05d}.json",
            images_folder=pathlib.Path(reader.images_folder),
            templates=plan.templates,
            dropped=dropped,
            key=shards.shard_key(plan.templates, dropped),
        )


def _make_all(jobs, count: int, frames: int, split: str, state: State, workers: int) -> list[dict]:
    """Runs the jobs over the workers, a few ahead of them; returns the notes in order."""
    notes: list[dict | None] = [None] * count
    progress = tqdm(total=frames, desc=split, unit="image", disable=None)

    def done(number: int, note: dict, frames_done: int) -> None:
        notes[number] = note
        progress.update(frames_done)

    with progress, processes(workers, count) as submit:
        waiting: dict = {}
        for number, job in enumerate(jobs):
            frames_done = len(job.templates) + len(job.dropped)
            note = shards.finished(job)
            if note is not None:
                done(number, note, frames_done)
                continue
            state.open_for_writing(split)
            waiting[submit(shards.make_shard, job)] = (number, frames_done)
            while len(waiting) >= 2 * workers:
                _collect(waiting, done)
        while waiting:
            _collect(waiting, done)
    return notes


def _collect(waiting: dict, done) -> None:
    first = concurrent.futures.FIRST_COMPLETED
    for future in concurrent.futures.wait(waiting, return_when=first).done:
        number, frames_done = waiting.pop(future)
        done(number, future.result(), frames_done)


if __name__ == "__main__":
    sys.exit(main())
