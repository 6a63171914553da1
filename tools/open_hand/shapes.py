"""Ten shape directions, scaled so that normally distributed betas give plausible hands."""

from __future__ import annotations

import numpy as np

from mano_jax.constants import BETAS
from tools.open_hand.rig import lengthen
from tools.open_hand.source import BUILD_TARGETS, PEOPLE_TARGETS, SourceHand
from tools.open_hand.template import Template

# Standard deviations of the independent factors of the population. Adult hand length varies by
# about 6 % around its mean; the others are in units of MakeHuman's targets or relative lengths.
SIZE_SD = 0.055
TARGET_SD = {"fingers-diameter": 0.55, "fingers-distance": 0.5, "fingers-length": 0.11}
PEOPLE_SD, BUILD_SD = 0.5, 0.5
FINGER_SD, PALM_SD = 0.05, 0.04
# People and builds differ most in the forearm, of which only a stump is left: damp them there.
STUMP_DAMPING, DAMPED_OVER = 0.25, 0.03


def shape_directions(template: Template, source: SourceHand) -> np.ndarray:
    """Principal components (778, 3, 10) of a population built from independent factors.

    The factors: overall size, MakeHuman's hand targets (finger thickness, distance, length), the
    differences between its people and builds at equal size, the length of each finger, and the
    palm's proportions. Each component is as long as its standard deviation, so betas ~ N(0, 1).
    """
    vertices = template.vertices
    wrist = source.joints[0]
    factors = [SIZE_SD * (vertices - wrist)]
    for name, deviation in TARGET_SD.items():
        more, less = (
            template.shapes[f"hands/r-hand-{name}-{sign}.target.gz"] for sign in ("incr", "decr")
        )
        factors.append(deviation * 0.5 * (more - less))
    people = [_at_template_size(template, source, name) for name in PEOPLE_TARGETS]
    builds = [_at_template_size(template, source, name) for name in BUILD_TARGETS]
    towards_fingers = np.clip((wrist[0] - vertices[:, :1]) / DAMPED_OVER, 0, 1)
    damping = STUMP_DAMPING + (1 - STUMP_DAMPING) * towards_fingers
    factors += [PEOPLE_SD * damping * (shape - np.mean(people, axis=0)) for shape in people]
    factors += [BUILD_SD * damping * (shape - vertices) for shape in builds]
    factors += _finger_lengths(template, source)
    for axis in range(3):
        stretch = np.zeros_like(vertices)
        stretch[:, axis] = PALM_SD * (vertices - wrist)[:, axis] * (1 if axis else 0.5)
        factors.append(stretch)
    # The wrist stays where it is: a hand's place is the translation's business.
    factors = [factor - template.regressor[0] @ factor for factor in factors]
    basis, lengths, _ = np.linalg.svd(
        np.stack([f.ravel() for f in factors], 1), full_matrices=False
    )
    directions = (basis * lengths)[:, :BETAS].reshape(*vertices.shape, BETAS)
    outward = ((vertices - wrist)[..., None] * directions).sum((0, 1))
    return directions * np.where(outward < 0, -1.0, 1.0)


def _at_template_size(template: Template, source: SourceHand, name: str) -> np.ndarray:
    """A target's vertices scaled about the wrist to the template's palm length."""
    joints = source.shapes[name][1]
    scale = np.linalg.norm(source.joints[4] - source.joints[0])
    scale /= np.linalg.norm(joints[4] - joints[0])
    return source.joints[0] + scale * (template.shapes[name] - joints[0])


def _finger_lengths(template: Template, source: SourceHand) -> list[np.ndarray]:
    """Stretching each finger along its bones from its base on."""
    joints = np.concatenate([source.joints, source.tips])
    given = (template.vertices, joints, template.weights)
    return [lengthen(*given, base, 1 + FINGER_SD)[0] - given[0] for base in range(1, 16, 3)]
