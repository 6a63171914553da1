"""Which captures, sequences, frames and views a split has; all from the seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from input_pipeline.synthetic import gestures, interaction
from input_pipeline.synthetic.meetings import MEETINGS
from input_pipeline.synthetic.studio import Capture, capture

SPLITS = ("train", "val", "test")
"""In the order of their numbers in seeds."""

PICTURES_PER_CAPTURE = 60
MOST_CAPTURES = {"train": 26, "val": 6, "test": 8}
FRAMES_PER_SEQUENCE = 5
SHARED = 0.45
"""Share of the variation of poses that the frames of a sequence have in common."""


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
    postures: dict[str, str]
    pose_numbers: dict[str, np.ndarray]
    views: int
    seed: tuple[int, ...]


def plan_split(
    split: str, pictures: int, seed: int, views: int, single_share: float
) -> Iterator[FramePlan]:
    """Lays out one split.

    Args:
      split: "train", "val" or "test".
      pictures: how many pictures in all; the last frame of a capture may have fewer views.
      seed: the data set's seed.
      views: pictures of one frame.
      single_share: share of sequences with one hand only.

    Yields:
      the frames, capture by capture.
    """
    split_number = SPLITS.index(split)
    count = min(MOST_CAPTURES[split], max(2, round(pictures / PICTURES_PER_CAPTURE)), pictures)
    for index in range(count):
        share = pictures // count + (index < pictures % count)
        # People of different splits are different people.
        one = capture(index, 100 * split_number + index, (seed, split_number, index))
        yield from _plan_capture(one, share, views, single_share)


def _plan_capture(
    one: Capture, pictures: int, views: int, single_share: float
) -> Iterator[FramePlan]:
    generator = np.random.default_rng((*one.seed, 1))
    number, sequence, left_over = int(generator.integers(400, 3000)), 0, pictures
    meetings = _shuffled_cycle(list(MEETINGS), generator)
    while left_over > 0:
        meeting = next(meetings)
        hand_type = "interacting"
        if generator.random() < single_share:
            hand_type = str(generator.choice(["left", "right"]))
        plans = _plan_sequence(one, sequence, meeting, hand_type, generator)
        number += int(generator.integers(20, 200))
        for plan in plans:
            here = min(views, left_over, len(one.cameras))
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
    one: Capture, sequence: int, meeting: str, hand_type: str, generator: np.random.Generator
) -> list[FramePlan]:
    exchanged = bool(generator.random() < 0.5)
    pairs = MEETINGS[meeting].postures
    roles = pairs[generator.integers(len(pairs))]
    postures = dict(zip(("left", "right") if exchanged else ("right", "left"), roles, strict=True))
    if hand_type == "interacting":
        name = f"{300 + sequence:04d}_dh_{meeting}"
    else:
        posture = str(generator.choice(list(gestures.POSTURES)))
        postures = dict.fromkeys(postures, posture)
        name = f"{sequence:04d}_{posture.replace('_', '')}_normal"
    length = interaction.NUMBERS + 2 * gestures.NUMBERS
    common = generator.normal(size=length)
    plans = []
    for frame in range(FRAMES_PER_SEQUENCE):
        own = generator.normal(size=length)
        numbers = np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * own
        placement, right, left = np.split(numbers, [interaction.NUMBERS, length - gestures.NUMBERS])
        plans.append(
            FramePlan(one, name, 0, hand_type, meeting, exchanged, placement, postures,
                      {"right": right, "left": left}, 0, (*one.seed, 2, sequence, frame))
        )  # fmt: skip
    return plans
