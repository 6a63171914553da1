"""Names for everything that can be wrong with a raw data set, and a count of each."""

from __future__ import annotations

import collections
import enum
from typing import Any


class SourceError(ValueError):
    """A raw folder that cannot be used at all; the message says what to do."""


class Trouble(enum.StrEnum):
    """What is wrong with one frame or annotation; the name appears in reports and files.

    Attributes:
      meaning: one plain phrase for reports.
    """

    def __new__(cls, value: str, meaning: str):
        """Makes a text that carries its meaning."""
        member = str.__new__(cls, value)
        member._value_, member.meaning = value, meaning
        return member

    # Annotations.
    MALFORMED_IMAGE_ENTRY = "malformed_image_entry", "entry of images[] without its fields"
    MALFORMED_ANNOTATION = "malformed_annotation", "entry of annotations[] without its fields"
    DUPLICATE_IMAGE_ID = "duplicate_image_id", "image id used more than once"
    DUPLICATE_ANNOTATION = (
        "duplicate_annotation",
        "image_id named by more than one annotation (the first counts)",
    )
    NO_ANNOTATION = "image_without_annotation", "image that no annotation names"
    NO_IMAGE_ENTRY = "annotation_without_image", "annotation whose image_id is not in images[]"
    HAND_TYPE_NOT_VALID = "hand_type_not_valid", "hand_type_valid is 0"
    CAMERA_MISSING = "camera_missing", "camera absent from camera.json"
    CAMERA_MALFORMED = "camera_malformed", "camera without usable numbers in camera.json"
    JOINTS_MISSING = "joints_missing", "frame absent from joint_3d.json"
    JOINTS_MALFORMED = "joints_malformed", "frame without 42 joints in joint_3d.json"
    JOINTS_V0 = "joints_v0_format", "frame in the obsolete v0.0 form in joint_3d.json"
    MANO_MISSING = "mano_frame_missing", "frame absent from MANO_NeuralAnnot.json"
    MANO_HAND_NULL = "mano_hand_null", "MANO parameters of a hand are null"
    MANO_MALFORMED = "mano_malformed", "MANO parameters of the wrong size"
    MANO_NOT_FINITE = "mano_not_finite", "MANO parameters that are not finite"
    ANNOTATION_UNREADABLE = "annotation_unreadable", "annotation file damaged or refused"
    # Image files.
    UNSAFE_PATH = "unsafe_path", "file name that leaves the images folder"
    IMAGE_MISSING = "image_missing", "image file missing"
    IMAGE_UNREADABLE = "image_unreadable", "image file not readable as JPEG or PNG"
    IMAGE_TRUNCATED = "image_truncated", "image file cut off"
    IMAGE_TOO_LARGE = "image_too_large", "image file beyond the size limit"
    IMAGE_SIZE_DIFFERS = "image_size_differs", "image size differs from the annotation"
    IMAGE_BLACK = "image_black", "image (nearly) black"
    # Geometry.
    FIT_FAR_FROM_JOINTS = "mano_far_from_joints", "MANO hand far from the annotated joints"
    BEHIND_CAMERA = "behind_camera", "hand behind the camera"
    OUTSIDE_PHOTO = "outside_photo", "hand outside the photo"


class FrameTrouble(Exception):
    """Raised for one frame that cannot be used; `reason` is its `Trouble`."""

    def __init__(self, reason: Trouble, detail: str = ""):
        super().__init__(f"{reason.meaning}: {detail}" if detail else reason.meaning)
        self.reason = reason


def printable(text: str) -> str:
    """The text with control characters and half surrogate pairs replaced by question marks.

    Names come out of files that anyone may have written; terminals and CSV files get these.
    """
    return "".join(c if c.isprintable() else "?" for c in text)


class Tally:
    """Counts troubles and keeps the first three examples of each."""

    def __init__(self):
        self.counts: collections.Counter[Trouble] = collections.Counter()
        self.examples: dict[Trouble, list[str]] = {}

    def add(self, reason: Trouble, example: str, count: int = 1) -> None:
        """Counts `count` cases and remembers the example if few are known."""
        self.counts[reason] += count
        known = self.examples.setdefault(reason, [])
        if len(known) < 3:
            known.append(printable(example))

    def as_dict(self) -> dict[Trouble, dict[str, Any]]:
        """{"count": n, "examples": [...]} of every trouble, the most frequent first."""
        return {
            reason: {"count": count, "examples": self.examples[reason]}
            for reason, count in self.counts.most_common()
        }
