"""Hands moved onto the landmarks that are seen of them, as one more stage.

The network answers for both hands at once, also where one hides the other, but knows real hands
only as well as what it was trained on. MediaPipe's landmark network has seen real hands, one at a
time. Where it is sure of a hand, pose, shape and camera are fitted to its 21 points: x and y as
they lie in the photo, depth as it was estimated. Of two such hands the smaller one is further away,
by as much as a camera whose focal length is the photo's longer side would have it. Hidden hands
stay the network's.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import jax
import numpy as np

import mano_jax
from dir_jax.models.joints import decode
from dir_jax.models.types import (
    BETAS,
    CAMERA_SCALE,
    CAMERA_TRANSLATION,
    LENGTH_SCALE,
    POSE,
    ROTATION,
)
from dir_jax.prediction.presence import PRESENT
from mano_jax.constants import SIDES

if TYPE_CHECKING:
    from dir_jax.prediction.detection import HandDetector, SeenHand
    from dir_jax.prediction.predictor import Result
    from dir_jax.weights.loading import Loaded

SURE = 0.9
"""Presence from which a hand's landmarks are believed."""
LESS = 0.15
"""Presence that the other hand loses beside one on its landmarks: a detector that saw one hand so
well would mostly have seen the other."""
LESS_ALONE = 0.2
"""The same where a detector went through the photo and saw one hand. Most such photos show one, and
of a real hand alone the shipped network often says 0.63 that the other is there too."""
MOST_MM = 12.0
"""A hand whose joints stay further than this from its landmarks on average is left as it was."""


def on_landmarks(result: Result, detector: HandDetector) -> Result:
    """The result with one more stage, in which the hands that were seen lie on their landmarks.

    Args:
      result: of the network, for a photo with or without a detector's sightings.
      detector: looks where the network sees the hands, in a photo without sightings.

    Returns:
      The result as it was where no hand's landmarks are sure; else with a stage more, `fitted`, and
      those hands' presence at least their landmarks'. One of which only the network says that it
      is there is believed less; one that the detector has seen, unsurely, is not.
    """
    if not result.finite:
        return result
    params, fitted = np.array(result.params[-1], np.float32), np.zeros(2, bool)
    presence = np.array(result.presence, np.float64)
    for index, seen in _sightings(result, detector).items():
        found = _fitted(result, index, seen)
        if found is not None:
            params[index], fitted[index] = found, True
            presence[index] = max(presence[index], seen.presence)
    if not fitted.any():
        return result
    config = result.loaded.model.config
    offset = np.array(result.stages.offset[-1], np.float32)
    stage = posed(result.hands, config, params[None], offset[None])
    # How far apart the wrists lie in the photo is now better known than what the network said; in
    # depth too where both hands are seen: they are one person's, and of one size.
    wrists, scale = np.asarray(stage.joints_uv)[0, :, 0], params[:, CAMERA_SCALE]
    offset[:2] = (wrists[1] - wrists[0]) / scale.mean() / LENGTH_SCALE
    if fitted.all():
        focal = max(result.photo.image.shape) / result.photo.square[2]
        offset[2] = focal * (1 / scale[1] - 1 / scale[0]) / LENGTH_SCALE
    stage = stage.replace(offset=offset[None])
    stages = jax.tree.map(lambda old, new: np.concatenate([old, new]), result.stages, stage)
    if len(result.photo.seen) < 2:
        less = LESS_ALONE if result.photo.seen else LESS
        presence[~fitted] = np.maximum(presence[~fitted] - less, 0)
    present = fitted | (presence >= PRESENT)
    return dataclasses.replace(
        result, stages=stages, presence=presence, present=present, fitted=fitted
    )


def compile_for(loaded: Loaded) -> None:
    """Compiles what `on_landmarks` needs for a model, by using it once on the mean hand."""
    config = loaded.model.config
    params, offset = np.zeros((1, 2, 64), np.float32), np.zeros((1, 3), np.float32)
    stage = posed(loaded.hands, config, params, offset)
    mano_jax.fit(loaded.hands.left, stage.joints_xyz[0, 0], tips=config.tips)


@functools.partial(jax.jit, static_argnums=(0, 1))
def posed(hands, config, params, offset):
    """`decode`, compiled."""
    return decode(hands, params, offset, config)


def _sightings(result: Result, detector: HandDetector) -> dict[int, SeenHand]:
    """The hands whose landmarks are sure, by 0 (left) and 1 (right)."""
    if result.photo.seen:
        hands = [hand for hand in result.photo.seen if hand.presence >= SURE]
        if len(hands) == 2:
            first, second = (hand.right for hand in hands)
            return dict(enumerate(hands if second >= first else hands[::-1]))
        return {int(hand.right > 0.5): hand for hand in hands}
    hands = {
        index: detector.sighting(result.photo.image, result.joints_px[-1][index])
        for index in np.flatnonzero(result.present).tolist()
    }
    return {
        index: hand
        for index, hand in hands.items()
        if hand.presence >= SURE and (hand.right > 0.5) == bool(index)
    }


def _fitted(result: Result, index: int, seen: SeenHand) -> np.ndarray | None:
    """A hand's 64 numbers, so that it lies on its landmarks; None: it does not."""
    config, hand = result.loaded.model.config, result.hands[SIDES[index]]
    wanted = np.concatenate([seen.points - seen.points.mean(0), seen.depth[:, None]], axis=-1)
    fit = mano_jax.fit(hand, wanted[None] / seen.pixels_per_metre, tips=config.tips)
    if not fit.error_mm[0] <= MOST_MM:
        return None
    params = np.zeros(64, np.float32)
    params[ROTATION] = fit.global_orient[0][:, :2].T.ravel()
    params[POSE] = mano_jax.axis_angle_to_pca(hand, fit.hand_pose[0])
    params[BETAS] = fit.betas[0]
    # The camera, by least squares; relative to the root joint, as the network's meshes are.
    xy = fit.joints_xyz[0][:, :2] - fit.joints_xyz[0][config.root_joint, :2]
    uv = (seen.points - result.photo.square[:2]) / result.photo.square[2]
    centred = xy - xy.mean(0)
    scale = (centred * (uv - uv.mean(0))).sum() / (centred**2).sum()
    params[CAMERA_SCALE] = scale
    params[CAMERA_TRANSLATION] = uv.mean(0) - scale * xy.mean(0)
    return params
