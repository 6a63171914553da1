"""Natural hand poses from a joint-limit model, and their principal components.

A sample lies between two of the postures below (angles in degrees, as an anatomy atlas or one's
own hand shows them), each finger and the thumb varied around them, the joints' ranges kept, and
hands that pass through themselves discarded.
"""

from __future__ import annotations

import numpy as np

from tools.open_hand.anatomy import FINGER_BASES, joint_ranges, joint_rotations
from tools.open_hand.contact import ContactCheck
from tools.open_hand.rig import SPREAD_DEGREES, axis_angle

SAMPLES, ATTEMPTS, TOUCHING = 1500, 8, 2
FINGERS = ("index", "middle", "ring", "pinky")
STRAIGHT, EASY, CURLED = (2, 4, 2), (20, 28, 14), (72, 83, 42)
# Bases of fingers flexed towards the palm draw together: this part of the flat hand's spread goes.
CLOSING = 0.8

# name: (likelihood, index, middle, ring, pinky as base, middle, end flexion; spread;
#        thumb: flexion, abduction, twist of its first joint, then flexion of the other two)
POSTURES = {
    "relaxed": (3.0, EASY, (26, 34, 18), (30, 38, 20), (30, 36, 20), 0, (5, 0, 8, 10, 14)),
    "open": (1.0, STRAIGHT, STRAIGHT, STRAIGHT, STRAIGHT, 1, (-5, 0, 0, 0, 0)),
    "spread": (1.0, (-4, 2, 0), (-3, 2, 0), (-3, 2, 0), (-3, 2, 0), 11, (-14, 0, 0, -4, -5)),
    "fist": (1.2, CURLED, CURLED, CURLED, CURLED, -2, (2, 27, 30, 28, 22)),
    "point": (1.0, (6, 6, 3), CURLED, CURLED, CURLED, 0, (34, 15, 27, 4, 14)),
    "thumb up": (0.6, CURLED, CURLED, CURLED, CURLED, -1, (-16, -6, 0, -6, -10)),
    "victory": (0.7, (2, 5, 2), (2, 5, 2), CURLED, CURLED, 7, (44, 22, 25, 12, 6)),
    "three": (0.5, (2, 5, 2), (2, 5, 2), (6, 8, 4), (70, 88, 50), 5, (42, 22, 25, 38, 5)),
    "four": (0.4, STRAIGHT, STRAIGHT, STRAIGHT, STRAIGHT, 4, (34, 10, 20, 28, 25)),
    "horns": (0.3, (2, 5, 2), CURLED, CURLED, (2, 6, 3), 2, (36, 20, 23, 0, 26)),
    "pinch": (1.2, (52, 35, 9), (30, 32, 16), (24, 28, 14), (20, 26, 12), 0, (26, 17, 30, -4, -5)),
    "tripod": (1.0, (44, 38, 10), (64, 48, 10), (60, 62, 34), (58, 62, 34), 0, (25, 25, 30, 2, -4)),
    "ball": (1.0, (34, 38, 22), (32, 40, 24), (34, 40, 24), (36, 36, 20), 8, (4, 16, 20, 8, 12)),
    "tube": (1.0, (40, 46, 24), (44, 50, 28), (48, 54, 30), (50, 50, 28), 1, (4, 22, 22, 6, 10)),
    "hook": (0.7, (8, 82, 48), (8, 84, 50), (8, 84, 50), (8, 80, 46), 0, (2, -4, 5, 6, 10)),
    "table top": (0.7, (66, 8, 4), (68, 8, 4), (68, 8, 4), (66, 8, 4), 0, (0, 4, 10, 2, 2)),
    "key": (0.7, (58, 66, 32), (66, 78, 40), (70, 82, 44), (70, 80, 44), -2, (5, -2, 19, 15, 13)),
    "flat grip": (0.6, (24, 12, 6), (24, 12, 6), (24, 12, 6), (24, 12, 6), 0, (8, 8, 20, 6, 6)),
}


def posture(name: str) -> np.ndarray:
    """Angles (16, 3) of a named posture in degrees: flexion, deviation, twist."""
    _, *fingers, spread, thumb = POSTURES[name]
    angles = np.zeros((16, 3))
    share = {"index": 1.0, "middle": 0.1, "ring": -0.8, "pinky": -1.3}
    for finger, flexions in zip(FINGERS, fingers, strict=True):
        base = FINGER_BASES[finger]
        angles[base : base + 3, 0] = flexions
        angles[base, 1] = spread * share[finger] + closing(finger, flexions[0])
    angles[13] = thumb[:3]
    angles[14, 0], angles[15, 0] = thumb[3:]
    return angles


def closing(finger: str, flexion: float) -> float:
    """Deviation in degrees that draws a flexed finger towards its neighbours' planes."""
    return -CLOSING * SPREAD_DEGREES[finger] * np.clip(flexion / 60, 0, 1)


def sample_poses(axes: np.ndarray, contact: ContactCheck, count: int = SAMPLES) -> np.ndarray:
    """Natural poses (count, 45): axis-angle in the template's axes, joints 1 to 15.

    Args:
      axes: (16, 3, 3) of `joint_axes`.
      contact: discards poses in which the hand passes through itself.
      count: how many.
    """
    generator = np.random.RandomState(3)
    names = list(POSTURES)
    chance = np.array([POSTURES[name][0] for name in names])
    angles = np.stack([posture(name) for name in names])
    found: list[np.ndarray] = []
    while len(found) < count:
        one, two = generator.choice(len(names), size=2, p=chance / chance.sum())
        mix = generator.beta(0.5, 0.5)
        between = (1 - mix) * angles[one] + mix * angles[two]
        # Postures in which parts touch leave little room: vary them less rather than drop them.
        for attempt in range(ATTEMPTS):
            sample = _varied(between, generator, 0.8**attempt)
            rotations = joint_rotations(axes, sample)
            if contact.buried(rotations) <= TOUCHING:
                found.append(axis_angle(rotations[1:]).ravel())
                break
    return np.stack(found)


def _varied(angles: np.ndarray, generator: np.random.RandomState, strength: float) -> np.ndarray:
    """A pose near the given one, within the ranges."""
    change = np.zeros((16, 3))
    curl = generator.normal(0, 0.08)
    for finger in FINGERS:
        base = FINGER_BASES[finger]
        relative = curl + generator.normal(0, 0.10)
        flexions = angles[base : base + 3, 0]
        change[base : base + 3, 0] = relative * flexions + generator.normal(0, 4, 3)
        # The two end joints share a tendon: they bend together.
        change[base + 1 : base + 3, 0] += generator.normal(0, 5) * np.array([1.0, 0.6])
        change[base, 1] += generator.normal(0, 2.5)
    change[13] += generator.normal(0, 5, 3)
    change[14:, 0] += generator.normal(0, 5, 2)
    change[:, 2] += generator.normal(0, 1.0, 16)
    change[[2, 3, 5, 6, 8, 9, 11, 12, 14, 15], 1] += generator.normal(0, 0.7, 10)
    angles = angles + strength * change
    ranges = joint_ranges()
    return np.clip(angles, ranges[..., 0], ranges[..., 1])


def pose_space(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """hands_mean (45,), hands_components (45, 45) (rows, falling variance), hands_coeffs."""
    mean = poses.mean(0)
    _, _, rows = np.linalg.svd(poses - mean, full_matrices=False)
    # A component's sign is arbitrary; let its largest entry be positive.
    rows *= np.sign(rows[np.arange(45), np.abs(rows).argmax(1)])[:, None]
    return mean, rows, (poses - mean) @ rows.T
