"""The prepared data of a run: found, or synthesised first; and who is in it."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from dir_jax.training.interruptions import RunError, StopRequest
from dir_jax.weights import DATA_FOLDER, RAW_FOLDER

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
      ValueError: no prepared data where the recipe looks for them.
      RunError: synthesising or preparing failed.
    """
    from input_pipeline import dataset

    folder = Path(config.data.dir).expanduser() if config.data.dir else workdir / DATA_FOLDER
    description = dataset.version_folder(folder, config.data.subset) / "dataset_info.json"
    if not description.is_file() and not config.data.dir:
        if not config.data.synthesize:
            raise ValueError(
                "this recipe needs --config.data.dir=DATA, the folder that "
                "python -m input_pipeline.prepare --source RAW --output DATA has written "
                "(or --config.data.synthesize=True to try it on synthesised photographs)"
            )
        make_data(config, workdir / RAW_FOLDER, folder, stop)
    lengths = dataset.split_lengths(folder, config.data.subset)
    sizes = {split: sum(lengths.get(split, [])) for split in SPLITS}
    if sizes["train"] < 1:
        raise ValueError(f"{folder} holds no training examples; prepare the split train")
    return Data(folder, config.data.subset, sizes)


def make_data(config: ConfigDict, raw: Path, folder: Path, stop: StopRequest) -> None:
    """Photographs of posed hands in InterHand2.6M's own layout, then prepared like the real ones.

    What an interrupted run has finished of it is kept: `raw` is there only when it is complete.

    Raises:
      RunError: one of the two commands failed (it has said why).
    """
    data = config.data
    mano = ["--mano", config.mano] if config.mano else []
    if not raw.is_dir() or not any(raw.iterdir()):
        counts = {split: data[f"synthesize_{split}"] for split in SPLITS}
        print(f"synthesising {counts} photographs in {raw}", file=sys.stderr, flush=True)
        names = (*SPLITS, "variety")
        options = [
            text for name in names for text in (f"--{name}", str(data[f"synthesize_{name}"]))
        ]
        options += ["--output", str(raw), "--seed", str(config.seed), *mano]
        _run_module("input_pipeline.synthesize", options, stop)
    print(f"preparing them in {folder}", file=sys.stderr, flush=True)
    options = ["--source", str(raw), "--output", str(folder), "--config", data.subset, *mano]
    _run_module("input_pipeline.prepare", options, stop)


def _run_module(name: str, arguments: list[str], stop: StopRequest) -> None:
    """Runs `python -m name` as a child that ends with this process."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = subprocess.Popen([sys.executable, "-m", name, *arguments], env=environment)
    stop.on_exit(child.terminate)
    if code := child.wait():
        raise RunError(f"python -m {name} {' '.join(arguments)} ended with status {code}")


def training_batches(
    config: ConfigDict, data: Data, start_step: int, process: int = 0, processes: int = 1
) -> Iterator[dict[str, np.ndarray]]:
    """This process's share of the batches from `start_step` on, endlessly.

    A function of the seed and the step alone: resuming costs nothing and repeats nothing.
    """
    from input_pipeline.augment import AugmentConfig
    from input_pipeline.batches import TrainBatches

    augment = AugmentConfig(**config.data.augmentation) if config.data.augment else None
    return TrainBatches(
        data.folder,
        config=data.subset,
        batch_size=config.train.batch_size,
        seed=config.seed,
        start_step=start_step,
        augment=augment,
        process_index=process,
        process_count=processes,
    )


def frame_names(data: Data, split: str, indices: np.ndarray) -> list[str]:
    """Identities of examples, for reports; their numbers where names cannot be read."""
    from input_pipeline.dataset import open_split

    try:
        source = open_split(data.folder, split, data.subset)
        return [source[int(index)].file_name for index in indices]
    except Exception as error:  # a report must not fail for want of names
        return [f"example {int(index)} ({type(error).__name__})" for index in indices]
