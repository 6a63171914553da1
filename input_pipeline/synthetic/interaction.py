"""Two hands about each other: the ways of meeting, and keeping them out of one another.

Body axes: x to the picture's right as a camera before the person sees it, y up, z towards that
camera; so the person's right hand is at negative x. The world of the files has y down and z away.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.spatial.transform import Rotation

from input_pipeline.synthetic.anatomy import Anatomy

NUMBERS = 24
"""How many normal numbers vary one placement."""

WORLD_FROM_BODY = np.diag([1.0, -1.0, -1.0])

DEEPEST = 0.004
"""Metres a vertex may lie inside the other hand after they were moved apart: skin gives way."""

STEP, STEPS = 0.004, 40
"""Metres per move apart, and the most moves."""


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

    right: tuple[tuple, tuple, tuple]
    left: tuple[tuple, tuple, tuple]
    apart: tuple[float, float, float]
    postures: tuple[tuple[str, str], ...]
    looseness: float = 1.0


MEETINGS = {
    "pray": Meeting(
        ((0.1, 0.8, 0.6), (1, 0, 0), (-0.016, 0, 0)),
        ((-0.1, 0.8, 0.6), (-1, 0, 0), (0.016, 0, 0)),
        (-1, 0, 0),
        (("flat", "flat"), ("relaxed", "relaxed"), ("cup", "flat")),
        0.6,
    ),
    "clasp": Meeting(
        ((0.55, 0.35, 0.75), (0.8, 0, -0.6), (-0.030, -0.006, 0)),
        ((-0.55, 0.35, 0.75), (-0.8, 0, -0.6), (0.030, 0.006, 0)),
        (-1, 0, 0),
        (("interlock", "interlock"),),
        0.5,
    ),
    "weave": Meeting(
        ((0.75, 0.65, 0.1), (0.1, 0, -1), (-0.055, -0.02, 0.012)),
        ((-0.75, 0.65, 0.1), (-0.1, 0, -1), (0.055, -0.02, -0.012)),
        (-1, 0, 0.4),
        (("spread", "spread"), ("interlock", "interlock"), ("relaxed", "spread")),
        0.6,
    ),
    "fistinpalm": Meeting(
        ((0.9, 0.2, 0.35), (0.2, -0.9, 0.1), (-0.05, 0, 0.01)),
        ((0.0, 0.75, 0.65), (-1, 0, 0.1), (0.03, 0, 0)),
        (-1, 0, 0),
        (("fist", "cup"), ("fist", "relaxed"), ("fist", "flat")),
    ),
    "tent": Meeting(
        ((0.35, 0.75, 0.5), (0.9, -0.4, 0), (-0.045, 0, 0)),
        ((-0.35, 0.75, 0.5), (-0.9, -0.4, 0), (0.045, 0, 0)),
        (-1, 0, 0),
        (("relaxed", "relaxed"), ("cup", "cup"), ("claw", "claw"), ("spread", "spread")),
        0.7,
    ),
    "cross": Meeting(
        ((0.55, 0.8, 0.15), (0.1, 0.0, -1), (0.025, 0, 0.035)),
        ((-0.55, 0.8, 0.15), (-0.1, 0.0, -1), (-0.025, 0, -0.015)),
        (0, 0, 1),
        (("flat", "flat"), ("spread", "spread"), ("fist", "fist"), ("two", "relaxed")),
    ),
    "side": Meeting(
        ((0.15, 0.9, 0.35), (0, -0.2, 1), (-0.055, 0, 0)),
        ((-0.15, 0.9, 0.35), (0, -0.2, 1), (0.055, 0, 0)),
        (-1, 0, 0),
        (("flat", "flat"), ("spread", "spread"), ("relaxed", "cup"), ("two", "two")),
    ),
    "backs": Meeting(
        ((0.2, 0.8, 0.5), (0, 0.2, -1), (-0.055, 0, 0)),
        ((-0.2, 0.8, 0.5), (0, 0.2, -1), (0.055, 0, 0)),
        (-1, 0, 0),
        (("relaxed", "relaxed"), ("fist", "fist"), ("okay", "okay"), ("thumb_up", "thumb_up")),
    ),
    "touch": Meeting(
        ((0.85, 0.25, 0.3), (0.1, -0.8, -0.5), (-0.11, 0.01, 0.02)),
        ((-0.1, 0.85, 0.4), (-0.8, 0, 0.6), (0.035, -0.01, 0)),
        (-1, 0, 0.1),
        (("point", "flat"), ("point", "spread"), ("pinch", "relaxed"), ("two", "flat")),
    ),
    "stack": Meeting(
        ((0.75, 0.1, 0.6), (0, -1, 0.1), (0, 0.018, 0)),
        ((-0.75, 0.1, 0.6), (0, 1, 0.1), (0, -0.018, 0)),
        (0, 1, 0),
        (("flat", "flat"), ("cup", "cup"), ("relaxed", "flat"), ("fist", "cup")),
    ),
    "grip": Meeting(
        ((0.8, 0.35, 0.35), (0.2, -0.75, -0.6), (-0.025, 0.02, 0.02)),
        ((-0.6, 0.7, 0.3), (0.1, 0.3, -0.9), (0.03, -0.02, -0.02)),
        (-0.6, 0.5, 0.5),
        (("grip", "relaxed"), ("grip", "flat"), ("grip", "fist"), ("cup", "point")),
    ),
    "hooked": Meeting(
        ((0.95, 0.15, 0.2), (0.1, -0.1, -1), (-0.06, 0, 0.012)),
        ((-0.95, 0.15, 0.2), (0.1, 0.1, 1), (0.06, 0, -0.012)),
        (-1, 0, 0.3),
        (("hook", "hook"), ("claw", "hook"), ("interlock", "hook")),
        0.5,
    ),
    "free": Meeting(
        ((0.35, 0.75, 0.45), (0.6, -0.2, 0.3), (-0.07, 0, 0)),
        ((-0.35, 0.75, 0.45), (-0.6, -0.2, 0.3), (0.07, 0, 0)),
        (-1, 0, 0),
        (
            ("relaxed", "relaxed"), ("fist", "spread"), ("point", "fist"), ("okay", "two"),
            ("thumb_up", "fist"), ("claw", "claw"), ("pinch", "flat"), ("spread", "grip"),
        ),
        2.2,
    ),
}  # fmt: skip


def orientation(anatomy: Anatomy, forward: np.ndarray, palm: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) from rest coordinates that points a hand and its palm as wanted.

    `palm` need not be at a right angle to `forward`; its part across `forward` counts.
    """
    forward = np.asarray(forward, np.float64) / np.linalg.norm(forward)
    palm = np.asarray(palm, np.float64)
    palm = palm - forward * (palm @ forward)
    palm /= np.linalg.norm(palm)
    side = np.cross(forward, palm) * np.sign(np.linalg.det(anatomy.frame))
    return np.stack([forward, palm, side], axis=1) @ anatomy.frame.T


