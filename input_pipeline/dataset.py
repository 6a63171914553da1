"""The prepared data set: its records, TFDS metadata over ArrayRecord shards, random access to them.

Layout: `DATA/interhand26m/<config>/<version>/interhand26m-<split>.array_record-00000-of-00012`
beside TFDS's `dataset_info.json` and `features.json`. `tfds.builder_from_directory(folder)` reads
it with `.as_data_source()`. Training uses `open_split`, whose reads depend on nothing but the
record numbers asked for, so that a resumed run replays nothing.

A record is stored as a `tf.train.Example`, the form TFDS reads and writes. The fields of `Record`
are the only description of it: TFDS's features, TensorFlow's parser (`batches.py`) and the numpy
form below are made from them. TFDS and ArrayRecord are imported only inside the functions that need
them, so that commands answer quickly; `import_libraries` says when that is too late.
"""

from __future__ import annotations

import dataclasses
import errno
import importlib
import json
import os
import pathlib
import tempfile
import types
from collections.abc import Iterable, Sequence
from typing import Annotated, get_type_hints

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from input_pipeline.crop import CROP_SIZE, STORED_SIZE
from input_pipeline.files import whole_file
from mano_jax.constants import BETAS, JOINTS

NAME = "interhand26m"
VERSION = "1.0.0"
CONFIGS = ("interacting", "single", "all")


class DatasetError(ValueError):
    """A prepared data set that is missing, incomplete or not ours; the message says what to do."""


Array, F32 = np.ndarray, np.float32


@dataclasses.dataclass(frozen=True)
class Field:
    """Shape, type and meaning of one entry of a record; text has dtype `object`."""

    shape: tuple[int, ...]
    dtype: type
    doc: str


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """One prepared example, hands in the order left, right; `FIELDS` has its entries by name.

    Attributes:
      image: JPEG bytes of the STORED_SIZE window around the crop.
    """

    image: bytes
    camera: Annotated[Array, Field((3, 3), F32, "Intrinsics of the central 256x256 crop, pixels.")]
    global_orient: Annotated[Array, Field((2, 3), F32, "Root rotation, axis-angle, camera axes.")]
    hand_pose: Annotated[Array, Field((2, 45), F32, "15 axis-angles, hands_mean included.")]
    betas: Annotated[Array, Field((2, BETAS), F32, "MANO shape coefficients.")]
    transl: Annotated[Array, Field((2, 3), F32, "Metres: pose_hand(..., transl) is camera space.")]
    hand_valid: Annotated[Array, Field((2,), np.bool_, "Whether the parameters are known.")]
    joints_xyz: Annotated[Array, Field((2, JOINTS, 3), F32, "Annotated, metres, camera axes.")]
    joint_valid: Annotated[Array, Field((2, JOINTS), np.bool_, "Whether the joint is annotated.")]
    source_square: Annotated[Array, Field((3,), F32, "Crop in the photo: centre x, y, half side.")]
    source_size: Annotated[Array, Field((2,), np.int64, "Width and height of the photo.")]
    hand_type: Annotated[str, Field((), object, "interacting, left or right, as annotated.")]
    capture: Annotated[str, Field((), object, "Capture, for example 3.")]
    sequence: Annotated[str, Field((), object, "Sequence name, for example 0390_dh_touchROM.")]
    camera_name: Annotated[str, Field((), object, "Camera, for example 400026.")]
    frame: Annotated[int, Field((), np.int64, "Frame number within the capture.")]
    file_name: Annotated[str, Field((), object, "Below images/<split>, or a processed one's.")]


FIELDS: dict[str, Field] = {
    name: hint.__metadata__[0]
    for name, hint in get_type_hints(Record, include_extras=True).items()
    if name != "image"
}

LABELS = ("camera", "global_orient", "hand_pose", "betas", "transl", "hand_valid")
LABELS += ("joints_xyz", "joint_valid")
"""What a batch holds of a record besides the image (see `batches`)."""


def as_batch(labels: dict[str, Array]) -> dict[str, Array]:
    """Labels as batches have them.

    Args:
      labels: of B records, (B, ...) by name, as stored.

    Returns:
      The same, global_orient as matrices (B, 2, 3, 3) and hand_pose (B, 2, 15, 3).
    """
    count = len(labels["global_orient"])
    rotations = Rotation.from_rotvec(labels["global_orient"].reshape(-1, 3)).as_matrix()
    return labels | {
        "global_orient": rotations.reshape(count, 2, 3, 3).astype(F32),
        "hand_pose": labels["hand_pose"].reshape(count, 2, 15, 3),
    }


