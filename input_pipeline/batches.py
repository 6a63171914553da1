"""Batches for training and evaluation from a prepared data set (see `prepare`, `dataset`).

A batch is a dict of numpy arrays, hands in the order left, right:

    image          uint8   (B, 256, 256, 3)  RGB
    global_orient  float32 (B, 2, 3, 3)      root rotation, in the stored photograph's camera axes
    hand_pose      float32 (B, 2, 15, 3)     axis-angle, hands_mean included
    betas          float32 (B, 2, 10)
    transl         float32 (B, 2, 3)         metres
    motion         float32 (B, 3, 3)         xyz' = motion @ xyz moves camera-space points to where
                                             the augmented image shows them (with the mirror)
    flip           bool    (B,)              mirrored: after `motion`, swap the hands
    camera         float32 (B, 3, 3)         intrinsics of the (mirrored) crop: pixels of xyz'
    joints_xyz     float32 (B, 2, 21, 3)     annotated, metres, before `motion` and the swap
    joint_valid    bool    (B, 2, 21)        before the swap, as is
    hand_valid     bool    (B, 2)
    mask           float32 (B,)              1 for an example, 0 for padding
    index          int64   (B,)              number of the example within its split

Every batch is a function of (seed, step) alone, so starting at any step costs the same, and the
same global batch comes about for any number of processes and threads.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from input_pipeline import augment as augmentation
from input_pipeline import dataset
from input_pipeline.augment import AugmentConfig
from input_pipeline.identities import Identities, Identity, identities
from input_pipeline.loading import (
    Batch,
    BatchLoader,
    RecordError,
    joiner,
    listing,
    parse,
    unreadable,
)
from input_pipeline.order import ShuffledOrder, share

__all__ = [
    "Batch",
    "Identities",
    "Identity",
    "RecordError",
    "TrainBatches",
    "eval_batches",
    "identities",
    "split_size",
    "train_batches",
]

_LOG = logging.getLogger(__name__)


def split_size(data_dir: str | os.PathLike, split: str, *, config: str = "interacting") -> int:
    """Number of prepared examples of a split.

    Raises:
      dataset.DatasetError: nothing is prepared there, or not this split.
    """
    return len(dataset.open_split(data_dir, split, config))


def train_batches(
    data_dir: str | os.PathLike,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    augment: AugmentConfig | None = None,
    split: str = "train",
    config: str = "interacting",
    process_index: int = 0,
    process_count: int = 1,
    bad_share: float = 0.001,
) -> TrainBatches:
    """Endless shuffled batches (the module's docstring lists their arrays).

    Args:
      data_dir: the folder given to `prepare --output`.
      batch_size: examples of all processes together.
      seed: of the order and of the augmentation.
      start_step: the first batch's number.
      augment: ranges of the augmentation; None leaves the images as they are.
      split: "train", "val" or "test".
      config: one of `dataset.CONFIGS`.
      process_index: which part of every batch this process gets.
      process_count: number of processes.
      bad_share: part of the split that may turn out unreadable before the run stops.

    Returns:
      An iterator over this process's parts, each of batch_size / process_count examples.

    Raises:
      dataset.DatasetError: nothing (complete) is prepared there.
      ValueError: the batch cannot be shared evenly, or the split is empty.
    """
    places = share(batch_size, process_index, process_count)
    source = dataset.open_split(data_dir, split, config)
    order = ShuffledOrder(len(source), seed)
    return TrainBatches(source, order, batch_size, places, seed, start_step, augment, bad_share)


class TrainBatches(Iterator[Batch]):
    """Endless training batches; made by `train_batches`.

    An example that cannot be read is replaced by the next readable one in the split, named in the
    log and in `skipped`; reading goes on where it was.

    Attributes:
      step: number of the batch that comes next.
      skipped: reason by number of every example found unreadable so far.
    """

    def __init__(
        self,
        source: dataset.RecordSource,
        order: ShuffledOrder,
        batch_size: int,
        places: range,
        seed: int,
        start_step: int,
        augment: AugmentConfig | None,
        bad_share: float,
    ):
        """See `train_batches`."""
        self.step = start_step
        self.skipped: dict[int, str] = {}
        self._source, self._order = source, order
        self._batch_size, self._places = batch_size, places
        self._seed, self._augment, self._bad_share = seed, augment, bad_share
        self._join = joiner(self._example, len(places))
        self._loader = BatchLoader(self._load, itertools.count(start_step))

    def __next__(self) -> Batch:
        batch = next(self._loader)
        self.step += 1
        return batch

    def close(self) -> None:
        """Stops reading ahead; the program's end does so too."""
        self._loader.close()

    def _examples(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Epochs and indices of this process's part of a batch, unreadable examples replaced."""
        positions = step * self._batch_size + np.array(self._places, np.int64)
        epochs, indices = self._order.at(positions)
        for place, index in enumerate(indices):
            while index in self.skipped:
                index = (index + 1) % self._order.size
            indices[place] = index
        return epochs, indices

    def _load(self, step: int) -> Batch:
        while True:
            epochs, indices = self._examples(step)
            try:
                return self._join(self._source.read(indices), epochs, indices)
            except Exception as error:  # readers and decoders raise many kinds
                self._set_aside(indices, error)

    def _example(self, serialized, epoch, index) -> dict[str, tf.Tensor]:
        example, image = parse(serialized)
        if self._augment is None:
            shown = augmentation.central_crop(image, example["camera"])
        else:
            draws = augmentation.draw(
                augmentation.example_seed(self._seed, epoch, index), self._augment
            )
            shown = augmentation.augment_example(image, example["camera"], draws, self._augment)
        return {**example, **shown, "index": index, "mask": tf.ones(())}

    def _set_aside(self, indices: np.ndarray, error: Exception) -> None:
        """Finds the examples of a batch that failed.

        Raises:
          RecordError: when there are too many.
          Exception: the error itself, when every example reads well by itself.
        """
        found = unreadable(self._source, indices)
        if not found:
            raise error
        for index, reason in found.items():
            if index not in self.skipped:
                _LOG.warning("training example %d is left out: %s", index, reason)
        self.skipped |= found
        if len(self.skipped) > min(self._bad_share * self._order.size, self._order.size - 1):
            raise RecordError(
                f"{len(self.skipped)} of {self._order.size} training examples cannot be read, "
                f"more than the allowed {100 * self._bad_share:g} %: prepare the data set again. "
                + listing(self.skipped)
            ) from error


def eval_batches(
    data_dir: str | os.PathLike,
    split: str,
    *,
    batch_size: int,
    limit: int | None = None,
    config: str = "interacting",
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """All examples of a split once, in order, unchanged; the last batch is padded.

    Args:
      data_dir: the folder given to `prepare --output`.
      split: "train", "val" or "test".
      batch_size: examples of all processes together.
      limit: only the first so many examples.
      config: one of `dataset.CONFIGS`.
      process_index: which part of every batch this process gets.
      process_count: number of processes.

    Returns:
      A finite iterator; every process sees the same number of equally large batches. Padding
      repeats the last example, with mask 0.

    Raises:
      dataset.DatasetError: nothing (complete) is prepared there.
      ValueError: the batch cannot be shared evenly, or `limit` is not positive.
      RecordError: while iterating, an example that cannot be read. Nothing is left out here:
        a figure over fewer examples would not be the figure asked for.
    """
    places = share(batch_size, process_index, process_count)
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; wanted 1 or more, or None for all examples")
    source = dataset.open_split(data_dir, split, config)
    size = len(source) if limit is None else min(limit, len(source))
    return _eval_iterator(source, size, batch_size, places)


def _eval_iterator(
    source: dataset.RecordSource, size: int, batch_size: int, places: range
) -> Iterator[Batch]:
    def example(serialized, position, index):
        fields, image = parse(serialized)
        shown = augmentation.central_crop(image, fields["camera"])
        mask = tf.cast(position < size, tf.float32)
        return {**fields, **shown, "index": index, "mask": mask}

    join = joiner(example, len(places))

    def load(step):
        positions = step * batch_size + np.array(places, np.int64)
        indices = np.minimum(positions, size - 1)
        try:
            return join(source.read(indices), positions, indices)
        except Exception as error:  # readers and decoders raise many kinds
            if not (found := unreadable(source, indices)):
                raise
            raise RecordError(
                f"examples cannot be read: prepare the data set again. {listing(found)}"
            ) from error

    loader = BatchLoader(load, range(-(-size // batch_size)))
    try:
        yield from loader
    finally:
        loader.close()
