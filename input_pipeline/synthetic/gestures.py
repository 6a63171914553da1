"""Axes of a hand, and finger poses: named postures of a hand with natural variation.

Axes are read off any MANO-shaped hand's rest pose. The hand frame is (forward: wrist to middle
knuckle, palm: out of the palm, side: towards the index finger), unit vectors at right angles. Joint
numbers are MANO's 16. Poses follow these axes: bending about each joint's flexion axis, spreading
about the palm's normal, and for the thumb a turn across the palm. The end joints bend with the
middle ones, as tendons make them.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.spatial.transform import Rotation

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


NUMBERS = 20
"""How many normal numbers vary one posture."""

END_JOINT_SHARE = 0.6
"""Bending of a finger's end joint per bending of its middle joint."""

SPREAD = {"index": 8.0, "middle": 1.0, "ring": -6.0, "pinky": -14.0}
"""Degrees about the palm's normal, towards the thumb, at spread 1."""


@dataclasses.dataclass(frozen=True)
class Posture:
    """Angles in degrees.

    Attributes:
      base: bending at the knuckles of index, middle, ring, pinky.
      middle: bending at the middle joints of the same.
      spread: 0 fingers together, 1 fanned out.
      thumb: (turn across the palm, bending of the first, second and third joint).
    """

    base: tuple[float, float, float, float]
    middle: tuple[float, float, float, float]
    spread: float = 0.3
    thumb: tuple[float, float, float, float] = (15.0, 5.0, 10.0, 10.0)


POSTURES = {
    "flat": Posture((4, 3, 3, 4), (6, 5, 6, 8), 0.1, (5, 0, 5, 2)),
    "relaxed": Posture((18, 22, 26, 30), (26, 30, 34, 34), 0.2),
    "spread": Posture((2, 0, 2, 4), (6, 6, 6, 8), 1.2, (0, -12, 0, 0)),
    "cup": Posture((32, 34, 36, 40), (34, 36, 38, 40), 0.2, (32, 5, 15, 12)),
    "claw": Posture((8, 6, 8, 10), (58, 60, 60, 56), 0.7, (25, 0, 20, 35)),
    "hook": Posture((22, 22, 24, 26), (82, 84, 82, 78), 0.1, (20, 5, 20, 25)),
    "fist": Posture((68, 72, 74, 74), (88, 92, 92, 88), 0.0, (42, 16, 32, 38)),
    "thumb_up": Posture((68, 72, 74, 74), (88, 92, 92, 88), 0.0, (-5, -14, -4, -8)),
    "point": Posture((6, 66, 70, 72), (6, 86, 88, 84), 0.0, (40, 14, 30, 30)),
    "two": Posture((4, 4, 68, 70), (6, 6, 88, 84), 0.8, (42, 16, 32, 34)),
    "pinch": Posture((46, 30, 24, 22), (46, 34, 26, 24), 0.2, (44, 8, 14, 18)),
    "okay": Posture((52, 18, 10, 6), (52, 16, 10, 8), 0.6, (46, 10, 16, 20)),
    "interlock": Posture((38, 40, 42, 44), (44, 46, 46, 44), 0.55, (22, 4, 16, 16)),
    "grip": Posture((46, 50, 54, 56), (54, 56, 58, 58), 0.1, (44, 8, 20, 22)),
}


def blend(posture: Posture, generator: np.random.Generator) -> Posture:
    """The posture with every finger drawn towards some other one, each by its own share."""
    other = list(POSTURES.values())[generator.integers(len(POSTURES))]
    shares = generator.uniform(0, 1, 6)

    def between(first, second, share):
        return tuple((1 - share) * np.array(first) + share * np.array(second))

    return Posture(
        between(posture.base, other.base, shares[:4]),
        between(posture.middle, other.middle, shares[:4]),
        float((1 - shares[4]) * posture.spread + shares[4] * other.spread),
        between(posture.thumb, other.thumb, shares[5]),
    )


def finger_pose(anatomy: Anatomy, posture: Posture, numbers: np.ndarray) -> np.ndarray:
    """Axis-angle finger rotations of one posture, varied.

    Args:
      anatomy: the hand's axes.
      posture: what to form.
      numbers: (20,) normal numbers; zeros give the posture itself.

    Returns:
      (15, 3) axis-angle of MANO's joints 1 to 15 from the rest pose.
    """
    curl, opening = 6.0 * numbers[0], 0.25 * numbers[1]
    forward, palm, side = anatomy.frame.T
    rotations = np.zeros((16, 3))
    for number, finger in enumerate(LONG_FINGERS):
        own = numbers[2 + 3 * number : 5 + 3 * number]
        base = np.clip(posture.base[number] + curl + 7.0 * own[0], -18, 85)
        middle = np.clip(posture.middle[number] + 1.3 * curl + 8.0 * own[1], 0, 98)
        # Fingers can fan out only while they are straight at the knuckle.
        freedom = np.clip(1.0 - base / 75.0, 0.1, 1.0)
        fan = freedom * (SPREAD[finger] * (posture.spread + opening) + 2.5 * own[2])
        towards_thumb = np.cross(forward, side)  # turns forward towards the thumb's side
        bends = (base, middle, END_JOINT_SHARE * middle)
        _chain(rotations, anatomy, FINGERS[finger], bends, fan * towards_thumb)
    turn, *bends = np.array(posture.thumb) + [8, 6, 6, 8] * numbers[14:18]
    bends = np.clip(bends, (-25, -12, -15), (35, 50, 70))
    across = np.clip(turn, -15, 60) * np.cross(side, palm) + 5.0 * numbers[18] * palm
    _chain(rotations, anatomy, FINGERS["thumb"], bends, across)
    return rotations[1:]


def _chain(
    rotations: np.ndarray, anatomy: Anatomy, first: int, bends: np.ndarray, base_turn: np.ndarray
) -> None:
    """Writes one finger's three joints (degrees in) into rotations (16, 3) radians."""
    for level, bend in enumerate(bends):
        joint = first + level
        rotation = Rotation.from_rotvec(anatomy.flexion[joint] * bend, degrees=True)
        if level == 0:
            rotation = Rotation.from_rotvec(base_turn, degrees=True) * rotation
        rotations[joint] = rotation.as_rotvec()
