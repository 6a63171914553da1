"""MANO parameters for hands that have annotated joints only (`prepare --fit_missing`).

A frame is seen by many cameras but fitted once, in world axes.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from tqdm import tqdm

from input_pipeline.sources.frames import Frame, HandFit, Reader, wanted_hands
from input_pipeline.sources.interhand import MIN_JOINTS
from input_pipeline.troubles import FrameTrouble, Trouble
from mano_jax import HandPair
from mano_jax.constants import SIDES

# Fits whose joints lie further from the annotated ones than this on average are not used.
MAX_ERROR_MM = 10.0
_CHUNK = 256


class MissingFits(dict):
    """(moment, side number) to `HandFit`, or to None where no fit is good enough."""

    def fit(self, reader: Reader, indices: list[int], config: str, hands: HandPair) -> None:
        """Fits every wanted hand without parameters that has joints enough.

        Args:
          reader: raw split.
          indices: its frames to look at.
          config: "interacting", "single" or "all".
          hands: hand models to fit.
        """
        joints: dict[tuple, np.ndarray] = {}
        for index in indices:
            try:
                frame = reader.frame(index)
            except FrameTrouble:
                continue
            for side in _missing(frame, config):
                camera = frame.camera
                world = (frame.joints_xyz[side] - camera.translation) @ camera.rotation
                known = frame.joint_valid[side][:, None]
                joints.setdefault((_moment(frame), side), np.where(known, world, np.nan))
        with tqdm(total=len(joints), desc="fitting", unit="hand", disable=None) as progress:
            for side, name in enumerate(SIDES):
                keys = sorted((key for key in joints if key[1] == side), key=repr)
                for start in range(0, len(keys), _CHUNK):
                    chunk = keys[start : start + _CHUNK]
                    self.update(_fit(chunk, [joints[key] for key in chunk], hands[name]))
                    progress.update(len(chunk))

    def complete(self, frame: Frame, config: str) -> Frame:
        """The frame with fits in the places of missing parameters.

        Raises:
          FrameTrouble: FIT_FAILED when a hand the configuration needs could not be fitted.
        """
        fits, missing = list(frame.fits), _missing(frame, config)
        for side in missing:
            fits[side] = self.get((_moment(frame), side))
        if any(fits[side] is None for side in missing) and (config != "all" or not any(fits)):
            raise FrameTrouble(Trouble.FIT_FAILED)
        return dataclasses.replace(frame, fits=tuple(fits))


def _fit(keys: list, joints: list[np.ndarray], hand) -> dict[tuple, HandFit | None]:
    from mano_jax.fitting import fit

    # Filled up, so that one compiled program serves and results do not depend on the rest.
    points = np.stack([*joints, *[joints[0]] * (_CHUNK - len(joints))]).astype(np.float32)
    found = fit(hand, points)
    parts = (found.global_orient, found.hand_pose, found.betas, found.transl)
    parts = [np.asarray(part, np.float64) for part in parts]
    fits: dict[tuple, HandFit | None] = {}
    for row, key in enumerate(keys):
        rotation, pose, betas, transl = (part[row] for part in parts)
        good = found.error_mm[row] <= MAX_ERROR_MM
        fit_of_row = HandFit(rotation, pose.ravel() - hand.hands_mean, betas, transl)
        fits[key] = fit_of_row if good else None
    return fits


def _moment(frame: Frame) -> tuple:
    if not frame.capture:
        return (frame.file_name,)
    return frame.capture, frame.sequence, frame.frame


def _missing(frame: Frame, config: str) -> list[int]:
    """Wanted hands (0 left, 1 right) without parameters that could be fitted."""
    wanted = wanted_hands(frame.hand_type, config) or (False, False)
    return [
        side
        for side in range(2)
        if wanted[side]
        and frame.fits[side] is None
        and frame.camera is not None
        and frame.joint_valid[side].sum() >= MIN_JOINTS
    ]