def encode_jpeg(image_rgb: np.ndarray) -> bytes:
    """Encodes an RGB uint8 image as JPEG of quality 95."""
    ok, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95]
    )
    if not ok:
        raise ValueError(f"an image of shape {image_rgb.shape} could not be written as JPEG")
    return data.tobytes()


def import_libraries() -> None:
    """Imports what reads and writes records; to be called before threads do either.

    While TFDS is being imported, whatever another thread imports may turn out to be a stand-in.
    """
    importlib.import_module("tensorflow_datasets.proto")
    importlib.import_module("array_record.python.array_record_module")


def serialize(record: Record) -> bytes:
    """The record as a serialized `tf.train.Example`, the same bytes for the same record.

    Raises:
      ValueError: when an array does not have the shape `FIELDS` gives.
    """
    from tensorflow_datasets.proto import tf_example_pb2

    example = tf_example_pb2.Example()
    feature = example.features.feature
    feature["image"].bytes_list.value.append(record.image)
    for name, field in FIELDS.items():
        value = getattr(record, name)
        if field.dtype is object:
            feature[name].bytes_list.value.append(value.encode("utf-8", "replace"))
            continue
        array = np.asarray(value)
        if array.shape != field.shape:
            raise ValueError(f"record field {name}: shape {array.shape}, wanted {field.shape}")
        if field.dtype is np.float32:
            feature[name].float_list.value.extend(array.astype(np.float32).ravel().tolist())
        else:
            feature[name].int64_list.value.extend(array.astype(np.int64).ravel().tolist())
    return example.SerializeToString(deterministic=True)


def deserialize(data: bytes) -> Record:
    """Reads back what `serialize` wrote.

    Raises:
      ValueError: when the bytes are no such example, or a field is missing or of another size.
    """
    from tensorflow_datasets.proto import tf_example_pb2

    try:
        feature = tf_example_pb2.Example.FromString(data).features.feature
    except Exception as error:  # protobuf's DecodeError has no stable home
        raise ValueError(f"a stored record is not readable: {error}") from None
    values: dict[str, object] = {}
    for name in ("image", *FIELDS):
        field, entry = FIELDS.get(name), feature[name]
        if field is None or field.dtype is object:
            if len(entry.bytes_list.value) != 1:
                raise ValueError(f"record field {name} is missing")
            value = entry.bytes_list.value[0]
            values[name] = value.decode() if field else value
            continue
        stored = entry.float_list if field.dtype is np.float32 else entry.int64_list
        array = np.array(stored.value, field.dtype)
        if array.size != int(np.prod(field.shape)):
            raise ValueError(f"record field {name}: {array.size} numbers, wanted {field.shape}")
        values[name] = array.reshape(field.shape) if field.shape else array[0].item()
    return Record(**values)


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

    Raises:
      DatasetError: when the data set or the split is not there, or a shard is missing.
    """
    lengths = split_lengths(data_dir, config)
    folder = version_folder(data_dir, config)
    if split not in lengths:
        raise DatasetError(
            f"split {split!r} is not prepared in {folder}; there is {', '.join(lengths) or 'none'}"
        )
    count = len(lengths[split])
    files = [folder / shard_name(split, i, count) for i in range(count)]
    for file in files:
        if not file.is_file():
            raise DatasetError(f"{file} is missing: prepare the data set again")
    return RecordSource(files, lengths[split])


class RecordSource(Sequence):
    """Random access to the records of one split; safe to use from many threads."""

    def __init__(self, files: Sequence[pathlib.Path], lengths: Sequence[int]):
        """Opens nothing yet.

        Args:
          files: the shards in order.
          lengths: their numbers of records.
        """
        import_libraries()
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        self._length = sum(lengths)
        self._source = ArrayRecordDataSource(
            [
                types.SimpleNamespace(
                    filename=os.fspath(file), skip=0, take=count, examples_in_shard=count
                )
                for file, count in zip(files, lengths, strict=True)
            ]
        )

    def __len__(self) -> int:
        return self._length

    def read(self, indices: Iterable[int]) -> list[bytes]:
        """Serialized records (see `deserialize`) of these numbers.

        Raises:
          IndexError: for a number outside 0 .. len - 1.
        """
        found = []
        for index in indices:
            if not 0 <= index < len(self):
                raise IndexError(f"record {index} of a split that holds {len(self)}")
            found.append(self._source[int(index)])
        return found

    def __getitem__(self, index: int) -> Record:
        """One record, for example for the name of its photograph.

        Raises:
          IndexError: for a number outside 0 .. len - 1.
          ValueError: it is not readable.
        """
        return deserialize(self.read([index])[0])


def write_shard(path: str | os.PathLike, records: Iterable[bytes]) -> int:
    """Writes serialized records into one ArrayRecord file, whole or not at all.

    Returns:
      The number of records.

    Raises:
      OSError: when the file cannot be written, for example because the disk is full.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    count = 0
    with whole_file(path) as temporary:
        try:
            # One record a chunk for random access; JPEG does not shrink any further.
            writer = ArrayRecordWriter(os.fspath(temporary), "group_size:1,uncompressed")
            try:
                for record in records:
                    writer.write(record)
                    count += 1
            finally:
                writer.close()
        except RuntimeError as error:  # what the writer raises for any trouble of the disk
            full = os.strerror(errno.ENOSPC) in str(error)
            code = errno.ENOSPC if full else errno.EIO
            raise OSError(code, os.strerror(code) if full else str(error), path) from None
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
    return count


