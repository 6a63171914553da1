"""MANO parameters for hands that have annotated joints only (`prepare --fit_missing`).

A frame is seen by many cameras but fitted once, in world axes. Fits are kept beside the unfinished
shards, so that a stopped run does not fit again.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib

import numpy as np
from tqdm import tqdm

from input_pipeline.frames import Frame, HandFit, wanted_hands
from input_pipeline.troubles import FrameTrouble, Trouble
from mano_jax import HandPair
from mano_jax.constants import JOINTS, SIDES
from mano_jax.load import ArraysFileError, read_npz, write_npz

# Fewer joints leave too much to guess.
MIN_JOINTS = 16
# Fits whose joints lie further from the annotated ones than this on average are not used.
MAX_ERROR_MM = 10.0
_CHUNK = 256


class MissingFits:
    """Fits by (capture, sequence, frame, side), for the frames of one split."""

    def __init__(self, hands: HandPair, cache: str | os.PathLike | None = None):
        """Starts with what an earlier run left.

        Args:
          hands: hand models to fit.
          cache: npz file to keep fits in, or None; it must belong to these hands.
        """
        self._hands = hands
        self._cache = pathlib.Path(cache) if cache else None
        self._fits: dict[str, HandFit | None] = {}
        if self._cache and self._cache.exists():
            self._load()

    def fit(self, reader, indices: list[int], config: str) -> tuple[int, int]:
        """Fits every wanted hand without parameters that has joints enough.

        Args:
          reader: raw split.
          indices: its frames to look at.
          config: "interacting", "single" or "all".

        Returns:
          How many hands were tried in all, and how many of those fits are good enough.
        """
        joints: dict[str, dict[str, np.ndarray]] = {side: {} for side in SIDES}
        names = set()
        for index in indices:
            try:
                frame = reader.frame(index)
            except FrameTrouble:
                continue
            for number in _missing(frame, config):
                name = _name(frame, number)
                names.add(name)
                if name not in self._fits:
                    joints[SIDES[number]].setdefault(name, _world_joints(frame, number))
        total = sum(map(len, joints.values()))
        with tqdm(total=total, desc="fitting", unit="hand", disable=None) as progress:
            for side in SIDES:
                self._fit_side(side, joints[side], progress)
        return len(names), sum(self._fits[name] is not None for name in names)

    def complete(self, frame: Frame, config: str) -> Frame:
        """The frame with fits in the places of missing parameters.

        Raises:
          FrameTrouble: FIT_FAILED when a hand the configuration needs could not be fitted.
        """
        fits, failed = list(frame.fits), False
        for number in _missing(frame, config):
            fits[number] = self._fits.get(_name(frame, number))
            failed = failed or fits[number] is None
        if failed and (config != "all" or fits == [None, None]):
            raise FrameTrouble(Trouble.FIT_FAILED)
        return dataclasses.replace(frame, fits=tuple(fits))

    def _fit_side(self, side: str, joints: dict[str, np.ndarray], progress) -> None:
        from mano_jax.fitting import fit

        names = sorted(joints)
        hand = self._hands[side]
        for start in range(0, len(names), _CHUNK):
            chunk = names[start : start + _CHUNK]
            # Filled up, so that one compiled program serves and results do not depend on the rest.
            filled = chunk + [chunk[0]] * (_CHUNK - len(chunk))
            found = fit(hand, np.stack([joints[name] for name in filled]).astype(np.float32))
            for row, name in enumerate(chunk):
                good = found.error_mm[row] <= MAX_ERROR_MM
                pose = np.asarray(found.hand_pose[row], np.float64).reshape(-1) - hand.hands_mean
                self._fits[name] = (
                    HandFit(
                        np.asarray(found.global_orient[row], np.float64),
                        pose,
                        np.asarray(found.betas[row], np.float64),
                        np.asarray(found.transl[row], np.float64),
                    )
                    if good
                    else None
                )
            self._save()
            progress.update(len(chunk))

    def _save(self) -> None:
        if self._cache is None:
            return
        names = sorted(self._fits)
        rows = [_row(self._fits[name]) for name in names]
        text = np.frombuffer(json.dumps(names).encode(), np.uint8)
        write_npz(self._cache, {"names": text, "fits": np.stack(rows)})

    def _load(self) -> None:
        try:
            arrays = read_npz(self._cache)
            names = json.loads(arrays["names"].tobytes())
            rows = arrays["fits"].reshape(len(names), _ROW)
        except (ArraysFileError, KeyError, ValueError):
            return  # damaged: fitted again
        self._fits = {
            name: _from_row(row) for name, row in zip(names, rows.astype(np.float64), strict=True)
        }


_ROW = 9 + 45 + 10 + 3


def _row(fit: HandFit | None) -> np.ndarray:
    if fit is None:
        return np.full(_ROW, np.nan)
    return np.concatenate([fit.rotation.ravel(), fit.pose, fit.betas, fit.transl])


def _from_row(row: np.ndarray) -> HandFit | None:
    if np.isnan(row).any():
        return None
    rotation, pose, betas, transl = np.split(row, [9, 54, 64])
    return HandFit(rotation.reshape(3, 3), pose, betas, transl)


def _name(frame: Frame, number: int) -> str:
    moment = [frame.capture, frame.sequence, frame.frame] if frame.capture else [frame.file_name]
    return json.dumps([*moment, SIDES[number]])


def _missing(frame: Frame, config: str) -> list[int]:
    """Wanted hands (0 left, 1 right) without parameters that could be fitted."""
    wanted = wanted_hands(frame.hand_type, config) or (False, False)
    return [
        number
        for number in range(2)
        if wanted[number]
        and frame.fits[number] is None
        and frame.camera is not None
        and frame.joint_valid[number].sum() >= MIN_JOINTS
    ]


def _world_joints(frame: Frame, number: int) -> np.ndarray:
    """(21, 3) metres in world axes, NaN where not annotated."""
    world = (frame.joints_xyz[number] - frame.camera.translation) @ frame.camera.rotation
    return np.where(frame.joint_valid[number][:, None], world, np.nan).reshape(JOINTS, 3)
