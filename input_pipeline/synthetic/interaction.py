"""The ways in which two hands meet; hands placed about each other and kept out of one another.

Body axes: x to the picture's right as a camera before the person sees it, y up, z towards that
camera; so the person's right hand is at negative x. The world of the files has y down and z away
from the cameras.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from input_pipeline.synthetic.gestures import Anatomy


@dataclasses.dataclass(frozen=True)
class Meeting:
    """How two hands meet; each hand as (forward, palm, place of the palm's centre in metres).

    The two roles are given for the right and the left hand and are exchanged half of the time.

    Attributes:
      right: forward, palm direction and place of the right hand, body axes.
      left: the same of the left hand.
      apart: direction from the left to the right hand in which they give way to each other.
      postures: names of postures for the two roles; one pair is drawn.
      looseness: scale of the variation of both hands' directions and places.
    """

    right: Sequence[Sequence[float]]
    left: Sequence[Sequence[float]]
    apart: Sequence[float]
    postures: Sequence[Sequence[str]]
    looseness: float = 1.0


MEETINGS = {
    name: Meeting(**described)
    for name, described in json.loads(Path(__file__).with_name("meetings.json").read_text()).items()
}
"""Every way that is known, by name."""

NUMBERS = 24
"""How many normal numbers vary one placement."""

WORLD_FROM_BODY = np.diag([1.0, -1.0, -1.0])

DEEPEST = 0.004
"""Metres a vertex may lie inside the other hand after they were moved apart: skin gives way."""

STEP, STEPS = 0.004, 40
"""Metres per move apart, and the most moves."""

TRIALS = ((0, 0), (0.008, 0), (-0.008, 0), (0, 0.008), (0, -0.008), (0.012, 0.012),
          (-0.012, 0.012), (0.012, -0.012), (-0.012, -0.012))  # fmt: skip
"""Metres across the direction of giving way, tried in this order."""


def orientation(anatomy: Anatomy, forward: np.ndarray, palm: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) from rest coordinates that points a hand and its palm as wanted.

    `palm` need not be at a right angle to `forward`; its part across `forward` counts.
    """
    forward = forward / np.linalg.norm(forward)
    palm = palm - forward * (palm @ forward)
    palm /= np.linalg.norm(palm)
    side = np.cross(forward, palm) * np.sign(np.linalg.det(anatomy.frame))
    return np.stack([forward, palm, side], axis=1) @ anatomy.frame.T


def placements(
    meeting: Meeting, exchanged: bool, anatomies: dict[str, Anatomy], numbers: np.ndarray
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Rotation and place of both hands before they are pushed apart.

    Args:
      meeting: how they meet.
      exchanged: whether the hands swap their roles.
      anatomies: of "left" and "right".
      numbers: (24,) normal numbers.

    Returns:
      ({side: (rotation (3, 3) from rest coordinates, place (3,) of the palm's centre)}, and the
      direction (3,) from the left to the right hand in which they give way). Body axes, metres.
    """
    common = Rotation.from_euler("yxz", np.array([22, 24, 20]) * numbers[:3], degrees=True)
    middle = np.array([0.03, 0.03, 0.03]) * numbers[3:6]
    wobble, shift = 11.0 * meeting.looseness, 0.008 * meeting.looseness
    roles, apart = np.array([meeting.right, meeting.left], float), np.array(meeting.apart, float)
    if exchanged:  # in the picture's mirror image
        roles, apart = roles[::-1] * [-1, 1, 1], apart * [1, -1, -1]
    placed = {}
    for start, side, (forward, palm, place) in zip((6, 12), ("right", "left"), roles, strict=True):
        own = Rotation.from_rotvec(wobble * numbers[start : start + 3], degrees=True)
        turn = (common * own).as_matrix() @ orientation(anatomies[side], forward, palm)
        at = place + shift * numbers[start + 3 : start + 6]
        placed[side] = (turn, middle + common.apply(at))
    return placed, common.apply(apart / np.linalg.norm(apart))


class Solid:
    """A closed mesh that can be asked how deep points lie inside it.

    Goes by the nearest vertex and its outward normal: cheap, and good to about the spacing of the
    vertices (4 mm on a hand).
    """

    def __init__(self, vertices: np.ndarray, normals: np.ndarray):
        """Takes vertices (V, 3) in metres and their outward unit normals (V, 3)."""
        self.vertices = vertices
        self.normals = normals
        self.low, self.high = vertices.min(axis=0), vertices.max(axis=0)
        self.tree = cKDTree(vertices)

    def depths(self, points: np.ndarray) -> np.ndarray:
        """How deep points (P, 3) lie inside: (P,) metres, 0 for points outside."""
        depths = np.zeros(len(points))
        (here,) = np.nonzero(((points > self.low) & (points < self.high)).all(axis=1))
        if len(here):
            _, nearest = self.tree.query(points[here])
            away = points[here] - self.vertices[nearest]
            depths[here] = np.maximum(-(away * self.normals[nearest]).sum(axis=1), 0)
        return depths


def deepest(right: Solid, left: Solid, move: np.ndarray) -> float:
    """Greatest depth of either hand in the other, metres, when the right one is moved (3,)."""
    in_left = left.depths(right.vertices + move).max()
    return float(max(in_left, right.depths(left.vertices - move).max()))


def make_room(right: Solid, left: Solid, direction: np.ndarray) -> np.ndarray:
    """How the right hand must move so that neither hand is deep in the other.

    Fingers fit between fingers in some places and not in others: small moves across `direction`
    are tried, and the one that lets the hands come closest is taken.

    Args:
      right: the right hand.
      left: the left hand.
      direction: (3,) unit vector from the left to the right hand, in which they give way.

    Returns:
      (3,) metres: the move across, plus the first of 0, 4, 8, ... mm along `direction` at which
      nothing lies deeper than `DEEPEST`.
    """
    across = np.cross(direction, np.eye(3)[np.argmin(np.abs(direction))])
    across /= np.linalg.norm(across)
    other = np.cross(direction, across)
    best, steps = direction * (STEPS * STEP), STEPS
    for first, second in TRIALS:
        sideways = first * across + second * other
        for step in range(steps):
            if deepest(right, left, sideways + direction * (step * STEP)) <= DEEPEST:
                best, steps = sideways + direction * (step * STEP), step
                break
    return best
