"""Labels of prepared data without their photographs, and the baseline that they give.

The mean hand, which always answers the training set's mean, is what every model must beat.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

import mano_jax
from dir_jax.evaluation.protocols import WRIST, evaluation_joints
from dir_jax.losses.targets import pose_batch

SAMPLES = 20_000
"""Training examples that the mean is taken over: more move it by far less than a millimetre."""
_BATCH = 256


def filled_batches(count: int, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All of `count` rows in batches of one size, so that one compiled program serves all.

    Yields:
      rows (size,), the last one repeated to fill up the last batch, and mask (size,) bool, False
      where it is repeated.
    """
    for start in range(0, count, size):
        rows = np.arange(start, start + size)
        yield np.minimum(rows, count - 1), rows < count


def label_arrays(records: Sequence[Any]) -> dict[str, np.ndarray]:
    """Labels of B `input_pipeline.dataset.Record`, in the form of `input_pipeline.batches`."""

    def stack(name: str, *shape: int) -> np.ndarray:
        return np.stack([getattr(record, name) for record in records]).reshape(-1, *shape)

    return {
        "global_orient": np.asarray(
            mano_jax.matrix_from_axis_angle(stack("global_orient", 2, 3)), np.float32
        ),
        "hand_pose": stack("hand_pose", 2, 15, 3),
        "betas": stack("betas", 2, 10),
        "transl": stack("transl", 2, 3),
        "camera": stack("camera", 3, 3),
        "hand_valid": stack("hand_valid", 2).astype(bool),
        "joints_xyz": stack("joints_xyz", 2, 21, 3),
        "joint_valid": stack("joint_valid", 2, 21).astype(bool),
    }


class MeanHand(NamedTuple):
    """Mean of a split.

    Attributes:
      vertices_xyz: (2, 778, 3) metres, each hand relative to its own wrist.
      offset: (3,) metres, right wrist minus left wrist.
      samples: examples it was taken over.
    """

    vertices_xyz: np.ndarray
    offset: np.ndarray
    samples: int


@functools.partial(jax.jit, static_argnums=0)
def _sums(hands: mano_jax.HandPair, labels: dict[str, jax.Array], valid: jax.Array):
    vertices = pose_batch(labels, hands).vertices
    wrists = evaluation_joints(hands, vertices)[:, :, WRIST]
    weights = valid.astype(vertices.dtype)
    both = weights.prod(-1)
    relative = (vertices - wrists[:, :, None]) * weights[..., None, None]
    offset = (wrists[:, 1] - wrists[:, 0]) * both[:, None]
    return relative.sum(0), weights.sum(0), offset.sum(0), both.sum()


def mean_hand(
    data_dir: str | os.PathLike,
    hands: mano_jax.HandPair,
    *,
    split: str = "train",
    config: str = "interacting",
    samples: int = SAMPLES,
) -> MeanHand:
    """Mean hand of prepared data, over at most `samples` examples spread evenly over the split.

    Args:
      data_dir: what `input_pipeline.prepare` wrote.
      hands: the hand models.
      split: which split.
      config: which configuration of the data.
      samples: at most so many examples.

    Raises:
      DatasetError: no such data; RecordError is not raised, an unreadable example is an error.
    """
    from input_pipeline import dataset

    source = dataset.open_split(data_dir, split, config)
    count = min(samples, len(source))
    chosen = np.linspace(0, len(source) - 1, count).round().astype(int)
    totals = (np.zeros((2, 1, 1)), np.zeros(2), np.zeros(3), 0.0)
    for rows, mask in filled_batches(count, _BATCH):
        labels = label_arrays([source[row] for row in chosen[rows]])
        sums = _sums(hands, labels, labels["hand_valid"] & mask[:, None])
        totals = [
            total + np.asarray(part, np.float64) for total, part in zip(totals, sums, strict=True)
        ]
    vertices, hand_count, offset, pairs = totals
    return MeanHand(
        vertices / np.maximum(hand_count, 1)[:, None, None], offset / max(pairs, 1), count
    )
