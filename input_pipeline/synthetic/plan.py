"""Which captures, sequences, frames and views a split has; all from the seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from input_pipeline.synthetic import gestures, interaction
from input_pipeline.synthetic.gestures import POSTURES, Posture, blend
from input_pipeline.synthetic.meetings import MEETINGS
from input_pipeline.synthetic.studio import BACKDROPS, PITCH, ROLL, YAW, Capture, capture

SPLITS = ("train", "val", "test")
"""In the order of their numbers in seeds."""

PICTURES_PER_CAPTURE = 60
MOST_CAPTURES = {"train": 900, "val": 90, "test": 90}
FRAMES_PER_SEQUENCE = 5
SHARED = 0.45
"""Share of the variation of poses that the frames of a sequence have in common."""


@dataclasses.dataclass(frozen=True)
class Variety:
    """How varied a data set is.

    Attributes:
      views: pictures of one frame.
      single_share: share of sequences with one hand only.
      meetings: names of `MEETINGS` that occur.
      yaw: degrees that cameras stand to either side, at most.
      pitch: degrees that they stand up or down, at most.
      roll: degrees that they are turned about their own axis, standard deviation.
      surroundings: "studio" or "everyday"; see `studio.capture`.
      blended: share of hands whose fingers are each somewhere between two postures.
    """

    views: int = 3
    single_share: float = 0.12
    meetings: tuple[str, ...] = tuple(MEETINGS)
    yaw: float = YAW
    pitch: float = PITCH
    roll: float = ROLL
    surroundings: str = "studio"
    blended: float = 0.0

    def __post_init__(self):
        """Raises ValueError, one plain line, for what makes no sense."""
        if unknown := set(self.meetings) - set(MEETINGS):
            raise ValueError(
                f"unknown meeting {min(unknown)!r}; wanted some of {', '.join(MEETINGS)}"
            )
        if self.views < 1 or not 0 <= self.single_share <= 1 or not self.meetings:
            raise ValueError(
                f"views {self.views}, single share {self.single_share}, {len(self.meetings)} "
                "meetings; wanted at least 1 view, a share within 0..1 and at least 1 meeting"
            )
        if not 0 <= self.yaw <= 180 or not 0 <= self.pitch <= 80:
            raise ValueError(
                f"yaw {self.yaw}, pitch {self.pitch}; wanted degrees within 0..180 and 0..80"
            )
        if self.surroundings not in BACKDROPS:
            raise ValueError(
                f"unknown surroundings {self.surroundings!r}; wanted one of {', '.join(BACKDROPS)}"
            )


FULL_VARIETY = Variety()

EVERYDAY = Variety(
    views=4,
    single_share=0.33,
    yaw=180.0,
    pitch=75.0,
    roll=30.0,
    surroundings="everyday",
    blended=0.5,
)
"""Hands as people photograph them: from any side, one or two, in any place and light."""

VARIETIES = {"studio": FULL_VARIETY, "everyday": EVERYDAY}


@dataclasses.dataclass(frozen=True, eq=False)
class FramePlan:
    """A frame before its hands are posed; the fields are those of `types.FrameTask`.

    `postures` and `pose_numbers` ((20,) normal numbers) are by side.
    """

    capture: Capture
    sequence: str
    number: int
    hand_type: str
    meeting: str
    exchanged: bool
    numbers: np.ndarray
    postures: dict[str, Posture]
    pose_numbers: dict[str, np.ndarray]
    views: int
    seed: tuple[int, ...]


def plan_split(
    split: str, pictures: int, seed: int, variety: Variety = FULL_VARIETY
) -> Iterator[FramePlan]:
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
        # People of different splits are different people.
        one = capture(
            index,
            1000 * split_number + index,
            (seed, split_number, index),
            yaw=variety.yaw,
            pitch=variety.pitch,
            roll=variety.roll,
            surroundings=variety.surroundings,
        )
        yield from _plan_capture(one, share, variety)


def _plan_capture(one: Capture, pictures: int, variety: Variety) -> Iterator[FramePlan]:
    generator = np.random.default_rng((*one.seed, 1))
    number, sequence, left_over = int(generator.integers(400, 3000)), 0, pictures
    meetings = _shuffled_cycle(list(variety.meetings), generator)
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


def _shuffled_cycle(names: list[str], generator: np.random.Generator) -> Iterator[str]:
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
) -> list[FramePlan]:
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
            FramePlan(one, name, 0, hand_type, meeting, exchanged, placement, formed,
                      {"right": right, "left": left}, 0, (*one.seed, 2, sequence, frame))
        )  # fmt: skip
    return plans
