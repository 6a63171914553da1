"""What travels between planning, posing, drawing and writing."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from input_pipeline.synthetic import body, surface
from input_pipeline.synthetic.anatomy import Anatomy
from input_pipeline.synthetic.studio import Camera, Capture


@dataclasses.dataclass(frozen=True, eq=False)
class HandModel:
    """What drawing needs to know of one hand, side "left" or "right"; rest pose, metres."""

    side: str
    faces: np.ndarray
    template: np.ndarray
    joints: np.ndarray
    tips: np.ndarray
    anatomy: Anatomy

    @functools.cached_property
    def steps(self) -> list[surface.Refinement]:
        """Refinements of the mesh."""
        return surface.refinements(self.faces, len(self.template))

    @functools.cached_property
    def loop(self) -> np.ndarray:
        """The wrist's open edge."""
        return body.boundary_loop(self.faces)


@dataclasses.dataclass(frozen=True, eq=False)
class PosedHand:
    """A hand with its fingers posed and its root at rest.

    Attributes:
      vertices: (778, 3) metres.
      joints: (21, 3).
      wrist: (3,) MANO's first joint, about which the root turns.
      pose: (45,) axis-angle without hands_mean, as the files hold it.
    """

    vertices: np.ndarray
    joints: np.ndarray
    wrist: np.ndarray
    pose: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class FrameTask:
    """All that one frame is made from.

    Attributes:
      capture: where and who.
      sequence: the sequence's name.
      number: the frame's number, unique in its capture.
      hand_type: "interacting", "left" or "right".
      meeting: key of `meetings.MEETINGS`.
      exchanged: whether the hands swap the roles of the meeting.
      numbers: (24,) normal numbers of the placement.
      hands: posed hands by side.
      views: how many cameras take a picture.
      seed: of everything else.
      folder: the split's image folder.
    """

    capture: Capture
    sequence: str
    number: int
    hand_type: str
    meeting: str
    exchanged: bool
    numbers: np.ndarray
    hands: dict[str, PosedHand]
    views: int
    seed: tuple[int, ...]
    folder: str

    @property
    def sides(self) -> tuple[str, ...]:
        """Hands that are seen."""
        return ("right", "left") if self.hand_type == "interacting" else (self.hand_type,)


@dataclasses.dataclass(frozen=True, eq=False)
class PlacedHand:
    """A hand in the world.

    Attributes:
      rotation: (3, 3) of MANO's root.
      transl: (3,) metres, MANO's: x_world = rotation @ (x - wrist) + wrist + transl.
      vertices: (778, 3) metres, world.
      joints: (21, 3) metres, world.
      pose: (45,) axis-angle without hands_mean.
    """

    rotation: np.ndarray
    transl: np.ndarray
    vertices: np.ndarray
    joints: np.ndarray
    pose: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class FrameResult:
    """What the files say about one frame.

    Attributes:
      task: what was asked, without the posed hands.
      placed: hands by side.
      pictures: (camera, file name relative to the split's image folder) of every view.
    """

    task: FrameTask
    placed: dict[str, PlacedHand]
    pictures: list[tuple[Camera, str]]
