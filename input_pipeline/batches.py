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

Training reads one endless stream of examples: all of epoch 0 in a shuffled order, then all of
epoch 1 in another, and so on. Global batch `step` is the stretch from step * batch_size on, and
each process takes its own part of it. Every batch is thus a function of (seed, step) alone:
starting at any step costs the same, the same global batch comes about for any number of processes
and threads, and no example is left out or comes twice in an epoch.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from input_pipeline import augment as augmentation
from input_pipeline import dataset
from input_pipeline.augment import AugmentConfig
from input_pipeline.commands import FailedError
from input_pipeline.crop import STORED_SIZE
from input_pipeline.workers import in_order

_LOG = logging.getLogger(__name__)
_TYPES = {np.float32: tf.float32, np.bool_: tf.int64}
_SPEC = {"image": tf.io.FixedLenFeature((), tf.string)} | {
    name: tf.io.FixedLenFeature(dataset.FIELDS[name].shape, _TYPES[dataset.FIELDS[name].dtype])
    for name in dataset.LABELS
}
_AHEAD = 3

Batch = dict[str, np.ndarray]

try:
    # The accelerator is JAX's; TensorFlow would take all of its memory.
    tf.config.set_visible_devices([], "GPU")
except RuntimeError:
    pass


class RecordError(FailedError):
    """Stored examples that cannot be read; the message names them."""


def share(batch_size: int, process_index: int, process_count: int) -> np.ndarray:
    """This process's places in a global batch, (batch_size / process_count,) int64.

    Raises:
      ValueError: when the batch cannot be shared out evenly, or the process does not exist.
    """
    if batch_size < 1:
        raise ValueError(f"batch size is {batch_size}; wanted 1 or more")
    if not 0 <= process_index < process_count:
        raise ValueError(f"process {process_index} of {process_count} does not exist")
    if batch_size % process_count:
        raise ValueError(
            f"a batch of {batch_size} cannot be shared evenly by {process_count} processes: "
            f"use a multiple of {process_count}"
        )
    local = batch_size // process_count
    return np.arange(process_index * local, (process_index + 1) * local)


@functools.lru_cache(maxsize=4)  # a batch touches two epochs, read-ahead perhaps a third
def _permutation(size: int, seed: int, epoch: int) -> np.ndarray:
    # Sorted by raw Philox output, which numpy promises never to change; its own `permutation`
    # may change between versions, and a resumed run would repeat and miss examples.
    keys = np.random.Philox(key=[seed, epoch]).random_raw(size)
    return np.argsort(keys, kind="stable")