def roles(meeting: Meeting, exchanged: bool) -> dict[str, tuple]:
    """The two hands' (forward, palm, place), in the picture's mirror image when exchanged."""
    if not exchanged:
        return {"right": meeting.right, "left": meeting.left}

    def mirror(role: tuple) -> tuple:
        return tuple(np.array(part, float) * [-1, 1, 1] for part in role)

    return {"right": mirror(meeting.left), "left": mirror(meeting.right)}


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
    placed = {}
    for start, (side, (forward, palm, place)) in zip(
        (6, 12), roles(meeting, exchanged).items(), strict=True
    ):
        own = Rotation.from_rotvec(wobble * numbers[start : start + 3], degrees=True)
        turn = (common * own).as_matrix() @ orientation(anatomies[side], forward, palm)
        at = np.asarray(place) + shift * numbers[start + 3 : start + 6]
        placed[side] = (turn, middle + common.apply(at))
    apart = np.asarray(meeting.apart, np.float64) * ([-1, 1, 1] if exchanged else [1, 1, 1])
    if exchanged:
        apart = -apart
    return placed, common.apply(apart / np.linalg.norm(apart))


def depth_inside(
    points: np.ndarray, surface: np.ndarray, normals: np.ndarray, reach: float = 0.025
) -> np.ndarray:
    """How deep points lie inside a mesh, by its nearest vertex and that vertex's outward normal.

    Cheap and good to about the spacing of the vertices (4 mm on a hand).

    Args:
      points: (P, 3) metres.
      surface: (V, 3) vertices of the other mesh.
      normals: (V, 3) their outward unit normals.
      reach: nearest vertices farther than this do not count.

    Returns:
      (P,) metres inside, 0 for points outside.
    """
    if not len(surface):
        return np.zeros(len(points))
    # Float32 needs small numbers: distances are differences of squares.
    middle = surface.mean(axis=0)
    points, surface = np.float32(points - middle), np.float32(surface - middle)
    squared = (points**2).sum(1)[:, None] - 2.0 * points @ surface.T + (surface**2).sum(1)
    nearest = squared.argmin(axis=1)
    inside = -np.einsum("pc,pc->p", points - surface[nearest], normals[nearest])
    near = squared[np.arange(len(points)), nearest] < reach**2
    return np.where(near & (inside > 0), inside, 0.0)


def deepest(first: tuple, second: tuple, move: np.ndarray) -> float:
    """Greatest depth of either hand in the other when `first` is moved; (vertices, normals) each.

    Only vertices in the other's bounding box are looked at.
    """
    worst = 0.0
    here = (first[0] + move, first[1])
    for (points, _), (surface, normals) in ((here, second), (second, here)):
        points = points[_within(points, surface, 0.0)]
        if len(points):
            near = _within(surface, points, 0.02)
            worst = max(worst, float(depth_inside(points, surface[near], normals[near]).max()))
    return worst


def _within(points: np.ndarray, others: np.ndarray, margin: float) -> np.ndarray:
    """Which points (P, 3) lie in the bounding box of others, enlarged by a margin: (P,) bool."""
    return ((points > others.min(0) - margin) & (points < others.max(0) + margin)).all(1)


def distance_apart(right: tuple, left: tuple, direction: np.ndarray) -> float:
    """Least distance, in steps, by which the right hand must give way along `direction`.

    Args:
      right: (vertices (V, 3), outward normals (V, 3)).
      left: the same of the other hand.
      direction: (3,) unit vector from the left to the right hand.

    Returns:
      metres; the first of 0, 4, 8, ... mm at which nothing lies deeper than `DEEPEST`.
    """
    for step in range(STEPS):
        if deepest(right, left, direction * (step * STEP)) <= DEEPEST:
            break
    return step * STEP
