"""What prepared data say of the hands: as arrays, as their mean, and as a file for anyone.

    python -m dir_jax.evaluation.ground_truth --data DATA --split test --output truth.npz
    python evaluate.py --predictions theirs.npz --ground_truth truth.npz --mano MANO

The file is in the form that `evaluate.py --predictions` reads. The samples' names (`sample_ids`)
are the photographs' file names, so predictions may come in any order. 19 KB a sample; the meshes
are written as they are computed. The mean hand, which always answers the training set's mean, is
what every model must beat. Photographs are never decoded.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

import mano_jax
from dir_jax.evaluation.protocols import WRIST, Hands, measured_hands
from dir_jax.losses.targets import pose_batch
from input_pipeline.commands import command
from input_pipeline.files import whole_file
from mano_jax.constants import VERTICES

BATCH = 64
"""Samples at a time."""
SAMPLES = 20_000
"""Training examples that the mean is taken over: more move it by far less than a millimetre."""
_LABELS = {
    "camera": "camera",
    "hand_valid": "hand_valid",
    "annotated_joints_xyz": "joints_xyz",
    "joint_valid": "joint_valid",
}
"""Arrays of the file besides meshes and names, by the label that they are."""


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


@functools.partial(jax.jit, static_argnums=0)
def true_hands(hands: mano_jax.HandPair, labels: dict[str, jax.Array]) -> Hands:
    """What the labels of a batch say (see `input_pipeline.batches`)."""
    return measured_hands(hands, pose_batch(labels, hands).vertices)


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
    vertices, offset, known = np.zeros((2, VERTICES, 3)), np.zeros(3), np.zeros(3)
    for rows, mask in filled_batches(count, BATCH):
        labels = label_arrays([source[row] for row in chosen[rows]])
        truth = jax.tree.map(np.asarray, true_hands(hands, labels))
        valid = labels["hand_valid"] & mask[:, None]
        wrists, both = truth.joints_xyz[:, :, WRIST], valid.all(-1)
        relative = truth.vertices_xyz - wrists[:, :, None]
        vertices += relative.sum(0, np.float64, where=valid[..., None, None])
        offset += (wrists[:, 1] - wrists[:, 0])[both].sum(0, np.float64)
        known += [*valid.sum(0), both.sum()]
    known = np.maximum(known, 1)
    return MeanHand(vertices / known[:2, None, None], offset / known[2], count)


def write_ground_truth(
    path: str | os.PathLike,
    data_dir: str | os.PathLike,
    split: str,
    hands: mano_jax.HandPair,
    *,
    config: str = "interacting",
) -> int:
    """Writes the ground truth of a split, whole or not at all.

    Args:
      path: npz file to write; its arrays are described in `predictions`.
      data_dir: what `input_pipeline.prepare` wrote.
      split: of it.
      hands: hand models of the annotations.
      config: configuration of the data.

    Returns:
      The number of samples.

    Raises:
      ValueError: no such data.
      OSError: the file cannot be written.
    """
    from input_pipeline import dataset

    source = dataset.open_split(data_dir, split, config)
    shape = (len(source), 2, VERTICES, 3)
    small: dict[str, list[np.ndarray]] = {name: [] for name in (*_LABELS, "sample_ids")}
    with whole_file(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        with archive.open("gt_vertices_xyz.npy", "w", force_zip64=True) as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for rows, mask in tqdm(list(filled_batches(len(source), BATCH)), unit="batch"):
                records = [source[row] for row in rows.tolist()]  # images are not decoded
                labels = label_arrays(records)
                meshes = np.asarray(true_hands(hands, labels).vertices_xyz, "<f4")
                file.write(meshes[mask].tobytes())
                labels["sample_ids"] = np.array([record.file_name for record in records])
                for name, parts in small.items():
                    parts.append(labels[_LABELS.get(name, name)][mask])
        for name, parts in small.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.concatenate(parts), allow_pickle=False)
    return len(source)


@command
def main(argv: list[str]) -> int:
    """Entry point of `python -m dir_jax.evaluation.ground_truth`; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m dir_jax.evaluation.ground_truth",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", required=True, metavar="DATA", help="prepared data")
    parser.add_argument("--split", default="test", help="default: test")
    parser.add_argument("--config", default="interacting", help="of the prepared data")
    parser.add_argument("--mano", metavar="MANO", help="default: the open hand")
    parser.add_argument("--output", required=True, metavar="FILE.npz")
    arguments = parser.parse_args(argv)
    from dir_jax.weights.loading import OPEN_HAND_NOTE  # training makes its labels without it

    hands = mano_jax.load_hands(arguments.mano)
    if not arguments.mano:
        print(f"note: {OPEN_HAND_NOTE}")
    count = write_ground_truth(
        arguments.output, arguments.data, arguments.split, hands, config=arguments.config
    )
    print(f"{count} samples with {hands.name} in {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
