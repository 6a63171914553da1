"""From numbers of records to batches: reading, decoding and joining with tf.data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from input_pipeline import dataset, records

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
_PREFETCH = 2

try:
    # The accelerator is JAX's; TensorFlow would take all of its memory.
    tf.config.set_visible_devices([], "GPU")
except RuntimeError:
    pass


class RecordError(RuntimeError):
    """Stored examples that cannot be read; the message names them."""


def pipeline(steps: tf.data.Dataset, read, load, batch_size: int) -> Iterator[dict]:
    """Reads whole batches, works on single examples in parallel, joins them again, in order.

    Args:
      steps: dataset of batch numbers.
      read: batch number to (serialized records, numbers, indices), `batch_size` each, in numpy.
      load: one of each to the example's tensors, in TensorFlow.
      batch_size: examples a batch.

    Returns:
      An iterator over dicts of numpy arrays.
    """

    def read_step(step):
        serialized, number, index = tf.numpy_function(read, [step], [tf.string, tf.int64, tf.int64])
        serialized.set_shape([batch_size])
        number.set_shape([batch_size])
        index.set_shape([batch_size])
        return serialized, number, index

    examples = steps.map(read_step, num_parallel_calls=2, deterministic=True).unbatch()
    examples = examples.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    batches = examples.batch(batch_size, drop_remainder=True).map(_finish)
    return batches.prefetch(_PREFETCH).as_numpy_iterator()


def read_records(source: dataset.RecordSource, indices: np.ndarray) -> np.ndarray:
    """Serialized records in the form `pipeline` wants."""
    return np.array(source.read(indices), object)


def parse(serialized: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """The wanted fields of one record, and its decoded window."""
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
    """Reason by number of those examples that cannot be read, each tried by itself."""
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
