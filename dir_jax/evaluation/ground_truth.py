"""Ground truth of prepared data in the form that `evaluate.py --predictions` reads.

    python -m dir_jax.evaluation.ground_truth --data DATA --split test --output truth.npz
    python evaluate.py --predictions theirs.npz --ground_truth truth.npz --mano MANO

The samples' names (`sample_ids`) are the photographs' file names, so predictions may come in any
order. 19 KB a sample; the meshes are written as they are computed.
"""

from __future__ import annotations

import argparse
import os
import sys
import zipfile

import numpy as np
from tqdm import tqdm

from dir_jax.evaluation.labels import filled_batches, label_arrays
from dir_jax.evaluation.runner import true_hands
from dir_jax.weights.loading import OPEN_HAND_NOTE
from input_pipeline.commands import command
from input_pipeline.files import whole_file
from mano_jax import HandPair, load_hands
from mano_jax.constants import VERTICES

_BATCH = 64
"""Samples at a time."""
_LABELS = {
    "camera": "camera",
    "hand_valid": "hand_valid",
    "annotated_joints_xyz": "joints_xyz",
    "joint_valid": "joint_valid",
}
"""Arrays of the file besides meshes and names, by the label that they are."""


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
    shape = (len(source), 2, VERTICES, 3)
    small: dict[str, list[np.ndarray]] = {name: [] for name in (*_LABELS, "sample_ids")}
    with whole_file(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        with archive.open("gt_vertices_xyz.npy", "w", force_zip64=True) as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for rows, mask in tqdm(list(filled_batches(len(source), _BATCH)), unit="batch"):
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
    hands = load_hands(arguments.mano)
    if not arguments.mano:
        print(f"note: {OPEN_HAND_NOTE}")
    count = write_ground_truth(
        arguments.output, arguments.data, arguments.split, hands, config=arguments.config
    )
    print(f"{count} samples with {hands.name} in {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
