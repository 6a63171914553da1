"""Graph convolutions over the joints of each hand (SPEC 3, step 3; SemGCN, Zhao et al. 2019)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from dir_jax.models.initial_values import Initial, ones
from dir_jax.models.layers import HANDS, BatchNorm, Dtype
from mano_jax.constants import BONES, JOINTS

XAVIER_GAIN = 1.414
"""The released code's gain of the Xavier-uniform initial weights."""


def neighbours() -> tuple[np.ndarray, np.ndarray]:
    """(40,) joints and (40,) their neighbours, in row-major order of the adjacency matrix."""
    adjacency = np.zeros((JOINTS, JOINTS), bool)
    for parent, child in BONES:
        adjacency[parent, child] = adjacency[child, parent] = True
    return np.nonzero(adjacency)


def _xavier(shape: tuple[int, ...]) -> Initial:
    """Xavier uniform with the fans PyTorch computes for a stack of weights.

    torch counts the trailing sizes of an (a, b, ...) tensor as its receptive field, so for the
    released (2, 21, C, C) weights the bound is gain * sqrt(6 / ((2 + 21) * C * C)).
    """
    per_hand = shape[1:]
    receptive = int(np.prod(per_hand[2:]))
    bound = XAVIER_GAIN * float(np.sqrt(6 / ((per_hand[0] + per_hand[1]) * receptive)))
    return Initial("uniform", bound)


class GraphConvolution(nn.Module):
    """One layer: own transform plus the softmax-weighted transforms of the neighbours.

    out_j = x_j W0_j + sum over neighbours k of softmax(e1)_jk (x_k W1_k) + bias, BatchNorm, ReLU.

    Attributes:
      features: width.
      shared: weights shared over the joints (SemGCN) instead of one pair per joint (released).
      axis_name: see `BatchNorm`.
      dtype: arithmetic type, None to follow the input.
    """

    features: int
    shared: bool = False
    axis_name: str | None = None
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """(B, 2, 21, C) to (B, 2, 21, features); all parameters have a leading hand axis."""
        channels = x.shape[-1]
        joints = (1,) if self.shared else (JOINTS,)
        shape = (HANDS, 2, *joints, channels, self.features)
        kernel = self.param("kernel", _xavier(shape), shape)
        bound = 1 / np.sqrt(JOINTS)  # as the released code: the joint count is taken for the fan
        bias = self.param("bias", Initial("uniform", bound), (HANDS, self.features))
        rows, columns = neighbours()
        edges = self.param("edges", ones, (HANDS, len(rows)))
        # The softmax over a joint's only self connection is 1 whatever its logit; the released
        # checkpoint carries (and its optimiser decays) that logit, so it is kept.
        self.param("self_edges", ones, (HANDS, JOINTS))
        logits = jnp.full((HANDS, JOINTS, JOINTS), -jnp.inf, edges.dtype)
        attention = nn.softmax(logits.at[:, rows, columns].set(edges), axis=-1)
        x, kernel, bias, attention = nn.dtypes.promote_dtype(
            x, kernel, bias, attention, dtype=self.dtype
        )
        if self.shared:
            own, passed = jnp.einsum("bhjc,htcd->tbhjd", x, kernel[:, :, 0])
        else:
            # Products in the order in which the weights lie: else they are rearranged every time.
            rows = jnp.broadcast_to(
                x.transpose(1, 2, 0, 3)[:, None], (*kernel.shape[:3], *x.shape[::3])
            )
            own, passed = (rows @ kernel).transpose(1, 3, 0, 2, 4)
        x = own + jnp.einsum("hjk,bhkd->bhjd", attention, passed) + bias[:, None]
        return nn.relu(BatchNorm("separate", self.axis_name, name="norm")(x, train))


class GraphNetwork(nn.Module):
    """A stack of graph convolutions of constant width."""

    layers: int
    features: int
    shared: bool = False
    axis_name: str | None = None
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """(B, 2, 21, C) to (B, 2, 21, features)."""
        for layer in range(self.layers):
            x = GraphConvolution(
                self.features, self.shared, self.axis_name, self.dtype, name=f"layer{layer}"
            )(x, train)
        return x
