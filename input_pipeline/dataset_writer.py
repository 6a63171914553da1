"""Writing prepared data: ArrayRecord shards, atomic one by one, and TFDS's metadata over them."""

from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Iterable, Sequence

from array_record.python.array_record_module import ArrayRecordWriter

from input_pipeline.dataset import NAME, VERSION, features, shard_name, version_folder
from input_pipeline.records import Record, serialize

# One record a chunk for random access; JPEG does not shrink any further.
_WRITER_OPTIONS = "group_size:1,uncompressed"


def write_shard(path: str | os.PathLike, records: Iterable[bytes]) -> int:
    """Writes serialized records into one ArrayRecord file, atomically.

    Args:
      path: final name; the file is written beside it and renamed when complete.
      records: serialized records (`records.serialize`).

    Returns:
      The number of records. Nothing is left behind on failure.

    Raises:
      OSError: when the file cannot be written, for example because the disk is full.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    count = 0
    try:
        writer = ArrayRecordWriter(os.fspath(temporary), _WRITER_OPTIONS)
        try:
            for record in records:
                writer.write(record)
                count += 1
        finally:
            writer.close()
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except RuntimeError as error:  # what the writer raises for any trouble of the disk
        raise OSError(f"could not write {path}: {error}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return count


def write_metadata(folder: str | os.PathLike, split_lengths: dict[str, Sequence[int]]) -> None:
    """Writes TFDS's metadata over finished shards; the data set exists from then on.

    Args:
      folder: version folder that holds the shards under their final names.
      split_lengths: records per shard of every split.
    """
    import tensorflow_datasets as tfds

    folder = pathlib.Path(folder)
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name=NAME, filetype_suffix="array_record"
    )
    infos = []
    for split, lengths in split_lengths.items():
        sizes = [
            (folder / shard_name(split, i, len(lengths))).stat().st_size
            for i in range(len(lengths))
        ]
        infos.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=list(lengths),
                num_bytes=sum(sizes),
                filename_template=template.replace(split=split),
            )
        )
    with tempfile.TemporaryDirectory(dir=folder, prefix=".metadata-") as scratch:
        _tfds_metadata(pathlib.Path(scratch), template, infos)
        # dataset_info.json names the shards: it goes last.
        for name in sorted(os.listdir(scratch), key=lambda name: name == "dataset_info.json"):
            os.replace(os.path.join(scratch, name), folder / name)


def _tfds_metadata(scratch: pathlib.Path, template, infos: list) -> None:
    import tensorflow_datasets as tfds

    identity = tfds.core.dataset_info.DatasetIdentity(
        name=NAME,
        version=tfds.core.Version(VERSION),
        data_dir=os.fspath(template.data_dir),
        module_name="",
        config_name=template.data_dir.parent.name,
    )
    info = tfds.core.DatasetInfo(
        builder=identity,
        features=features(),
        description=(
            "InterHand2.6M (Moon et al., ECCV 2020) cropped around the hands, with MANO parameters "
            "in camera axes and annotated joints; prepared by input_pipeline.prepare."
        ),
        homepage="https://mks0601.github.io/InterHand2.6M/",
    )
    info.set_file_format("array_record")
    info.set_splits(tfds.core.splits.SplitDict(infos))
    info.write_to_directory(scratch)


def write_dataset(
    data_dir: str | os.PathLike,
    splits: dict[str, Sequence[Record]],
    config: str = "interacting",
    shard_size: int = 512,
) -> pathlib.Path:
    """Writes records held in memory as a complete data set (tests and small folders of images).

    Args:
      data_dir: folder as for `prepare --output`.
      splits: records of every split; empty ones are left out.
      config: one of `CONFIGS`.
      shard_size: records a file.

    Returns:
      The version folder.
    """
    folder = version_folder(data_dir, config)
    folder.mkdir(parents=True, exist_ok=True)
    lengths = {}
    for split, records in splits.items():
        groups = [records[i : i + shard_size] for i in range(0, len(records), shard_size)]
        if groups:
            lengths[split] = [
                write_shard(folder / shard_name(split, i, len(groups)), map(serialize, group))
                for i, group in enumerate(groups)
            ]
    write_metadata(folder, lengths)
    return folder
