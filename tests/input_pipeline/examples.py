"""Small prepared records and raw data for tests, made of random numbers."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np

from input_pipeline.crop import STORED_SIZE
from input_pipeline.dataset import (
    Record,
    encode_jpeg,
    serialize,
    shard_name,
    version_folder,
    write_metadata,
    write_shard,
)


def write_dataset(
    data_dir: pathlib.Path, splits: dict[str, Sequence[Record]], shard_size: int = 512
) -> pathlib.Path:
    """Writes records as a complete data set and returns its version folder."""
    folder, lengths = version_folder(data_dir), {}
    for split, records in splits.items():
        groups = [records[i : i + shard_size] for i in range(0, len(records), shard_size)]
        lengths[split] = [
            write_shard(folder / shard_name(split, i, len(groups)), map(serialize, group))
            for i, group in enumerate(groups)
        ]
    write_metadata(folder, lengths)
    return folder


def random_record(seed: int, **changes) -> Record:
    """A record with two hands about 0.7 m before the camera and a smooth random image."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (8, 8, 3), np.uint8)
    image = np.kron(coarse, np.ones((STORED_SIZE // 8, STORED_SIZE // 8, 1), np.uint8))
    centre = np.array([[-0.06, 0.0, 0.7], [0.06, 0.0, 0.7]])
    values = dict(
        image=encode_jpeg(image),
        camera=np.array([[900.0, 0, 128], [0, 895.0, 128], [0, 0, 1]], np.float32),
        global_orient=rng.normal(size=(2, 3)).astype(np.float32),
        hand_pose=(0.3 * rng.normal(size=(2, 45))).astype(np.float32),
        betas=(0.5 * rng.normal(size=(2, 10))).astype(np.float32),
        transl=(centre + 0.01 * rng.normal(size=(2, 3))).astype(np.float32),
        hand_valid=np.array([True, True]),
        joints_xyz=(centre[:, None] + 0.04 * rng.normal(size=(2, 21, 3))).astype(np.float32),
        joint_valid=rng.uniform(size=(2, 21)) < 0.9,
        source_square=np.array([167.0, 256.0, 140.0], np.float32),
        source_size=np.array([334, 512]),
        hand_type="interacting",
        capture="3",
        sequence="0390_dh_touchROM",
        camera_name=f"40002{seed % 10}",
        frame=1000 + seed,
        file_name=f"Capture3/0390_dh_touchROM/cam40002{seed % 10}/image{1000 + seed}.jpg",
    )
    return Record(**{**values, **changes})
