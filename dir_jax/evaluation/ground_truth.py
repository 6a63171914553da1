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

import jax
import numpy as np
from tqdm import tqdm

import mano_jax
from dir_jax.losses.targets import pose_batch
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
      path: npz file to write; its arrays are described in `prediction_tables`.
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
    from input_pipeline.batches import identities

    source = dataset.open_split(data_dir, split, config)
    names = np.array([row.file_name for row in identities(data_dir, split, config=config)])
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
        for start, batch in _batches(source, hands):
            for name, values in batch.items():
                arrays[name][start : start + len(values)] = values
        arrays.clear()  # on disk
        np.save(folder / "sample_ids.npy", names)
        temporary = stack.enter_context(whole_file(path))
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for name in (*_ARRAYS, "sample_ids"):
                archive.write(folder / f"{name}.npy", f"{name}.npy")
    return len(names)


def _batches(source, hands: HandPair) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """First sample and arrays of every batch; images are not decoded."""
    from input_pipeline import records

    pose = jax.jit(lambda parameters: pose_batch(parameters, hands).vertices)
    for start in tqdm(range(0, len(source), _BATCH), unit="batch", dynamic_ncols=True):
        count = min(_BATCH, len(source) - start)
        # The last batch is filled up, so that one program serves all.
        places = np.minimum(np.arange(start, start + _BATCH), len(source) - 1).tolist()
        found = [records.deserialize(data) for data in source.read(places)]

        def stack(name: str, *shape: int, rows=found) -> np.ndarray:
            return np.stack([getattr(row, name) for row in rows]).reshape(_BATCH, *shape)

        parameters = {
            "global_orient": mano_jax.matrix_from_axis_angle(stack("global_orient", 2, 3)),
            "hand_pose": stack("hand_pose", 2, 15, 3),
            "betas": stack("betas", 2, 10),
            "transl": stack("transl", 2, 3),
        }
        batch = {
            "gt_vertices_xyz": np.asarray(pose(parameters)),
            "camera": stack("camera", 3, 3),
            "hand_valid": stack("hand_valid", 2),
            "annotated_joints_xyz": stack("joints_xyz", 2, JOINTS, 3),
            "joint_valid": stack("joint_valid", 2, JOINTS),
        }
        yield start, {name: values[:count] for name, values in batch.items()}


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