def shuffled(size: int, seed: int, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Examples at positions of the endless shuffled stream over one split.

    Args:
      size: examples in the split.
      seed: any two seeds give unrelated orders; not negative.
      positions: (N,) whole numbers from 0.

    Returns:
      epoch (N,) and index (N,) within the split, int64.
    """
    epochs, places = np.divmod(np.asarray(positions, np.int64), size)
    indices = np.empty_like(places)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        indices[here] = _permutation(size, seed, int(epoch))[places[here]]
    return epochs, indices


class TrainBatches(Iterator[Batch]):
    """Endless shuffled batches (the module's docstring lists their arrays).

    An example that cannot be read is replaced by the next readable one in the split, named in the
    log and in `skipped`.

    Attributes:
      step: number of the batch that comes next.
      skipped: reason by number of every example found unreadable so far.
    """

    def __init__(
        self,
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
    ):
        """Opens the split.

        Args:
          data_dir: the folder given to `prepare --output`.
          batch_size: examples of all processes together.
          seed: of the order and of the augmentation.
          start_step: the first batch's number.
          augment: ranges of the augmentation; None leaves the images as they are.
          split: "train", "val" or "test".
          config: one of `dataset.CONFIGS`.
          process_index: which part of every batch this process gets: batch_size / process_count
            examples.
          process_count: number of processes.
          bad_share: part of the split that may turn out unreadable before the run stops.

        Raises:
          dataset.DatasetError: nothing (complete) is prepared there.
          ValueError: the batch cannot be shared evenly, the split is empty, or the seed negative.
        """
        self.step = start_step
        self.skipped: dict[int, str] = {}
        self._batch_size, self._seed, self._bad_share = batch_size, seed, bad_share
        self._places = share(batch_size, process_index, process_count)
        self._source = dataset.open_split(data_dir, split, config)
        if not len(self._source):
            raise ValueError("the split holds no examples")
        if seed < 0:
            raise ValueError(f"seed is {seed}; wanted 0 or more")
        self._join = _joiner(len(self._places), augment)
        self._batches = in_order(self._load, itertools.count(start_step), _AHEAD)

    def __next__(self) -> Batch:
        batch = next(self._batches)
        self.step += 1
        return batch

    def close(self) -> None:
        """Stops reading ahead."""
        self._batches.close()

    def _examples(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Epochs and indices of this process's part of a batch, unreadable examples replaced."""
        size = len(self._source)
        positions = step * self._batch_size + self._places
        epochs, indices = shuffled(size, self._seed, positions)
        for place, index in enumerate(indices):
            while index in self.skipped:
                index = (index + 1) % size
            indices[place] = index
        return epochs, indices

    def _load(self, step: int) -> Batch:
        while True:
            epochs, indices = self._examples(step)
            try:
                return self._join(self._source.read(indices), indices, epochs, self._seed)
            except Exception as error:  # readers and decoders raise many kinds
                self._set_aside(indices, error)

    def _set_aside(self, indices: np.ndarray, error: Exception) -> None:
        """Finds the examples of a batch that failed.

        Raises:
          RecordError: when there are too many.
          Exception: the error itself, when every example reads well by itself.
        """
        found = _unreadable(self._source, indices)
        if not found:
            raise error
        for index, reason in found.items():
            if index not in self.skipped:
                _LOG.warning("training example %d is left out: %s", index, reason)
        self.skipped |= found
        size = len(self._source)
        if len(self.skipped) > min(self._bad_share * size, size - 1):
            raise RecordError(
                f"{len(self.skipped)} of {size} training examples cannot be read, "
                f"more than the allowed {100 * self._bad_share:g} %: prepare the data set again. "
                + _listing(self.skipped)
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
    join = _joiner(len(places), None)

    def load(step: int) -> Batch:
        positions = step * batch_size + places
        indices = np.minimum(positions, size - 1)
        try:
            batch = join(source.read(indices), indices, np.zeros_like(indices), 0)
        except Exception as error:  # readers and decoders raise many kinds
            if not (found := _unreadable(source, indices)):
                raise
            raise RecordError(
                f"examples cannot be read: prepare the data set again. {_listing(found)}"
            ) from error
        return {**batch, "mask": (positions < size).astype(np.float32)}

    return in_order(load, range(-(-size // batch_size)), _AHEAD)


@functools.cache  # made and traced once, not once a pass over the data
def _joiner(batch_size: int, augment: AugmentConfig | None) -> Callable[..., Batch]:
    """Compiles the work on a batch.

    Python threads read whole batches and hand them to one compiled tf.data pipeline, which works
    on the examples in parallel. (A pipeline that itself calls Python from its threads aborts the
    interpreter now and then when the program ends; these threads are joined.)

    Returns:
      A function of `batch_size` serialized records, indices and epochs, and of the seed.
    """
    threads = min(batch_size, os.cpu_count() or 1)

    def join(serialized, indices, epochs, seed):
        def load(serialized, index, epoch):
            example, image = parse(serialized)
            if augment is None:
                shown = augmentation.central_crop(image, example["camera"])
            else:
                draws = augmentation.draw(augmentation.example_seed(seed, epoch, index), augment)
                shown = augmentation.augment_example(image, example["camera"], draws, augment)
            return {**example, **shown}

        examples = tf.data.Dataset.from_tensor_slices((serialized, indices, epochs))
        examples = examples.map(load, num_parallel_calls=threads, deterministic=True)
        return examples.batch(batch_size, drop_remainder=True).get_single_element()

    numbers = tf.TensorSpec([batch_size], tf.int64)
    compiled = tf.function(join).get_concrete_function(
        tf.TensorSpec([batch_size], tf.string), numbers, numbers, tf.TensorSpec([], tf.int64)
    )

    def call(serialized: list[bytes], indices: np.ndarray, epochs: np.ndarray, seed: int) -> Batch:
        found = compiled(
            tf.constant(serialized),
            *(tf.constant(value, tf.int64) for value in (indices, epochs, seed)),
        )
        batch = {name: value.numpy() for name, value in found.items()}
        return {
            **dataset.as_batch(batch),
            "index": indices,
            "mask": np.ones(batch_size, np.float32),
        }

    return call


def parse(serialized: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """The wanted fields of one record, and its decoded window.

    Args:
      serialized: scalar string.

    Returns:
      Tensors by field name; the image (STORED_SIZE, STORED_SIZE, 3) uint8.
    """
    example = tf.io.parse_single_example(serialized, _SPEC)
    example = {
        name: tf.cast(value, tf.bool) if name.endswith("valid") else value
        for name, value in example.items()
    }
    image = tf.io.decode_jpeg(example.pop("image"), channels=3, dct_method="INTEGER_ACCURATE")
    return example, tf.ensure_shape(image, (STORED_SIZE, STORED_SIZE, 3))


def _unreadable(source: dataset.RecordSource, indices: Sequence[int]) -> dict[int, str]:
    """Reason, with the photograph's name where known, by number of examples that do not read."""
    found = {}
    for index in dict.fromkeys(int(i) for i in indices):
        name = ""
        try:
            serialized = source.read([index])[0]
            name = f" ({dataset.deserialize(serialized).file_name})"
            parse(tf.constant(serialized))
        except Exception as error:  # readers and decoders raise many kinds
            reason = str(error).strip().splitlines() or [type(error).__name__]
            found[index] = f"{reason[0][:200]}{name}"
    return found


def _listing(found: dict[int, str]) -> str:
    """The first few of `_unreadable`'s findings, for a message."""
    shown = [f"example {index}: {reason}" for index, reason in list(found.items())[:5]]
    more = [f"and {len(found) - 5} more"] if len(found) > 5 else []
    return "; ".join(shown + more)
