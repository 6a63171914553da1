"""The prepared data set on disk: TFDS metadata over ArrayRecord shards, and random access to it.

Layout: `DATA/interhand26m/<config>/<version>/interhand26m-<split>.array_record-00000-of-00012`
beside TFDS's `dataset_info.json` and `features.json`. `tfds.builder_from_directory(folder)` reads
it with `.as_data_source()` (TFDS has no `.as_dataset()` for ArrayRecord; `as_dataset` below is the
tf.data form). Training uses `open_split`, whose reads depend on nothing but the record numbers
asked for, so that going on after a stop needs no replay.

tensorflow is imported only by `parse_example` and `as_dataset`.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import json
import os
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from input_pipeline.records import FIELDS, IMAGE_DOC, STORED_SIZE

NAME = "interhand26m"
VERSION = "1.0.0"
HAND_CONFIGS = ("interacting", "single", "all")
# "_small": about one frame in twenty, see prepare.py.
CONFIGS = tuple(f"{hands}{size}" for hands in HAND_CONFIGS for size in ("", "_small"))
SPLITS = ("train", "val", "test")


class DatasetError(ValueError):
    """A prepared data set that is missing, incomplete or not ours; the message says what to do."""


def version_folder(data_dir: str | os.PathLike, config: str = "interacting") -> pathlib.Path:
    """Folder of one prepared configuration, for example DATA/interhand26m/interacting/1.0.0.

    Raises:
      DatasetError: for a configuration that does not exist.
    """
    if config not in CONFIGS:
        raise DatasetError(f"there is no configuration {config!r}: use one of {', '.join(CONFIGS)}")
    return pathlib.Path(data_dir) / NAME / config / VERSION


def shard_name(split: str, shard: int, shards: int) -> str:
    """TFDS's file name of one shard."""
    return f"{NAME}-{split}.array_record-{shard:05d}-of-{shards:05d}"


def features():
    """The `tfds.features.FeaturesDict` of a record, with its documentation."""
    import tensorflow_datasets as tfds

    spec = {
        "image": tfds.features.Image(
            shape=(STORED_SIZE, STORED_SIZE, 3), encoding_format="jpeg", doc=IMAGE_DOC
        )
    }
    for name, field in FIELDS.items():
        if field.dtype is object:
            spec[name] = tfds.features.Text(doc=field.doc)
        else:
            spec[name] = tfds.features.Tensor(shape=field.shape, dtype=field.dtype, doc=field.doc)
    return tfds.features.FeaturesDict(spec)


def builder(data_dir: str | os.PathLike, config: str = "interacting"):
    """TFDS builder of a prepared data set.

    Raises:
      DatasetError: when nothing (or nothing complete) is prepared there.
    """
    import tensorflow_datasets as tfds

    folder = version_folder(data_dir, config)
    if not (folder / "dataset_info.json").is_file():
        raise DatasetError(
            f"no prepared data set in {folder}: run python -m input_pipeline.prepare "
            f"--source RAW --output {data_dir}"
        )
    return tfds.builder_from_directory(folder)


class RecordSource:
    """Random access to the serialized records of one split; safe to use from many threads."""

    def __init__(self, files: Sequence[pathlib.Path], lengths: Sequence[int]):
        """Opens nothing yet.

        Args:
          files: the shards in order.
          lengths: their numbers of records.
        """
        self._files = list(files)
        self._starts = [0, *itertools.accumulate(lengths)]
        self._readers: dict[int, ArrayRecordReader] = {}

    def __len__(self) -> int:
        return self._starts[-1]

    def read(self, indices: Iterable[int]) -> list[bytes]:
        """Serialized records (see `records.deserialize`, `parse_example`) of these numbers.

        Raises:
          IndexError: for a number outside 0 .. len - 1.
        """
        places: dict[int, list[tuple[int, int]]] = {}
        indices = [int(index) for index in indices]
        for place, index in enumerate(indices):
            if not 0 <= index < len(self):
                raise IndexError(f"record {index} of a split that holds {len(self)}")
            shard = bisect.bisect_right(self._starts, index) - 1
            places.setdefault(shard, []).append((place, index - self._starts[shard]))
        found: list[bytes] = [b""] * len(indices)
        for shard, wanted in places.items():
            data = self._reader(shard).read([position for _, position in wanted])
            for (place, _), record in zip(wanted, data, strict=True):
                found[place] = record
        return found

    def _reader(self, shard: int) -> ArrayRecordReader:
        if shard not in self._readers:
            # Two threads may both open the file; either reader serves.
            self._readers[shard] = ArrayRecordReader(
                os.fspath(self._files[shard]),
                options="readahead_buffer_size:0",
                file_reader_buffer_size=32768,
            )
        return self._readers[shard]


