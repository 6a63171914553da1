"""Reader of the form IntagHand's (and DIR's) preparation leaves, which many users already have.

    source/<split>/img/<i>.jpg     256x256 crop
    source/<split>/anno/<i>.pkl    {mano_params: {left, right: {R (1,3,3), pose (1,45) PCA
                                    coefficients, shape (1,10), trans (1,3)}},
                                    camera: {R (3,3), t (3,) metres, camera (3,3) of the crop}},
                                    image and annotation: the entries of data.json, when kept}

The masks and dense maps beside them are not needed: labels are drawn from the parameters. The
pickles are read without running anything in them. There is no photo beyond the crop, so the margin
stays black, and no annotated joints.
"""

from __future__ import annotations

import os
import pathlib
import re

import numpy as np

from input_pipeline.annotations import BAD_ENTRY, LIMIT, MANO_LIMIT, within
from input_pipeline.frames import Camera, Frame, HandFit, Selection
from input_pipeline.records import CROP_SIZE
from input_pipeline.troubles import FrameTrouble, Tally, Trouble
from mano_jax.constants import BETAS, POSE_COMPONENTS, SIDES
from mano_jax.unpickle import NUMPY_ONLY, UnpickleError, restricted_load

SPLITS = ("train", "val", "test")
# An official frame's pickle has about 5 KB.
_PICKLE_LIMIT = 1 << 20
# The crop is the whole photo: centre and half side.
_WHOLE = np.array([CROP_SIZE / 2, CROP_SIZE / 2, CROP_SIZE / 2])


def is_processed(source: str | os.PathLike) -> bool:
    """Whether a folder looks like the processed layout."""
    return bool(splits_present(source))


def splits_present(source: str | os.PathLike) -> list[str]:
    """Splits with a folder of pickles."""
    return [s for s in SPLITS if (pathlib.Path(source) / s / "anno").is_dir()]


class IntaghandSplit:
    """One split of the processed layout.

    Attributes:
      source, split: where it came from.
      images_folder: folder that file names are relative to.
      tally: troubles found while listing the files.
      missing: always empty; there are no shared annotation files.
    """

    def __init__(self, source: str | os.PathLike, split: str):
        """Lists the pickles; opens none."""
        self.source, self.split = pathlib.Path(source), split
        self.images_folder = self.source / split / "img"
        self._anno = self.source / split / "anno"
        self.tally = Tally()
        self.missing: dict[str, str] = {}
        names = (re.fullmatch(r"(\d+)\.pkl", entry) for entry in os.listdir(self._anno))
        self._numbers = sorted(int(match[1]) for match in names if match)

    def __len__(self) -> int:
        return len(self._numbers)

    def file_name(self, index: int) -> str:
        """For example 12.jpg."""
        return f"{self._numbers[index]}.jpg"

    def select(self, config: str, fit_missing: bool = False) -> Selection:
        """The processed form holds interacting frames only, all with both hands."""
        if config == "single":
            return Selection(other_type=len(self))
        return Selection(kept=list(range(len(self))))

    def frame(self, index: int) -> Frame:
        """Everything annotated about one frame.

        Raises:
          FrameTrouble: ANNOTATION_UNREADABLE for a damaged or refused pickle, MANO_MALFORMED,
            MANO_NOT_FINITE, CAMERA_MALFORMED.
        """
        path = self._anno / f"{self._numbers[index]}.pkl"
        try:
            content = restricted_load(path, NUMPY_ONLY, limit_bytes=_PICKLE_LIMIT)
        except UnpickleError as error:
            raise FrameTrouble(Trouble.ANNOTATION_UNREADABLE, str(error)) from None
        if not isinstance(content, dict):
            raise FrameTrouble(Trouble.ANNOTATION_UNREADABLE, f"{path} holds no dict")
        identity = content.get("image")
        identity = identity if isinstance(identity, dict) else {}
        return Frame(
            folder=str(self.images_folder),
            file_name=self.file_name(index),
            size=(CROP_SIZE, CROP_SIZE),
            hand_type="interacting",
            capture=str(identity.get("capture", "")),
            sequence=str(identity.get("seq_name", "")),
            camera_name=str(identity.get("camera", "")),
            frame=_number(identity.get("frame_idx"), self._numbers[index]),
            box=None,
            camera=_camera(content),
            fits=tuple(_fit(content, side) for side in SIDES),
            square=_WHOLE,
        )


def _number(value: object, fallback: int) -> int:
    try:
        number = int(value)
        return number if abs(number) < 1 << 62 else fallback
    except BAD_ENTRY:
        return fallback


def _array(values: dict, name: str, shape: tuple[int, ...], reason: Trouble) -> np.ndarray:
    try:
        array = np.asarray(values[name], np.float64).reshape(shape)
    except BAD_ENTRY as error:
        raise FrameTrouble(reason, f"{name}: {error}") from None
    if not np.isfinite(array).all():
        finite = Trouble.MANO_NOT_FINITE if reason is Trouble.MANO_MALFORMED else reason
        raise FrameTrouble(finite, name)
    if not within(array, MANO_LIMIT if reason is Trouble.MANO_MALFORMED else LIMIT):
        raise FrameTrouble(reason, f"{name}: absurdly large")
    return array


def _camera(content: dict) -> Camera:
    bad = Trouble.CAMERA_MALFORMED
    values = content.get("camera")
    if not isinstance(values, dict):
        raise FrameTrouble(bad, "no camera")
    rotation = _array(values, "R", (3, 3), bad)
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-2 or np.linalg.det(rotation) < 0:
        raise FrameTrouble(bad, "R is no rotation")
    return Camera(rotation, _array(values, "t", (3,), bad), _array(values, "camera", (3, 3), bad))


def _fit(content: dict, side: str) -> HandFit:
    bad = Trouble.MANO_MALFORMED
    values = content.get("mano_params")
    values = values.get(side) if isinstance(values, dict) else None
    if not isinstance(values, dict):
        raise FrameTrouble(Trouble.MANO_HAND_NULL, side)
    return HandFit(
        _array(values, "R", (3, 3), bad),
        _array(values, "pose", (POSE_COMPONENTS,), bad),
        _array(values, "shape", (BETAS,), bad),
        _array(values, "trans", (3,), bad),
        pca=True,
    )
