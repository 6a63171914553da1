"""Natural hand poses from a joint-limit model, and their principal components.

A sample lies between two of the postures below (angles in degrees, as an anatomy atlas or one's
own hand shows them), each finger and the thumb varied around them, the joints' ranges kept, and
hands whose bones run into each other discarded.
"""

from __future__ import annotations

import numpy as np

from mano_jax.open_hand.anatomy import (
    FINGER_BASES,
    joint_axes,
    joint_ranges,
    joint_rotations,
    posed_bones,
)
from mano_jax.open_hand.rig import SPREAD_DEGREES, axis_angle

SAMPLES = 1500
FINGERS = ("index", "middle", "ring", "pinky")
STRAIGHT, EASY, BENT, CURLED = (2, 4, 2), (20, 28, 14), (55, 60, 35), (78, 98, 58)
# Bases of fingers flexed towards the palm draw together: this part of the flat hand's spread goes.
CLOSING = 0.8
BONE_RADIUS, THUMB_RADIUS, PALM_RADIUS, ALLOWED = 0.0075, 0.0085, 0.0095, 0.0045

# name: (likelihood, index, middle, ring, pinky as base, middle, end flexion; spread;
#        thumb: flexion, abduction, twist of its first joint, then flexion of the other two)
POSTURES = {
    "relaxed": (3.0, EASY, (26, 34, 18), (30, 38, 20), (30, 36, 20), 0, (5, 8, 10, 10, 14)),
    "open": (1.0, STRAIGHT, STRAIGHT, STRAIGHT, STRAIGHT, 1, (-5, 0, 0, 0, 0)),
    "spread": (1.0, (-4, 2, 0), (-3, 2, 0), (-3, 2, 0), (-3, 2, 0), 11, (-14, 0, 0, -4, -5)),
    "fist": (1.2, CURLED, CURLED, CURLED, CURLED, -2, (26, 22, 30, 34, 42)),
    "point": (1.0, (6, 6, 3), CURLED, CURLED, CURLED, 0, (24, 20, 30, 30, 35)),
    "thumb up": (0.6, CURLED, CURLED, CURLED, CURLED, -1, (-16, -6, 0, -6, -10)),
    "victory": (0.7, (2, 5, 2), (2, 5, 2), CURLED, CURLED, 7, (30, 25, 40, 32, 36)),
    "three": (0.5, (2, 5, 2), (2, 5, 2), (4, 6, 3), BENT, 5, (28, 28, 45, 30, 30)),
    "four": (0.4, STRAIGHT, STRAIGHT, STRAIGHT, STRAIGHT, 4, (38, 18, 40, 35, 40)),
    "horns": (0.3, (2, 5, 2), CURLED, CURLED, (2, 6, 3), 2, (30, 25, 40, 30, 36)),
    "pinch": (1.2, (48, 48, 28), (30, 32, 16), (24, 28, 14), (20, 26, 12), 0, (18, 30, 45, 14, 22)),
    "tripod": (
        1.0,
        (50, 48, 26),
        (52, 50, 28),
        (58, 62, 34),
        (58, 62, 34),
        0,
        (22, 32, 45, 16, 24),
    ),
    "ball": (1.0, (34, 38, 22), (32, 40, 24), (34, 40, 24), (36, 36, 20), 8, (6, 34, 35, 10, 16)),
    "tube": (1.0, (48, 56, 30), (52, 60, 32), (55, 62, 34), (55, 58, 32), 1, (10, 32, 35, 14, 22)),
    "hook": (0.7, (8, 82, 48), (8, 84, 50), (8, 84, 50), (8, 80, 46), 0, (2, 0, 5, 6, 10)),
    "table top": (0.7, (66, 8, 4), (68, 8, 4), (68, 8, 4), (66, 8, 4), 0, (2, 20, 25, 2, 2)),
    "key": (0.7, (58, 66, 32), (66, 78, 40), (70, 82, 44), (70, 80, 44), -2, (6, 2, 10, 10, 20)),
    "flat grip": (0.6, (24, 12, 6), (24, 12, 6), (24, 12, 6), (24, 12, 6), 0, (8, 28, 35, 8, 8)),
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


def sample_poses(axes: np.ndarray, joints: np.ndarray, count: int = SAMPLES) -> np.ndarray:
    """Natural poses (count, 45): axis-angle in the template's axes, joints 1 to 15.

    Args:
      axes: (16, 3, 3) of `joint_axes`.
      joints: (21, 3): the 16 joints and the five ends.
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
        sample = _varied((1 - mix) * angles[one] + mix * angles[two], generator)
        rotations = joint_rotations(axes, sample)
        if not collides(joints, rotations):
            found.append(axis_angle(rotations[1:]).ravel())
    return np.stack(found)


def _varied(angles: np.ndarray, generator: np.random.RandomState) -> np.ndarray:
    """A pose near the given one, within the ranges."""
    angles = angles.copy()
    curl = generator.normal(0, 0.08)
    for finger in FINGERS:
        base = FINGER_BASES[finger]
        own = 1 + curl + generator.normal(0, 0.10)
        angles[base : base + 3, 0] = angles[base : base + 3, 0] * own + generator.normal(0, 4, 3)
        # The two end joints share a tendon: they bend together.
        angles[base + 1 : base + 3, 0] += generator.normal(0, 5) * np.array([1.0, 0.6])
        angles[base, 1] += generator.normal(0, 2.5)
    angles[13] += generator.normal(0, 1, 3) * np.array([5.0, 5.0, 5.0])
    angles[14:, 0] += generator.normal(0, 5, 2)
    angles[:, 2] += generator.normal(0, 1.0, 16)
    angles[[2, 3, 5, 6, 8, 9, 11, 12, 14, 15], 1] += generator.normal(0, 0.7, 10)
    ranges = joint_ranges()
    return np.clip(angles, ranges[..., 0], ranges[..., 1])


def collides(joints: np.ndarray, rotations: np.ndarray) -> bool:
    """Whether bones of different fingers, or fingers and palm, overlap by more than `ALLOWED`."""
    posed, _ = posed_bones(joints, rotations)
    starts = np.arange(1, 16)
    ends = np.array([k for f in range(5) for k in (3 * f + 2, 3 * f + 3, 16 + f)])
    steps = np.linspace(0.15, 0.95, 6)[:, None, None]
    bones = (1 - steps) * posed[starts] + steps * posed[ends]
    # The palm: four metacarpals, as seen from the inside, of rest joints.
    steps = np.linspace(0.3, 0.85, 6)[:, None, None]
    palm = (1 - steps) * posed[0] + steps * posed[[1, 4, 7, 10]]
    radius = np.where(starts >= 13, THUMB_RADIUS, BONE_RADIUS)
    finger = (starts - 1) // 3
    gap = np.linalg.norm(bones[:, :, None, None] - bones[None, None], axis=-1)
    gap = gap.min((0, 2)) - radius[:, None] - radius
    gap[finger[:, None] == finger] = np.inf
    to_palm = np.linalg.norm(bones[:, :, None, None] - palm[None, None], axis=-1).min((0, 2, 3))
    to_palm = (to_palm - radius - PALM_RADIUS)[[k for k in range(15) if k % 3 and k != 13]]
    return bool(gap.min() < -ALLOWED or to_palm.min() < -ALLOWED)


def pose_space(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """hands_mean (45,), hands_components (45, 45) (rows, falling variance), hands_coeffs."""
    mean = poses.mean(0)
    _, _, rows = np.linalg.svd(poses - mean, full_matrices=False)
    # A component's sign is arbitrary; let its largest entry be positive.
    rows *= np.sign(rows[np.arange(45), np.abs(rows).argmax(1)])[:, None]
    return mean, rows, (poses - mean) @ rows.T


__all__ = ["joint_axes", "joint_ranges", "pose_space", "posture", "sample_poses"]