def split_lengths(data_dir: str | os.PathLike, config: str = "interacting") -> dict[str, list[int]]:
    """Records per shard of every prepared split, from TFDS's dataset_info.json.

    Raises:
      DatasetError: when nothing complete is prepared there.
    """
    path = version_folder(data_dir, config) / "dataset_info.json"
    try:
        splits = json.loads(path.read_text())["splits"]
        return {s["name"]: [int(n) for n in s["shardLengths"]] for s in splits}
    except FileNotFoundError:
        raise DatasetError(
            f"no prepared data set in {path.parent}: run python -m input_pipeline.prepare "
            f"--source RAW --output {data_dir}"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path} is damaged ({error}): prepare the data set again") from None


def open_split(
    data_dir: str | os.PathLike, split: str, config: str = "interacting"
) -> RecordSource:
    """Random access to one split.

    Args:
      data_dir: the folder given to `prepare --output`.
      split: "train", "val" or "test".
      config: one of `CONFIGS`.

    Returns:
      A `RecordSource`: `len(source)`, `source.read([numbers]) -> [bytes]`.

    Raises:
      DatasetError: when the data set or the split is not there, or a shard is missing.
    """
    lengths = split_lengths(data_dir, config)
    if split not in lengths:
        raise DatasetError(
            f"split {split!r} is not prepared in {version_folder(data_dir, config)}; "
            f"there is {', '.join(lengths) or 'none'}"
        )
    folder = version_folder(data_dir, config)
    count = len(lengths[split])
    files = [folder / shard_name(split, i, count) for i in range(count)]
    for file in files:
        if not file.is_file():
            raise DatasetError(f"{file} is missing: prepare the data set again")
    return RecordSource(files, lengths[split])


@functools.cache
def _parse_spec():
    import tensorflow as tf

    kinds = {np.float32: tf.float32, np.int64: tf.int64, np.bool_: tf.int64, object: tf.string}
    spec = {name: tf.io.FixedLenFeature(f.shape, kinds[f.dtype]) for name, f in FIELDS.items()}
    return {"image": tf.io.FixedLenFeature((), tf.string), **spec}


def parse_example(serialized, names: Sequence[str] | None = None) -> dict:
    """Parses one serialized record (a scalar string tensor) inside tf.data.

    Args:
      serialized: scalar tf.string.
      names: fields wanted; None for all of them.

    Returns:
      Tensors by field name with the shapes of `FIELDS`; `image` stays JPEG bytes.
    """
    import tensorflow as tf

    spec = _parse_spec()
    parsed = tf.io.parse_single_example(serialized, {n: spec[n] for n in names or spec})
    for name, value in parsed.items():
        if name != "image" and FIELDS[name].dtype is np.bool_:
            parsed[name] = tf.cast(value, tf.bool)
    return parsed


def as_dataset(data_dir: str | os.PathLike, split: str, config: str = "interacting"):
    """One split in order as a `tf.data.Dataset` of parsed examples with decoded images.

    Args, errors: as `open_split`.
    """
    import tensorflow as tf

    source = open_split(data_dir, split, config)

    def load(index):
        read = lambda i: source.read([i])[0]  # noqa: E731
        example = parse_example(tf.ensure_shape(tf.numpy_function(read, [index], tf.string), ()))
        image = tf.io.decode_jpeg(example["image"], channels=3)
        return {**example, "image": tf.ensure_shape(image, (STORED_SIZE, STORED_SIZE, 3))}

    return tf.data.Dataset.range(len(source)).map(load, num_parallel_calls=tf.data.AUTOTUNE)
