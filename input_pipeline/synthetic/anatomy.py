"""Axes of a hand and of its finger joints, read off any MANO-shaped hand's rest pose.

The hand frame is (forward: wrist to middle knuckle, palm: out of the palm, side: towards the
index finger), unit vectors at right angles. Joint numbers are MANO's 16.
"""

from __future__ import annotations

import dataclasses

import numpy as np

FINGERS = {"index": 1, "middle": 4, "pinky": 7, "ring": 10, "thumb": 13}
"""First joint of each finger; the next two follow."""

LONG_FINGERS = ("index", "middle", "ring", "pinky")


@dataclasses.dataclass(frozen=True)
class Anatomy:
    """Directions in a hand's rest coordinates.

    Attributes:
      frame: (3, 3), columns forward, palm, side. Determinant +1 for a right hand, -1 for a left.
      flexion: (16, 3) unit axis about which a positive turn bends the finger towards the palm.
      wrist: (3,) wrist joint, metres.
      centre: (3,) middle of the palm, metres.
    """

    frame: np.ndarray
    flexion: np.ndarray
    wrist: np.ndarray
    centre: np.ndarray


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def anatomy(joints: np.ndarray, tips: np.ndarray, side: str) -> Anatomy:
    """Finds the axes.

    Args:
      joints: (16, 3) rest joints in MANO's order, metres.
      tips: (5, 3) rest tips of thumb, index, middle, ring, pinky.
      side: "left" or "right".

    Returns:
      the hand's Anatomy.
    """
    wrist = joints[0]
    forward = _unit(joints[FINGERS["middle"]] - wrist)
    across = joints[FINGERS["index"]] - joints[FINGERS["pinky"]]
    sideways = _unit(across - forward * (across @ forward))
    palm = np.cross(sideways, forward) * (1.0 if side == "right" else -1.0)
    flexion = np.zeros((16, 3))
    order = ("thumb", *LONG_FINGERS)
    for finger, first in FINGERS.items():
        chain = np.vstack([joints[first : first + 3], tips[order.index(finger)]])
        # A thumb bends across the palm rather than into it.
        towards = 0.5 * palm - 0.87 * sideways if finger == "thumb" else palm
        straight = chain[3] - chain[0]
        for level in range(3):
            bone = _unit(chain[level + 1] - chain[level] + 0.3 * straight)
            flexion[first + level] = _unit(np.cross(bone, towards))
    centre = 0.5 * (wrist + joints[[1, 4, 7, 10]].mean(axis=0)) + 0.1 * (forward * 0.1)
    return Anatomy(np.stack([forward, palm, sideways], axis=1), flexion, wrist, centre)
