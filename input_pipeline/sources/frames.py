"""One frame of a raw data set, whatever folder layout it came from, and what reads such frames."""

from __future__ import annotations

import collections
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from input_pipeline.troubles import Tally, Trouble
from mano_jax.constants import JOINTS

# What an annotation of the wrong form raises while it is taken apart.
BAD_ENTRY = (KeyError, TypeError, ValueError, OverflowError, IndexError, AttributeError)
# Beyond these (pixels, millimetres; radians, metres; whole numbers) values are damage, and would
# overflow later.
LIMIT = 1e6
MANO_LIMIT = 1e3
SPLITS = ("train", "val", "test")
LARGEST_INTEGER = 1 << 62


def within(values: np.ndarray, limit: float = LIMIT) -> bool:
    """Whether all values are finite and below the limit in size."""
    return bool((np.abs(values) < limit).all())


@dataclasses.dataclass(frozen=True, eq=False)
class HandFit:
    """MANO parameters of one hand as annotated, in world axes.

    Attributes:
      rotation: (3, 3) of the root.
      pose: (45,) axis-angle without hands_mean, or PCA coefficients when `pca`.
      betas: (10,) shape.
      transl: (3,) metres.
      pca: what `pose` holds.
    """

    rotation: np.ndarray
    pose: np.ndarray
    betas: np.ndarray
    transl: np.ndarray
    pca: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Camera:
    """A calibrated camera: X_cam = rotation @ X + translation, pixels = intrinsics @ X_cam.

    Attributes:
      rotation: (3, 3).
      translation: (3,) metres.
      intrinsics: (3, 3) pixels.

    Raises:
      ValueError: absurd numbers, no rotation, or a focal length that is not positive.
    """

    rotation: np.ndarray
    translation: np.ndarray
    intrinsics: np.ndarray

    def __post_init__(self):
        rotation = self.rotation
        if not all(map(within, (rotation, self.translation, self.intrinsics))):
            raise ValueError("numbers that are not finite or absurd")
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-2 or np.linalg.det(rotation) < 0:
            raise ValueError("the rotation is none")
        if not (np.diag(self.intrinsics) > 0).all():
            raise ValueError("focal length not positive")


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
    """One photograph with everything annotated about it; hands in the order left, right.

    Attributes:
      file_name: as annotated; open it through `image_files.safe_path` only.
      hand_type: "interacting", "left", "right", or "" when not annotated.
      camera: calibration, or None when absent.
      fits: MANO parameters of the left and right hand, None where absent.
      capture, sequence, camera_name, frame: identity.
      size: (width, height) the annotation claims, pixels; (0, 0) when it claims nothing.
      square: (3,) centre x, y and half side of the crop where it is given, None where the hands'
        projection decides.
      joints_xyz: (2, 21, 3) annotated joints, metres, camera axes; zero where not valid.
      joint_valid: (2, 21) bool.
    """

    file_name: str
    hand_type: str
    camera: Camera | None
    fits: tuple[HandFit | None, HandFit | None] = (None, None)
    capture: str = ""
    sequence: str = ""
    camera_name: str = ""
    frame: int = 0
    size: tuple[int, int] = (0, 0)
    square: np.ndarray | None = None
    joints_xyz: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((2, JOINTS, 3)))
    joint_valid: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((2, JOINTS), bool))


@dataclasses.dataclass
class Selection:
    """What a configuration makes of a split, judged by its annotations.

    Attributes:
      kept: positions of frames to prepare, in file order.
      dropped: (file name, reason) of frames of the right kind that cannot be used.
      other_type: number of frames of another kind, no concern of this configuration.
    """

    kept: list[int] = dataclasses.field(default_factory=list)
    dropped: list[tuple[str, Trouble]] = dataclasses.field(default_factory=list)
    other_type: int = 0


def wanted_hands(hand_type: str, config: str) -> tuple[bool, bool] | None:
    """Which hands (left, right) a configuration takes from a frame.

    Args:
      hand_type: "interacting", "left" or "right".
      config: "interacting" takes frames with both hands, "single" those with one, "all" either.

    Returns:
      None when the frame is of another kind.
    """
    if hand_type == "interacting":
        return (True, True) if config in ("interacting", "all") else None
    if config == "interacting" or hand_type not in ("left", "right"):
        return None
    return hand_type == "left", hand_type == "right"


class Reader:
    """What every layout offers for one split: the interface of an entry of `sources.SOURCES`.

    `Reader(source, split)` reads the annotations and opens no photograph; it raises SourceError
    when they cannot be read.

    Attributes:
      images_folder: folder that file names are relative to.
      file_names: every frame's file name as annotated.
      hand_types: every frame's annotated hand type, as in `Frame`.
      tally: troubles found while reading the annotations.
      missing: optional annotation files that are not there or not readable, with the reason.
    """

    def __init__(self, images_folder: pathlib.Path):
        self.images_folder = images_folder
        self.file_names: Sequence[str] = []
        self.hand_types: Sequence[str] = []
        self.tally = Tally()
        self.missing: dict[str, str] = {}

    @staticmethod
    def splits(source: pathlib.Path) -> list[str] | None:
        """Splits that a folder of this layout has; None when it is of another layout."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.file_names)

    def frame(self, index: int) -> Frame:
        """Everything annotated about one frame; FrameTrouble when it cannot be read."""
        raise NotImplementedError

    def select(self, config: str) -> Selection:
        """Frames kept and dropped, judged by their annotations alone.

        Args:
          config: "interacting", "single" or "all" (see `wanted_hands`).
        """
        taken = [wanted_hands(hand_type, config) is not None for hand_type in self.hand_types]
        return Selection(kept=np.flatnonzero(taken).tolist(), other_type=taken.count(False))

    def describe(self) -> dict[str, Any]:
        """For `check`: hand_types, and where known annotation_files, captures, missing_folders."""
        return {"hand_types": dict(collections.Counter(filter(None, self.hand_types)))}
