"""What a hand model is: the arrays of one hand, and a pair of them."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from mano_jax import constants


class HandError(ValueError):
    """A hand model, or something asked of it, is not as MANO defines it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Hand:
    """One hand model; a jax pytree (with `side` static), hashable by identity.

    Arrays are float64 numpy arrays as loaded; functions work in the dtype of their inputs.

    Attributes:
      v_template: (778, 3) metres, rest pose.
      shapedirs: (778, 3, 10) metres per unit of shape.
      posedirs: (778, 3, 135) metres per entry of (R - I), joints 1 to 15 row by row.
      J_regressor: (16, 778) takes rest vertices to joints.
      lbs_weights: (778, 16) skinning weights.
      hands_components: (45, 45) principal components of the finger pose, one a row, radians.
      hands_mean: (45,) mean finger pose, axis-angle, radians.
      faces: (1538, 3) int32.
      side: "left", "right", or "both" for a stacked pair (a leading axis of 2 on every array).
    """

    v_template: np.ndarray
    shapedirs: np.ndarray
    posedirs: np.ndarray
    J_regressor: np.ndarray
    lbs_weights: np.ndarray
    hands_components: np.ndarray
    hands_mean: np.ndarray
    faces: np.ndarray
    side: str


ARRAY_FIELDS = tuple(field.name for field in dataclasses.fields(Hand) if field.name != "side")
"""Names of the arrays of a `Hand`."""

jax.tree_util.register_dataclass(Hand, data_fields=ARRAY_FIELDS, meta_fields=["side"])


@dataclasses.dataclass(frozen=True, eq=False)
class HandPair:
    """A left and a right hand model; hashable by identity, so it may be a static argument.

    Attributes:
      left: the left hand.
      right: the right hand.
      name: what to call it in messages and records.
      licence: the terms it comes under, one line.
    """

    left: Hand
    right: Hand
    name: str = "unnamed hands"
    licence: str = "unknown"

    def __getitem__(self, side: str) -> Hand:
        if side not in constants.SIDES:
            raise HandError(f"side is {side!r}; wanted left or right")
        return self.left if side == "left" else self.right

    def stacked(self) -> Hand:
        """Both hands as one `Hand` whose arrays have a leading axis (left, right), for `vmap`."""
        arrays = {
            name: np.stack([getattr(self.left, name), getattr(self.right, name)])
            for name in ARRAY_FIELDS
        }
        return Hand(**arrays, side="both")
