"""Posing the planned frames' fingers with mano_jax, before the drawing processes get them.

The only part that needs jax, which is imported when used: drawing processes do without.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np

from input_pipeline.synthetic.anatomy import anatomy
from input_pipeline.synthetic.gestures import finger_pose
from input_pipeline.synthetic.plan import FramePlan
from input_pipeline.synthetic.types import FrameTask, HandModel, PosedHand

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
    plans: Iterable[FramePlan], pair, models: dict[str, HandModel], folder: str
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
            yield FrameTask(
                plan.capture, plan.sequence, plan.number, plan.hand_type, plan.meeting,
                plan.exchanged, plan.numbers, {side: hands[side][index] for side in hands},
                plan.views, plan.seed, folder,
            )  # fmt: skip


def _pose(side: str, plans: list[FramePlan], hand, model: HandModel) -> list[PosedHand]:
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
    return [
        PosedHand(vertices[i], joints[i], joints[i, 0], without_mean[i]) for i in range(len(plans))
    ]
