"""The prepared example: one record type, its fields, and its form in bytes.

A record is stored as a `tf.train.Example`, the form TFDS reads and writes. The fields of `Record`
are the only description of it: TFDS's features (`dataset.py`), TensorFlow's parser (`batches.py`)
and the numpy form below are made from them. This module does not import tensorflow.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, get_type_hints

import cv2
import numpy as np

from mano_jax.constants import BETAS, JOINTS

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


def encode_jpeg(image_rgb: np.ndarray) -> bytes:
    """Encodes an RGB uint8 image as JPEG of quality 95."""
    ok, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95]
    )
    if not ok:
        raise ValueError(f"an image of shape {image_rgb.shape} could not be written as JPEG")
    return data.tobytes()


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
