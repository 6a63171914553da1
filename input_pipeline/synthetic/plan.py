"""What is drawn: captures, sequences, frames and views, all from the seed, and their posed hands.

Posing needs jax, which is imported when used: drawing processes do without.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator

import numpy as np

from input_pipeline.sources.frames import SPLITS
from input_pipeline.synthetic import gestures, interaction
from input_pipeline.synthetic.gestures import POSTURES, Posture, anatomy, blend, finger_pose
from input_pipeline.synthetic.interaction import MEETINGS
from input_pipeline.synthetic.studio import Capture, Variety, capture
from input_pipeline.synthetic.surface import HandModel

PICTURES_PER_CAPTURE = 60
MOST_CAPTURES = {"train": 900, "val": 90, "test": 90}
FRAMES_PER_SEQUENCE = 5
SHARED = 0.45
"""Share of the variation of poses that the frames of a sequence have in common."""


@dataclasses.dataclass(frozen=True, eq=False)
class PosedHand:
    """A hand with its fingers posed; its root at rest, or placed in the world.

    Attributes:
      vertices: (778, 3) metres.
      joints: (21, 3), the first of which is MANO's, about which the root turns.
      pose: (45,) axis-angle without hands_mean, as the files hold it.
      rotation: (3, 3) of MANO's root.
      transl: (3,) metres, MANO's: x_world = rotation @ (x - wrist) + wrist + transl.
    """

    vertices: np.ndarray
    joints: np.ndarray
    pose: np.ndarray
    rotation: np.ndarray = dataclasses.field(default_factory=lambda: np.eye(3))
    transl: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(3))

    def turned(self, rotation: np.ndarray) -> PosedHand:
        """The hand at rest with its root turned by (3, 3)."""
        wrist = self.joints[0]
        vertices, joints = (
            (points - wrist) @ rotation.T + wrist for points in (self.vertices, self.joints)
        )
        return PosedHand(vertices, joints, self.pose, rotation)

    def moved(self, shift: np.ndarray) -> PosedHand:
        """The hand moved by (3,) metres."""
        places = (self.vertices + shift, self.joints + shift)
        return PosedHand(*places, self.pose, self.rotation, self.transl + shift)


@dataclasses.dataclass(frozen=True, eq=False)
class FrameTask:
    """All that one frame is made from.

    Attributes:
      capture: where and who.
      sequence: the sequence's name.
      hand_type: "interacting", "left" or "right".
      meeting: key of `interaction.MEETINGS`.
      exchanged: whether the hands swap the roles of the meeting.
      numbers: (24,) normal numbers of the placement.
      postures: what the fingers form, by side.
      pose_numbers: (20,) normal numbers of the fingers' variation, by side.
      seed: of everything else.
      number: the frame's number, unique in its capture.
      views: how many cameras take a picture.
      hands: posed hands by side; none before `posed_tasks` has posed them.
      folder: the split's image folder.
    """

    capture: Capture
    sequence: str
    hand_type: str
    meeting: str
    exchanged: bool
    numbers: np.ndarray
    postures: dict[str, Posture]
    pose_numbers: dict[str, np.ndarray]
    seed: tuple[int, ...]
    number: int = 0
    views: int = 0
    hands: dict[str, PosedHand] = dataclasses.field(default_factory=dict)
    folder: str = ""

    @property
    def sides(self) -> tuple[str, ...]:
        """Hands that are seen."""
        return ("right", "left") if self.hand_type == "interacting" else (self.hand_type,)


def plan_split(split: str, pictures: int, seed: int, variety: Variety) -> Iterator[FrameTask]:
    """Lays out one split.

    Args:
      split: "train", "val" or "test".
      pictures: how many pictures in all; the last frame of a capture may have fewer views.
      seed: the data set's seed.
      variety: what its frames may show.

    Yields:
      the frames, capture by capture.
    """
    split_number = SPLITS.index(split)
    count = min(MOST_CAPTURES[split], max(2, round(pictures / PICTURES_PER_CAPTURE)), pictures)
    for index in range(count):
        share = pictures // count + (index < pictures % count)
        subject = 1000 * split_number + index  # people of different splits are different people
        one = capture(index, subject, (seed, split_number, index), variety)
        yield from _plan_capture(one, share, variety)


def _plan_capture(one: Capture, pictures: int, variety: Variety) -> Iterator[FrameTask]:
    generator = np.random.default_rng((*one.seed, 1))
    number, sequence, left_over = int(generator.integers(400, 3000)), 0, pictures
    meetings = _shuffled_cycle(variety.meetings or tuple(MEETINGS), generator)
    while left_over > 0:
        meeting = next(meetings)
        hand_type = "interacting"
        if generator.random() < variety.single_share:
            hand_type = str(generator.choice(["left", "right"]))
        plans = _plan_sequence(one, sequence, meeting, hand_type, variety.blended, generator)
        number += int(generator.integers(20, 200))
        for plan in plans:
            here = min(variety.views, left_over, len(one.cameras))
            if not here:
                return
            yield dataclasses.replace(plan, number=number, views=here)
            left_over -= here
            number += int(generator.integers(2, 9))
        sequence += 1


def _shuffled_cycle(names: tuple[str, ...], generator: np.random.Generator) -> Iterator[str]:
    while True:
        for index in generator.permutation(len(names)):
            yield names[index]


def _plan_sequence(
    one: Capture,
    sequence: int,
    meeting: str,
    hand_type: str,
    blended: float,
    generator: np.random.Generator,
) -> list[FrameTask]:
    exchanged = bool(generator.random() < 0.5)
    pairs = MEETINGS[meeting].postures
    roles = pairs[generator.integers(len(pairs))]
    postures = dict(zip(("left", "right") if exchanged else ("right", "left"), roles, strict=True))
    if hand_type == "interacting":
        name = f"{300 + sequence:04d}_dh_{meeting}"
    else:
        posture = str(generator.choice(list(POSTURES)))
        postures = dict.fromkeys(postures, posture)
        name = f"{sequence:04d}_{posture.replace('_', '')}_normal"
    formed = {side: POSTURES[posture] for side, posture in postures.items()}
    if blended:
        for side, posture in formed.items():
            if generator.random() < blended:
                formed[side] = blend(posture, generator)
    length = interaction.NUMBERS + 2 * gestures.NUMBERS
    common = generator.normal(size=length)
    plans = []
    for frame in range(FRAMES_PER_SEQUENCE):
        own = generator.normal(size=length)
        numbers = np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * own
        placement, right, left = np.split(numbers, [interaction.NUMBERS, length - gestures.NUMBERS])
        plans.append(
            FrameTask(one, name, hand_type, meeting, exchanged, placement, formed,
                      {"right": right, "left": left}, (*one.seed, 2, sequence, frame))
        )  # fmt: skip
    return plans


POSED_AT_ONCE = 64
"""Frames posed in one call; a fixed number, so that one compiled program serves all."""


def hand_models(pair) -> dict[str, HandModel]:
    """What drawing needs of a `mano_jax.HandPair`, by side."""
    from mano_jax import rest_joints, tip_indices

    models = {}
    for side in ("left", "right"):
        hand = pair[side]
        joints = np.asarray(rest_joints(hand, np.zeros(10, np.float32)), np.float64)
        template = np.asarray(hand.v_template, np.float64)
        tips = template[tip_indices(side, "intaghand")]
        models[side] = HandModel(
            side, np.asarray(hand.faces), template, joints, tips, anatomy(joints, tips, side)
        )
    return models


def posed_tasks(
    plans: Iterable[FrameTask], pair, models: dict[str, HandModel], folder: str
) -> Iterator[FrameTask]:
    """Poses the planned frames' fingers, some frames at a time.

    Args:
      plans: from `plan_split`.
      pair: the `mano_jax.HandPair`.
      models: from `hand_models`.
      folder: the split's image folder.

    Yields:
      tasks for `make_frame`, in the plans' order.
    """
    plans = iter(plans)
    while some := list(itertools.islice(plans, POSED_AT_ONCE)):
        hands = {side: _pose(side, some, pair[side], models[side]) for side in models}
        for index, plan in enumerate(some):
            posed = {side: hands[side][index] for side in hands}
            yield dataclasses.replace(plan, hands=posed, folder=folder)


def _pose(side: str, plans: list[FrameTask], hand, model: HandModel) -> list[PosedHand]:
    """One side's hands of some frames, root at rest."""
    import jax

    from mano_jax import pose_hand

    rotations = [
        finger_pose(model.anatomy, plan.postures[side], plan.pose_numbers[side]) for plan in plans
    ]
    padding = POSED_AT_ONCE - len(plans)
    pose = np.pad(np.array(rotations, np.float32), ((0, padding), (0, 0), (0, 0)))
    betas = np.array([plan.capture.betas for plan in plans], np.float32)
    betas = np.pad(betas, ((0, padding), (0, 0)))
    root = np.broadcast_to(np.eye(3, dtype=np.float32), (POSED_AT_ONCE, 3, 3))
    posed = jax.jit(pose_hand, static_argnames="tips")(hand, root, pose, betas, tips="intaghand")
    vertices, joints = np.asarray(posed.vertices, float), np.asarray(posed.joints, float)
    without_mean = pose.reshape(-1, 45).astype(float) - np.asarray(hand.hands_mean)
    return [PosedHand(vertices[i], joints[i], without_mean[i]) for i in range(len(plans))]
