"""Which of the two hands are in the photograph: the network always answers with both."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from dir_jax.models.types import SEGMENTATION_CLASSES
from mano_jax.constants import SIDES

if TYPE_CHECKING:
    from dir_jax.prediction.detection import SeenHand
    from dir_jax.prediction.predictor import Result

CELLS = 32
"""Of the 1,024 of the segmentation: as many as a hand shows that is mostly hidden by the other."""
PRESENT = 0.45
"""From here a hand is in the photograph. Of synthesised photographs the shipped network takes 5 %
of the hands that are not there for present, and misses 5 % of those that are partly hidden."""
UNSURE = 0.6
"""Below this, people are told."""
COMES, GOES = 0.5, 0.4
"""In a video: from where a hand that was not there is, and one that was is no longer."""
NEWS = 0.25
"""Share of a video's new frame in the running mean of its hands' presence."""


def seen(segmentation: jax.Array) -> jax.Array:
    """How sure the network is that it sees each hand, from what it takes every cell for.

    Args:
      segmentation: (B, 32, 32, 3) logits in the order of `SEGMENTATION_CLASSES`.

    Returns:
      (B, 2) left, right, in 0..1: mean probability of the cells where the hand is likeliest.
    """
    shares = jax.nn.softmax(segmentation).reshape(len(segmentation), -1, len(SEGMENTATION_CLASSES))
    best = jax.lax.top_k(shares.swapaxes(1, 2), CELLS)[0].mean(-1)
    return jnp.stack([best[:, SEGMENTATION_CLASSES.index(side)] for side in SIDES], axis=-1)


def with_detector(network: np.ndarray, hands: Sequence[SeenHand]) -> np.ndarray:
    """How sure it is of each hand (2,), from what the network and a detector see.

    Two hands that a detector saw are there. One is there on its side, and says nothing of the
    other: of hands that touch a detector often sees one.
    """
    if len(hands) == 2:
        return np.maximum(network, min(hand.presence for hand in hands))
    for hand in hands:
        network = np.maximum(network, hand.presence * np.array([1 - hand.right, hand.right]))
    return network


class Steady:
    """Hands of a video neither flicker nor change sides from frame to frame."""

    def __init__(self):
        self._mean: np.ndarray | None = None
        self._present = np.zeros(2, bool)

    def __call__(self, result: Result | None) -> Result | None:
        """A frame's result with the presence that the frames before it suggest; None: no hands."""
        if result is None:
            self._mean = None
            return None
        if self._mean is None:
            self._mean, self._present = result.presence, result.presence >= PRESENT
        else:
            self._mean = self._mean + NEWS * (result.presence - self._mean)
            self._present = self._mean >= np.where(self._present, GOES, COMES)
        if not self._present.any():
            return None
        return dataclasses.replace(result, presence=self._mean, present=self._present)
