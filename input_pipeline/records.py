"""The prepared example: one record type, its fields, and its form in bytes.

A record is stored as a `tf.train.Example`, the form TFDS reads and writes. The table `FIELDS` is
the only description of it: the TFDS features, the TensorFlow parser (`dataset.py`) and the numpy
form below are all made from it. This module does not import tensorflow.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
from tensorflow_datasets.proto import tf_example_pb2

from mano_jax.constants import BETAS, JOINTS

# Side of the stored window. Its central CROP_SIZE square is the crop the network sees; the rest is
# margin: the largest augmentation (any rotation, scale 0.9, 10 px shift along both axes) reaches
# (256 / 2 + 10) * sqrt(2) / 0.9 = 216.8 px from the centre; half of 440 covers it.
CROP_SIZE = 256
STORED_SIZE = 440
MARGIN = (STORED_SIZE - CROP_SIZE) // 2

HANDS = 2  # the axis of hands everywhere: left, right


@dataclasses.dataclass(frozen=True)
class Field:
    """Shape, type and meaning of one entry of a record; text has dtype `object`."""

    shape: tuple[int, ...]
    dtype: type
    doc: str


FIELDS: dict[str, Field] = {
    "camera": Field((3, 3), np.float32, "Intrinsics of the central 256x256 crop, pixels."),
    "global_orient": Field(
        (HANDS, 3), np.float32, "Root rotation, axis-angle, camera axes (left, right)."
    ),
    "hand_pose": Field(
        (HANDS, 45), np.float32, "15 joint rotations, axis-angle, hands_mean included."
    ),
    "betas": Field((HANDS, BETAS), np.float32, "MANO shape coefficients."),
    "transl": Field(
        (HANDS, 3), np.float32, "Metres, camera axes: pose_hand(..., transl) is in camera space."
    ),
    "hand_valid": Field((HANDS,), np.bool_, "Whether the hand's parameters are known."),
    "joints_xyz": Field(
        (HANDS, JOINTS, 3), np.float32, "Annotated joints, metres, camera axes, 21-joint order."
    ),
    "joint_valid": Field((HANDS, JOINTS), np.bool_, "Whether the annotated joint is known."),
    "source_square": Field(
        (3,), np.float32, "The crop in the photo: centre x, centre y, half side (photo pixels)."
    ),
    "source_size": Field((2,), np.int64, "Width and height of the photo."),
    "hand_type": Field((), object, "interacting, left or right, as annotated."),
    "capture": Field((), object, "Capture, for example 3."),
    "sequence": Field((), object, "Sequence name, for example 0390_dh_touchROM."),
    "camera_name": Field((), object, "Camera, for example 400026."),
    "frame": Field((), np.int64, "Frame number within the capture."),
    "file_name": Field((), object, "File below images/<split>, or the number of a processed one."),
}
IMAGE_DOC = (
    f"JPEG, {STORED_SIZE}x{STORED_SIZE} RGB; its central {CROP_SIZE}x{CROP_SIZE} window is the "
    "crop around both hands."
)


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """One prepared example; `FIELDS` gives every array's shape, type and meaning.

    Attributes:
      image: JPEG bytes of the STORED_SIZE window.
    """

    image: bytes
    camera: np.ndarray
    global_orient: np.ndarray
    hand_pose: np.ndarray
    betas: np.ndarray
    transl: np.ndarray
    hand_valid: np.ndarray
    joints_xyz: np.ndarray
    joint_valid: np.ndarray
    source_square: np.ndarray
    source_size: np.ndarray
    hand_type: str
    capture: str
    sequence: str
    camera_name: str
    frame: int
    file_name: str


def encode_jpeg(image_rgb: np.ndarray, quality: int = 95) -> bytes:
    """Encodes an RGB uint8 image as JPEG."""
    ok, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not ok:
        raise ValueError(f"an image of shape {image_rgb.shape} could not be written as JPEG")
    return data.tobytes()


def decode_jpeg(data: bytes) -> np.ndarray:
    """Decodes JPEG bytes into an RGB uint8 image.

    Raises:
      ValueError: when the bytes are no readable image.
    """
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None:
        raise ValueError("a stored image is not readable: prepare the data set again")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def serialize(record: Record) -> bytes:
    """The record as a serialized `tf.train.Example`, the same bytes for the same record.

    Raises:
      ValueError: when an array does not have the shape `FIELDS` gives.
    """
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
    try:
        feature = tf_example_pb2.Example.FromString(data).features.feature
    except Exception as error:  # protobuf's DecodeError has no stable home
        raise ValueError(f"a stored record is not readable: {error}") from None
    values: dict[str, object] = {"image": _bytes(feature, "image")}
    for name, field in FIELDS.items():
        if field.dtype is object:
            values[name] = _bytes(feature, name).decode()
            continue
        entry = feature[name]
        stored = entry.float_list if field.dtype is np.float32 else entry.int64_list
        array = np.array(stored.value, field.dtype)
        if array.size != int(np.prod(field.shape)):
            raise ValueError(f"record field {name}: {array.size} numbers, wanted {field.shape}")
        values[name] = array.reshape(field.shape) if field.shape else array[0].item()
    return Record(**values)


def _bytes(feature, name: str) -> bytes:
    value = feature[name].bytes_list.value
    if len(value) != 1:
        raise ValueError(f"record field {name} is missing")
    return value[0]
