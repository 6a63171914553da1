"""Names for everything that can be wrong with a raw data set, and a count of each."""

from __future__ import annotations

import collections
import enum


class SourceError(ValueError):
    """A raw folder that cannot be used at all; the message says what to do."""


class Trouble(enum.StrEnum):
    """What is wrong with one frame (or one annotation); the value appears in reports and files."""

    # Annotations.
    MALFORMED_IMAGE_ENTRY = "malformed_image_entry"
    MALFORMED_ANNOTATION = "malformed_annotation"
    DUPLICATE_IMAGE_ID = "duplicate_image_id"
    DUPLICATE_ANNOTATION = "duplicate_annotation"
    NO_ANNOTATION = "image_without_annotation"
    NO_IMAGE_ENTRY = "annotation_without_image"
    HAND_TYPE_NOT_VALID = "hand_type_not_valid"
    CAMERA_MISSING = "camera_missing"
    CAMERA_MALFORMED = "camera_malformed"
    JOINTS_MISSING = "joints_missing"
    JOINTS_MALFORMED = "joints_malformed"
    JOINTS_V0 = "joints_v0_format"
    MANO_MISSING = "mano_frame_missing"
    MANO_HAND_NULL = "mano_hand_null"
    MANO_MALFORMED = "mano_malformed"
    MANO_NOT_FINITE = "mano_not_finite"
    FIT_FAILED = "fit_failed"
    ANNOTATION_UNREADABLE = "annotation_unreadable"
    # Image files.
    UNSAFE_PATH = "unsafe_path"
    IMAGE_MISSING = "image_missing"
    IMAGE_UNREADABLE = "image_unreadable"
    IMAGE_TRUNCATED = "image_truncated"
    IMAGE_TOO_LARGE = "image_too_large"
    IMAGE_SIZE_DIFFERS = "image_size_differs"
    IMAGE_BLACK = "image_black"
    # Geometry.
    FIT_FAR_FROM_JOINTS = "mano_far_from_joints"
    BEHIND_CAMERA = "behind_camera"
    OUTSIDE_PHOTO = "outside_photo"

    @property
    def meaning(self) -> str:
        """One plain phrase for reports."""
        return _MEANINGS[self]


_MEANINGS = {
    Trouble.MALFORMED_IMAGE_ENTRY: "entry of images[] without the official fields",
    Trouble.MALFORMED_ANNOTATION: "entry of annotations[] without the official fields",
    Trouble.DUPLICATE_IMAGE_ID: "image id used more than once",
    Trouble.DUPLICATE_ANNOTATION: "image_id named by more than one annotation (the first counts)",
    Trouble.NO_ANNOTATION: "image that no annotation names",
    Trouble.NO_IMAGE_ENTRY: "annotation whose image_id is not in images[]",
    Trouble.HAND_TYPE_NOT_VALID: "hand_type_valid is 0",
    Trouble.CAMERA_MISSING: "camera absent from camera.json",
    Trouble.CAMERA_MALFORMED: "camera without usable numbers in camera.json",
    Trouble.JOINTS_MISSING: "frame absent from joint_3d.json",
    Trouble.JOINTS_MALFORMED: "frame without 42 joints in joint_3d.json",
    Trouble.JOINTS_V0: "frame in the obsolete v0.0 form in joint_3d.json",
    Trouble.MANO_MISSING: "frame absent from MANO_NeuralAnnot.json",
    Trouble.MANO_HAND_NULL: "MANO parameters of a hand are null",
    Trouble.MANO_MALFORMED: "MANO parameters of the wrong size",
    Trouble.MANO_NOT_FINITE: "MANO parameters that are not finite",
    Trouble.FIT_FAILED: "MANO parameters missing and not found by fitting",
    Trouble.ANNOTATION_UNREADABLE: "annotation file that is damaged or refused",
    Trouble.UNSAFE_PATH: "file name that leaves the images folder",
    Trouble.IMAGE_MISSING: "image file missing",
    Trouble.IMAGE_UNREADABLE: "image file not readable as JPEG or PNG",
    Trouble.IMAGE_TRUNCATED: "image file cut off",
    Trouble.IMAGE_TOO_LARGE: "image file beyond the size limit",
    Trouble.IMAGE_SIZE_DIFFERS: "image size differs from the annotation",
    Trouble.IMAGE_BLACK: "image (nearly) black",
    Trouble.FIT_FAR_FROM_JOINTS: "MANO hand far from the annotated joints",
    Trouble.BEHIND_CAMERA: "hand behind the camera",
    Trouble.OUTSIDE_PHOTO: "hand outside the photo",
}


def printable(text: str) -> str:
    """The text with control characters and half surrogate pairs replaced by question marks.

    Names come out of files that anyone may have written; terminals and CSV files get these.
    """
    return "".join(c if c.isprintable() else "?" for c in text)


class FrameTrouble(Exception):
    """Raised for one frame that cannot be used; `reason` is its `Trouble`."""

    def __init__(self, reason: Trouble, detail: str = ""):
        super().__init__(f"{reason.meaning}: {detail}" if detail else reason.meaning)
        self.reason = reason


class Tally:
    """Counts troubles and keeps the first few examples of each."""

    def __init__(self, examples: int = 3):
        """Args: examples kept a trouble."""
        self._keep = examples
        self.counts: collections.Counter[Trouble] = collections.Counter()
        self.examples: dict[Trouble, list[str]] = {}

    def add(self, reason: Trouble, example: str, count: int = 1) -> None:
        """Counts `count` cases and remembers the example if few are known."""
        self.counts[reason] += count
        known = self.examples.setdefault(reason, [])
        if len(known) < self._keep:
            known.append(printable(example))

    def merge(self, other: Tally) -> None:
        """Adds another tally's counts and examples to this one."""
        for reason, count in other.counts.items():
            self.counts[reason] += count
            known = self.examples.setdefault(reason, [])
            known.extend(other.examples.get(reason, [])[: self._keep - len(known)])
