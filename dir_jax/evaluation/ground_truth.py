"""Ground truth of prepared data in the form that `evaluate.py --predictions` reads.

    python -m dir_jax.evaluation.ground_truth --data DATA --split test --output truth.npz
    python evaluate.py --predictions theirs.npz --ground_truth truth.npz --mano MANO

The samples' names (`sample_ids`) are the photographs' file names, so predictions may come in any
order. 25 KB a sample; the file is written as it is computed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import sys
import tempfile
import zipfile
from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from dir_jax.evaluation.labels import filled_batches, label_arrays
from dir_jax.evaluation.runner import true_hands
from dir_jax.weights.loading import load_hands
from input_pipeline.files import whole_file
from mano_jax import HandPair
from mano_jax.constants import JOINTS, VERTICES

_BATCH = 64
"""Samples at a time."""
_ARRAYS = {
    "gt_vertices_xyz": ((2, VERTICES, 3), np.float32),
    "camera": ((3, 3), np.float32),
    "hand_valid": ((2,), np.bool_),
    "annotated_joints_xyz": ((2, JOINTS, 3), np.float32),
    "joint_valid": ((2, JOINTS), np.bool_),
}


def write_ground_truth(
    path: str | os.PathLike,
    data_dir: str | os.PathLike,
    split: str,
    hands: HandPair,
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
    names = np.array([row.file_name for row in source])
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(dir=path.parent)))
        arrays = {
            name: np.lib.format.open_memmap(
                folder / f"{name}.npy", "w+", dtype, (len(source), *shape)
            )
            for name, (shape, dtype) in _ARRAYS.items()
        }
        for rows, batch in _batches(source, hands):
            for name, values in batch.items():
                arrays[name][rows] = values
        arrays.clear()  # on disk
        np.save(folder / "sample_ids.npy", names)
        temporary = stack.enter_context(whole_file(path))
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for name in (*_ARRAYS, "sample_ids"):
                archive.write(folder / f"{name}.npy", f"{name}.npy")
    return len(names)


def _batches(source, hands: HandPair) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Samples and arrays of every batch; images are not decoded."""
    for rows, mask in tqdm(list(filled_batches(len(source), _BATCH)), unit="batch"):
        labels = label_arrays([source[row] for row in rows.tolist()])
        labels["gt_vertices_xyz"] = np.asarray(true_hands(hands, labels).vertices_xyz)
        labels["annotated_joints_xyz"] = labels["joints_xyz"]
        yield rows[mask], {name: labels[name][mask] for name in _ARRAYS}


def main(argv: list[str] | None = None) -> int:
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
    try:
        hands, notes = load_hands(arguments.mano)
        for note in notes:
            print(f"note: {note}")
        count = write_ground_truth(
            arguments.output, arguments.data, arguments.split, hands, config=arguments.config
        )
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"{count} samples with {hands.name} in {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
