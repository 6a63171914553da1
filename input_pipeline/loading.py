"""From numbers of records to batches: reading, decoding and joining with tf.data."""

from __future__ import annotations

import collections
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from input_pipeline import dataset, records
from input_pipeline.commands import FailedError

_PARSED = (
    "image",
    "camera",
    "global_orient",
    "hand_pose",
    "betas",
    "transl",
    "hand_valid",
    "joints_xyz",
    "joint_valid",
)
_AHEAD = 3

Batch = dict[str, np.ndarray]

try:
    # The accelerator is JAX's; TensorFlow would take all of its memory.
    tf.config.set_visible_devices([], "GPU")
except RuntimeError:
    pass


class RecordError(FailedError):
    """Stored examples that cannot be read; the message names them."""


class BatchLoader:
    """Loads numbered batches in order, some ahead of the one asked for.

    Python threads read whole batches and hand them to one compiled tf.data pipeline, which works
    on the examples in parallel. (A pipeline that itself calls Python from its threads aborts the
    interpreter now and then when the program ends; these threads are joined.)
    """

    def __init__(self, load: Callable[[int], Batch], steps: Iterable[int]):
        """Starts loading.

        Args:
          load: makes the batch of a number; called from several threads.
          steps: the numbers, in order.
        """
        self._load, self._steps = load, iter(steps)
        self._pool = ThreadPoolExecutor(_AHEAD, thread_name_prefix="batches")
        self._coming: collections.deque[Future] = collections.deque()
        self._top_up()

    def _top_up(self) -> None:
        for step in itertools.islice(self._steps, _AHEAD - len(self._coming)):
            self._coming.append(self._pool.submit(self._load, step))

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if not self._coming:
            self.close()
            raise StopIteration
        batch = self._coming.popleft().result()
        self._top_up()
        return batch

    def close(self) -> None:
        """Stops loading ahead."""
        self._coming.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)


def joiner(load: Callable, batch_size: int) -> Callable[..., Batch]:
    """Compiles the work on a batch.

    Args:
      load: (serialized record, number, index) to the example's tensors, in TensorFlow.
      batch_size: examples a batch.

    Returns:
      A function of `batch_size` serialized records, numbers and indices that gives the batch.
    """

    @tf.function
    def join(serialized, numbers, indices):
        examples = tf.data.Dataset.from_tensor_slices((serialized, numbers, indices))
        threads = min(batch_size, os.cpu_count() or 1)
        examples = examples.map(load, num_parallel_calls=threads, deterministic=True)
        batch = examples.batch(batch_size, drop_remainder=True).get_single_element()
        return _finish(batch)

    def call(serialized: list[bytes], numbers: np.ndarray, indices: np.ndarray) -> Batch:
        batch = join(tf.constant(serialized), tf.constant(numbers), tf.constant(indices))
        return {name: value.numpy() for name, value in batch.items()}

    return call


def parse(serialized: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """The wanted fields of one record, and its decoded window.

    Args:
      serialized: scalar string.

    Returns:
      Tensors by field name; the image (STORED_SIZE, STORED_SIZE, 3) uint8.
    """
    example = dataset.parse_example(serialized, _PARSED)
    image = tf.io.decode_jpeg(example.pop("image"), channels=3, dct_method="INTEGER_ACCURATE")
    return example, tf.ensure_shape(image, (records.STORED_SIZE, records.STORED_SIZE, 3))


def _finish(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    shape = tf.concat([tf.shape(batch["hand_pose"])[:-1], [15, 3]], axis=0)
    return {
        **batch,
        "global_orient": _rotation_matrices(batch["global_orient"]),
        "hand_pose": tf.reshape(batch["hand_pose"], shape),
    }


def _rotation_matrices(axis_angle: tf.Tensor) -> tf.Tensor:
    """Rodrigues' formula, (..., 3) to (..., 3, 3), in float64 inside."""
    vectors = tf.cast(axis_angle, tf.float64)
    angle = tf.norm(vectors, axis=-1, keepdims=True)
    axis = tf.math.divide_no_nan(vectors, angle)
    x, y, z = tf.unstack(axis, axis=-1)
    zero = tf.zeros_like(x)
    rows = [[zero, -z, y], [z, zero, -x], [-y, x, zero]]
    cross = tf.stack([tf.stack(row, axis=-1) for row in rows], axis=-2)
    angle = angle[..., None]
    matrices = tf.eye(3, dtype=tf.float64) + tf.sin(angle) * cross
    return tf.cast(matrices + (1.0 - tf.cos(angle)) * (cross @ cross), tf.float32)


def unreadable(source: dataset.RecordSource, indices: Sequence[int]) -> dict[int, str]:
    """Tries each example by itself.

    Returns:
      Reason, with the photograph's name where known, by number of those that cannot be read.
    """
    found = {}
    for index in dict.fromkeys(int(i) for i in indices):
        name = ""
        try:
            serialized = source.read([index])[0]
            name = f" ({records.deserialize(serialized).file_name})"
            parse(tf.constant(serialized))
        except Exception as error:  # readers and decoders raise many kinds
            reason = str(error).strip().splitlines() or [type(error).__name__]
            found[index] = f"{reason[0][:200]}{name}"
    return found


def listing(found: dict[int, str]) -> str:
    """The first few of `unreadable`'s findings, for a message."""
    shown = [f"example {index}: {reason}" for index, reason in list(found.items())[:5]]
    more = [f"and {len(found) - 5} more"] if len(found) > 5 else []
    return "; ".join(shown + more)
