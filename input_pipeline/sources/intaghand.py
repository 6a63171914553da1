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

from input_pipeline.crop import CROP_SIZE
from input_pipeline.sources.frames import (
    BAD_ENTRY,
    LARGEST_INTEGER,
    MANO_LIMIT,
    SPLITS,
    Camera,
    Frame,
    HandFit,
    Reader,
    within,
)
from input_pipeline.troubles import FrameTrouble, Trouble
from mano_jax.constants import BETAS, POSE_COMPONENTS, SIDES
from mano_jax.unpickle import NUMPY_ONLY, UnpickleError, restricted_load

# An official frame's pickle has about 5 KB.
_PICKLE_LIMIT = 1 << 20


class IntaghandSplit(Reader):
    """One split of the processed layout: interacting frames only, all with both hands."""

    def __init__(self, source: str | os.PathLike, split: str):
        """Lists the pickles; opens none."""
        super().__init__(pathlib.Path(source) / split / "img")
        self._anno = pathlib.Path(source) / split / "anno"
        names = (re.fullmatch(r"(\d+)\.pkl", entry) for entry in os.listdir(self._anno))
        self._numbers = sorted(int(match[1]) for match in names if match)
        self.file_names = [f"{number}.jpg" for number in self._numbers]
        self.hand_types = ["interacting"] * len(self._numbers)

    @staticmethod
    def splits(source: pathlib.Path) -> list[str] | None:
        """Splits with a folder of pickles; None without any."""
        return [s for s in SPLITS if (source / s / "anno").is_dir()] or None

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
        try:
            number = int(identity["frame_idx"])
        except BAD_ENTRY:
            number = LARGEST_INTEGER
        return Frame(
            file_name=self.file_names[index],
            hand_type="interacting",
            camera=_camera(content),
            fits=tuple(_fit(content, side) for side in SIDES),
            capture=str(identity.get("capture", "")),
            sequence=str(identity.get("seq_name", "")),
            camera_name=str(identity.get("camera", "")),
            frame=number if abs(number) < LARGEST_INTEGER else self._numbers[index],
            size=(CROP_SIZE, CROP_SIZE),
            square=np.full(3, CROP_SIZE / 2),  # the crop is the whole photo
        )


def _arrays(values: object, shapes: dict[str, tuple[int, ...]], reason: Trouble) -> list:
    arrays = []
    for name, shape in shapes.items():
        try:
            arrays.append(np.asarray(values[name], np.float64).reshape(shape))
        except BAD_ENTRY as error:
            raise FrameTrouble(reason, f"{name}: {error}") from None
    return arrays


def _camera(content: dict) -> Camera:
    bad, shapes = Trouble.CAMERA_MALFORMED, {"R": (3, 3), "t": (3,), "camera": (3, 3)}
    try:
        return Camera(*_arrays(content.get("camera"), shapes, bad))
    except ValueError as error:
        raise FrameTrouble(bad, str(error)) from None


def _fit(content: dict, side: str) -> HandFit:
    values = content.get("mano_params")
    values = values.get(side) if isinstance(values, dict) else None
    if not isinstance(values, dict):
        raise FrameTrouble(Trouble.MANO_HAND_NULL, side)
    shapes = {"R": (3, 3), "pose": (POSE_COMPONENTS,), "shape": (BETAS,), "trans": (3,)}
    arrays = _arrays(values, shapes, Trouble.MANO_MALFORMED)
    if not all(np.isfinite(array).all() for array in arrays):
        raise FrameTrouble(Trouble.MANO_NOT_FINITE, side)
    if not all(within(array, MANO_LIMIT) for array in arrays):
        raise FrameTrouble(Trouble.MANO_MALFORMED, f"{side}: absurdly large")
    return HandFit(*arrays, pca=True)