def _features():
    """The `tfds.features.FeaturesDict` of a record, with its documentation."""
    import tensorflow_datasets as tfds

    doc = (
        f"JPEG, {STORED_SIZE}x{STORED_SIZE} RGB; its central {CROP_SIZE}x{CROP_SIZE} window is the "
        "crop around both hands."
    )
    side = (STORED_SIZE, STORED_SIZE, 3)
    spec = {"image": tfds.features.Image(shape=side, encoding_format="jpeg", doc=doc)}
    for name, field in FIELDS.items():
        if field.dtype is object:
            spec[name] = tfds.features.Text(doc=field.doc)
        else:
            spec[name] = tfds.features.Tensor(shape=field.shape, dtype=field.dtype, doc=field.doc)
    return tfds.features.FeaturesDict(spec)


def write_metadata(folder: str | os.PathLike, lengths: dict[str, Sequence[int]]) -> None:
    """Writes TFDS's metadata over finished shards; the data set exists from then on.

    Args:
      folder: version folder that holds the shards under their final names.
      lengths: records per shard of every split.
    """
    import tensorflow_datasets as tfds

    folder = pathlib.Path(folder)
    identity = tfds.core.dataset_info.DatasetIdentity(
        name=NAME,
        version=tfds.core.Version(VERSION),
        data_dir=os.fspath(folder),
        module_name="",
        config_name=folder.parent.name,
    )
    info = tfds.core.DatasetInfo(
        builder=identity,
        features=_features(),
        description=(
            "InterHand2.6M (Moon et al., ECCV 2020) cropped around the hands, with MANO parameters "
            "in camera axes and annotated joints; prepared by input_pipeline.prepare."
        ),
        homepage="https://mks0601.github.io/InterHand2.6M/",
    )
    info.set_file_format("array_record")
    infos = [_split_info(folder, split, counts) for split, counts in lengths.items()]
    info.set_splits(tfds.core.splits.SplitDict(infos))
    with tempfile.TemporaryDirectory(dir=folder, prefix=".metadata-") as scratch:
        info.write_to_directory(scratch)
        # dataset_info.json names the shards: it goes last.
        for name in sorted(os.listdir(scratch), key=lambda name: name == "dataset_info.json"):
            os.replace(os.path.join(scratch, name), folder / name)


def _split_info(folder: pathlib.Path, split: str, lengths: Sequence[int]):
    import tensorflow_datasets as tfds

    shards = [folder / shard_name(split, i, len(lengths)) for i in range(len(lengths))]
    return tfds.core.SplitInfo(
        name=split,
        shard_lengths=list(lengths),
        num_bytes=sum(shard.stat().st_size for shard in shards),
        filename_template=tfds.core.ShardedFileTemplate(
            data_dir=folder, dataset_name=NAME, filetype_suffix="array_record", split=split
        ),
    )
