"""The prepared data of a run: found, or synthesised first; and who is in it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from dir_jax.training.exits import BadInputError, RunError
from dir_jax.training.stop import StopRequest
from dir_jax.weights.workdir import DATA_FOLDER

SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class Data:
    """Prepared data of one run.

    Attributes:
      folder: what `input_pipeline.prepare` was given as --output.
      subset: which of its configurations.
      sizes: examples by split; 0 when the split is not there.
    """

    folder: Path
    subset: str
    sizes: dict[str, int]


def find_data(config: ConfigDict, workdir: Path, stop: StopRequest) -> Data:
    """The recipe's data, made first when the recipe says so.

    Raises:
      BadInputError: no prepared data where the recipe looks for them.
      RunError: synthesising or preparing failed.
    """
    from input_pipeline import dataset

    folder = Path(config.data.dir).expanduser() if config.data.dir else workdir / DATA_FOLDER
    description = dataset.version_folder(folder, config.data.subset) / "dataset_info.json"
    if not description.is_file():
        if config.data.synthesize and not config.data.dir:
            synthesize(config, workdir, folder, stop)
        elif not config.data.dir:
            raise BadInputError(
                "this recipe needs --config.data.dir=DATA, the folder that "
                "python -m input_pipeline.prepare --source RAW --output DATA has written "
                "(or --config.data.synthesize=True to try it on synthesised photographs)"
            )
    lengths = dataset.split_lengths(folder, config.data.subset)
    sizes = {split: sum(lengths.get(split, [])) for split in SPLITS}
    if sizes["train"] < 1:
        raise BadInputError(f"{folder} holds no training examples; prepare the split train")
    return Data(folder, config.data.subset, sizes)


def synthesize(config: ConfigDict, workdir: Path, folder: Path, stop: StopRequest) -> None:
    """Photographs of posed hands in InterHand2.6M's own layout, then prepared like the real ones.

    Raises:
      RunError: one of the two commands failed (it has said why).
    """
    raw = workdir / "raw"
    data = config.data
    counts = {"train": data.synthesize_train, "val": data.synthesize_val}
    counts["test"] = data.synthesize_test
    print(f"synthesising {counts} photographs in {raw}", file=sys.stderr, flush=True)
    arguments = [text for name, n in counts.items() for text in (f"--{name}", str(n))]
    for name in ("single_share", "views", "yaw", "pitch"):
        arguments += [f"--{name}", str(data[f"synthesize_{name}"])]
    if data.synthesize_meetings:
        arguments += ["--meetings", ",".join(data.synthesize_meetings)]
    mano = ["--mano", config.mano] if config.mano else []
    run_module(
        "input_pipeline.synthesize",
        ["--output", str(raw), *arguments, "--seed", str(config.seed), *mano],
        stop,
    )
    print(f"preparing them in {folder}", file=sys.stderr, flush=True)
    run_module(
        "input_pipeline.prepare", ["--source", str(raw), "--output", str(folder), *mano], stop
    )


def run_module(name: str, arguments: list[str], stop: StopRequest) -> None:
    """Runs `python -m name` as a child that ends with this process.

    Raises:
      RunError: it did not end well.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = subprocess.Popen([sys.executable, "-m", name, *arguments], env=environment)
    stop.on_leave(child.terminate)
    if code := child.wait():
        raise RunError(f"python -m {name} {' '.join(arguments)} ended with status {code}")


def training_batches(
    config: ConfigDict, data: Data, start_step: int, process: int = 0, processes: int = 1
) -> Iterator[dict[str, np.ndarray]]:
    """This process's share of the batches from `start_step` on, endlessly.

    A function of the seed and the step alone: going on costs nothing and repeats nothing.
    """
    from input_pipeline.augment import AugmentConfig
    from input_pipeline.batches import train_batches

    augment = AugmentConfig(**config.data.augmentation) if config.data.augment else None
    return train_batches(
        data.folder,
        config=data.subset,
        batch_size=config.train.batch_size,
        seed=config.seed,
        start_step=start_step,
        augment=augment,
        process_index=process,
        process_count=processes,
    )


@contextlib.contextmanager
def unreadable_examples_end_the_run() -> Iterator[None]:
    """Gives the pipeline's word that too many examples cannot be read the form of a run's end.

    Raises:
      RunError: names the examples.
    """
    from input_pipeline.batches import RecordError

    try:
        yield
    except RecordError as error:
        raise RunError(str(error)) from error


def frame_names(data: Data, split: str, indices: np.ndarray) -> list[str]:
    """Identities of examples, for reports; their numbers where names cannot be read."""
    from input_pipeline.batches import identities

    try:
        names = identities(data.folder, split, config=data.subset)
        return [str(names[int(index)]) for index in indices]
    except Exception as error:  # a report must not fail for want of names
        return [f"example {int(index)} ({type(error).__name__})" for index in indices]
