"""The ways in which two hands meet.

Body axes: x to the picture's right as a camera before the person sees it, y up, z towards that
camera; so the person's right hand is at negative x.
"""

from __future__ import annotations

import dataclasses


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
