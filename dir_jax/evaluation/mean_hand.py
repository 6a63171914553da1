"""The baseline that every model must beat: always answering the training set's mean."""

from __future__ import annotations

import functools
import os
from typing import NamedTuple

import jax
import numpy as np

import mano_jax
from dir_jax.evaluation.metrics import WRIST, evaluation_joints
from dir_jax.losses.targets import pose_batch

SAMPLES = 20_000
"""Training examples that the mean is taken over: more move it by far less than a millimetre."""
_BATCH = 256


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
def _sums(hands: mano_jax.HandPair, parameters: dict[str, jax.Array], valid: jax.Array):
    vertices = pose_batch(parameters, hands).vertices
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

    Images are not decoded.

    Args:
      data_dir: what `input_pipeline.prepare` wrote.
      hands: the hand models.
      split: which split.
      config: which configuration of the data.
      samples: at most so many examples.

    Raises:
      DatasetError: no such data; RecordError is not raised, an unreadable example is an error.
    """
    from input_pipeline import dataset, records

    source = dataset.open_split(data_dir, split, config)
    count = min(samples, len(source))
    chosen = np.linspace(0, len(source) - 1, count).round().astype(int)
    vertex_sum, hand_count, offset_sum, both = np.zeros((2, 1, 1)), np.zeros(2), np.zeros(3), 0.0
    for start in range(0, count, _BATCH):
        indices = chosen[start : start + _BATCH]
        found = [records.deserialize(data) for data in source.read(indices)]
        sums = _sums(hands, *_padded(found))
        vertices, weights, offsets, pairs = (np.asarray(value, np.float64) for value in sums)
        vertex_sum = vertex_sum + vertices
        hand_count, offset_sum, both = hand_count + weights, offset_sum + offsets, both + pairs
    return MeanHand(
        vertex_sum / np.maximum(hand_count, 1)[:, None, None], offset_sum / max(both, 1), count
    )


def _padded(found: list) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Parameters of `_BATCH` examples, the last repeated without weight."""
    rows = found + [found[-1]] * (_BATCH - len(found))

    def stack(name: str, *shape: int) -> np.ndarray:
        return np.stack([getattr(row, name) for row in rows]).reshape(_BATCH, 2, *shape)

    parameters = {
        "global_orient": np.asarray(
            mano_jax.matrix_from_axis_angle(stack("global_orient", 3)), np.float32
        ),
        "hand_pose": stack("hand_pose", 15, 3),
        "betas": stack("betas", 10),
        "transl": stack("transl", 3),
    }
    valid = np.stack([row.hand_valid for row in rows]).astype(bool)
    valid[len(found) :] = False
    return parameters, valid
