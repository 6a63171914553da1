"""One frame of a raw data set, whatever folder layout it came from."""

from __future__ import annotations

import dataclasses

import numpy as np

from input_pipeline.troubles import Trouble
from mano_jax.constants import JOINTS


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
    """

    rotation: np.ndarray
    translation: np.ndarray
    intrinsics: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
    """One photograph with everything annotated about it; hands in the order left, right.

    Attributes:
      folder: images folder that `file_name` is relative to.
      file_name: as annotated; open it through `image_files.safe_path` only.
      size: (width, height) the annotation claims, pixels; (0, 0) when it claims nothing.
      hand_type: "interacting", "left", "right", or "" when not annotated.
      capture, sequence, camera_name, frame: identity.
      box: (4,) annotated x, y, width, height in pixels, or None.
      camera: calibration, or None when absent.
      fits: MANO parameters of the left and right hand, None where absent.
      joints_xyz: (2, 21, 3) annotated joints, metres, camera axes; zero where not valid.
      joint_valid: (2, 21) bool.
      square: (3,) centre x, y and half side of the crop where it is given, None where the hands'
        projection decides.
    """

    folder: str
    file_name: str
    size: tuple[int, int]
    hand_type: str
    capture: str
    sequence: str
    camera_name: str
    frame: int
    box: np.ndarray | None
    camera: Camera | None
    fits: tuple[HandFit | None, HandFit | None]
    joints_xyz: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((2, JOINTS, 3)))
    joint_valid: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((2, JOINTS), bool))
    square: np.ndarray | None = None


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
