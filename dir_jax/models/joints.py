"""What the joints learn: from the image, along a hand, from the other hand, and the new estimate.

docs/method.md, "Joint features" to "Regression", and "Hand model". Joints of both hands are
(B, 2, 21, C).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from dir_jax.models.config import ModelConfig, find_part
from dir_jax.models.layers import (
    HANDS,
    BatchNorm,
    HandDense,
    PointMap,
    dense,
    ones,
    uniform,
    zeros,
)
from dir_jax.models.types import (
    BETAS,
    CAMERA_SCALE,
    CAMERA_TRANSLATION,
    LENGTH_SCALE,
    PARAMETERS,
    POSE,
    ROTATION,
    Stage,
)
from mano_jax import HandPair, matrix_from_6d_robust, pca_to_axis_angle, pose_hand, tip_indices
from mano_jax.constants import BONES, JOINTS


class JointFeatures(nn.Module):
    """Features of both hands' joints from the image, the last estimate and each other."""

    config: ModelConfig

    @nn.compact
    def __call__(self, fused: jax.Array, previous: Stage, train: bool) -> jax.Array:
        """fused (B, S, S, C) and the previous estimate to (B, 2, 21, plane_width)."""
        config, batch = self.config, fused.shape[0]

        def point_map(name, hands, x):
            module = PointMap(config.joint_width, hands, name=name)
            return module(x.astype(fused.dtype), train)

        def part(kind, x):  # whatever type a part of one's own computes in
            return find_part(kind, getattr(config, kind))(config, name=kind)(x, train).astype(
                fused.dtype
            )

        sample = find_part("sampling", config.sampling)
        seen = sample(fused, previous.joints_uv.reshape(batch, -1, 2))
        seen = seen.reshape(batch, HANDS, JOINTS, -1)
        normalised = previous.joints_xyz / LENGTH_SCALE
        x = point_map("visual", "separate", seen) + point_map("position", "separate", normalised)
        if find_part("graph", config.graph) is not None:
            x = part("graph", x)
            self.sow("intermediates", "after_graph", x)
        if config.transformer_blocks:
            half = previous.offset[:, None, None] / 2
            in_one_space = normalised + jnp.concatenate([-half, half], 1)
            x = x + point_map("global_position", "shared", in_one_space)
        x = part("transformer", x.reshape(batch, HANDS * JOINTS, -1))
        self.sow("intermediates", "after_transformer", x)
        return x.reshape(batch, HANDS, JOINTS, -1)


# --- Graph network ------------------------------------------------------------------------------

XAVIER_GAIN = 1.414
"""The released code's gain of the Xavier-uniform initial weights."""


def neighbours() -> tuple[np.ndarray, np.ndarray]:
    """(40,) joints and (40,) their neighbours, in row-major order of the adjacency matrix."""
    adjacency = np.zeros((JOINTS, JOINTS), bool)
    for parent, child in BONES:
        adjacency[parent, child] = adjacency[child, parent] = True
    return np.nonzero(adjacency)


def _xavier(shape: tuple[int, ...]):
    """Xavier uniform with the fans PyTorch computes for a stack of weights.

    torch counts the trailing sizes of an (a, b, ...) tensor as its receptive field, so for the
    released (2, 21, C, C) weights the bound is gain * sqrt(6 / ((2 + 21) * C * C)).
    """
    per_hand = shape[1:]
    receptive = int(np.prod(per_hand[2:]))
    return uniform(XAVIER_GAIN * float(np.sqrt(6 / ((per_hand[0] + per_hand[1]) * receptive))))


class GraphConvolution(nn.Module):
    """One layer: own transform plus the softmax-weighted transforms of the neighbours.

    out_j = x_j W0_j + sum over neighbours k of softmax(e1)_jk (x_k W1_k) + bias, BatchNorm, ReLU.

    Attributes:
      features: width.
      shared: weights shared over the joints (SemGCN) instead of one pair per joint (released).
    """

    features: int
    shared: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """(B, 2, 21, C) to (B, 2, 21, features); all parameters have a leading hand axis."""
        joints = (1,) if self.shared else (JOINTS,)
        shape = (HANDS, 2, *joints, x.shape[-1], self.features)
        kernel = self.param("kernel", _xavier(shape), shape).astype(x.dtype)
        bound = 1 / np.sqrt(JOINTS)  # as the released code: the joint count is taken for the fan
        bias = self.param("bias", uniform(bound), (HANDS, self.features)).astype(x.dtype)
        attention = self._attention().astype(x.dtype)
        if self.shared:
            own, passed = jnp.einsum("bhjc,htcd->tbhjd", x, kernel[:, :, 0])
        else:
            # Products in the order in which the weights lie: else they are rearranged every time.
            rows = jnp.broadcast_to(
                x.transpose(1, 2, 0, 3)[:, None], (*kernel.shape[:3], *x.shape[::3])
            )
            own, passed = (rows @ kernel).transpose(1, 3, 0, 2, 4)
        x = own + jnp.einsum("hjk,bhkd->bhjd", attention, passed) + bias[:, None]
        return nn.relu(BatchNorm("separate", name="norm")(x, train))

    def _attention(self):
        """(2, 21, 21): how much each joint hears of its neighbours."""
        rows, columns = neighbours()
        edges = self.param("edges", ones, (HANDS, len(rows)))
        # The softmax over a joint's only self connection is 1 whatever its logit; the released
        # checkpoint carries (and its optimiser decays) that logit, so it is kept.
        self.param("self_edges", ones, (HANDS, JOINTS))
        logits = jnp.full((HANDS, JOINTS, JOINTS), -jnp.inf, edges.dtype)
        return nn.softmax(logits.at[:, rows, columns].set(edges), axis=-1)


class PerJointGraph(nn.Module):
    """`graph_layers` graph convolutions with weights of their own for every joint (released)."""

    config: ModelConfig
    shared: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """(B, 2, 21, joint_width) to the same."""
        for layer in range(self.config.graph_layers):
            name = f"layer{layer}"
            x = GraphConvolution(self.config.joint_width, self.shared, name=name)(x, train)
        return x


class SharedGraph(PerJointGraph):
    """The same with weights shared by the joints (SemGCN, Zhao et al. 2019)."""

    shared: bool = True


# --- Transformer --------------------------------------------------------------------------------

BLOCK_EPSILON = 1e-6
HEAD_EPSILON = 1e-5


def _norm(epsilon, dtype, name):
    # The fast variance loses half the digits; torch does not use it.
    return nn.LayerNorm(
        epsilon, dtype, use_fast_variance=False, scale_init=ones, bias_init=zeros, name=name
    )


class Block(nn.Module):
    """Pre-norm self-attention and MLP (ratio 2, exact GELU)."""

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, N, C) to (B, N, C)."""
        batch, tokens, channels = x.shape
        qkv = dense(_norm(BLOCK_EPSILON, x.dtype, "norm1")(x), 3 * channels, "qkv")
        qkv = qkv.reshape(batch, tokens, 3, self.heads, channels // self.heads)
        query, key, value = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        y = nn.dot_product_attention(query, key, value).reshape(batch, tokens, channels)
        x = x + dense(y, channels, "proj")
        y = dense(_norm(BLOCK_EPSILON, x.dtype, "norm2")(x), 2 * channels, "mlp1")
        return x + dense(nn.gelu(y, approximate=False), channels, "mlp2")


class Transformer(nn.Module):
    """Learnt positions, blocks each followed by one shared LayerNorm, and a linear head.

    Attributes:
      config: its `transformer_blocks` (0 leaves only the head), `transformer_heads` and
        `plane_width`.
    """

    config: ModelConfig

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """(B, N, joint_width) to (B, N, plane_width)."""
        if self.config.transformer_blocks:
            x = x + self.param("positions", zeros, (1, *x.shape[1:])).astype(x.dtype)
            norm = _norm(BLOCK_EPSILON, x.dtype, "norm")
            for block in range(self.config.transformer_blocks):
                x = norm(Block(self.config.transformer_heads, name=f"block{block}")(x))
        x = _norm(HEAD_EPSILON, x.dtype, "head_norm")(x)
        return dense(x, self.config.plane_width, "head")


# --- Regression ---------------------------------------------------------------------------------


class Regression(nn.Module):
    """New parameters and offset (not corrections) from the joints' features and the last ones."""

    @nn.compact
    def __call__(self, features: jax.Array, previous: Stage) -> tuple[jax.Array, jax.Array]:
        """(B, 2, 21, C) to params (B, 2, 64) and offset (B, 3)."""
        batch = features.shape[0]
        flat = features.reshape(batch, HANDS, -1)
        last = previous.params.astype(flat.dtype), previous.offset.astype(flat.dtype)
        params = HandDense(PARAMETERS, name="params")(jnp.concatenate([flat, last[0]], -1))
        both = jnp.concatenate([flat.reshape(batch, -1), last[1]], -1)
        return params, dense(both, 3, "offset")


# --- From a hand's 64 numbers to its mesh and the mesh's image -----------------------------------


def project_weak_perspective(xyz: jax.Array, params: jax.Array) -> jax.Array:
    """uv = s * xy + t.

    Args:
      xyz: (..., N, 3) metres.
      params: (..., 64).

    Returns:
      (..., N, 2) in [-1, 1] over the crop.
    """
    scale = params[..., CAMERA_SCALE, None, None]
    return scale * xyz[..., :2] + params[..., None, CAMERA_TRANSLATION]


def decode(hands: HandPair, params: jax.Array, offset: jax.Array, config: ModelConfig) -> Stage:
    """Meshes, joints and their projections of both hands.

    Computed in float32 at least, whatever the network's arithmetic.

    Args:
      hands: the hand models.
      params: (B, 2, 64).
      offset: (B, 3) in units of 0.15 m.
      config: its root joint, tips and rotations.
    """
    params = params.astype(jnp.promote_types(params.dtype, jnp.float32))
    offset = offset.astype(params.dtype)

    def one_side(hand, tip_vertices, params):  # params (B, 64)
        coefficients = params[..., POSE]
        return pose_hand(
            hand,
            matrix_from_6d_robust(params[..., ROTATION]),
            pca_to_axis_angle(hand, coefficients),
            params[..., BETAS],
            root_joint=config.root_joint,
            tips=tip_vertices,
            rotations=config.rotations,
        )

    both = jax.vmap(one_side, in_axes=(0, 0, 1), out_axes=1)
    mesh = both(hands.stacked(), tip_indices("both", config.tips), params)
    return Stage(
        params=params,
        offset=offset,
        joints_xyz=mesh.joints,
        vertices_xyz=mesh.vertices,
        joints_uv=project_weak_perspective(mesh.joints, params),
        vertices_uv=project_weak_perspective(mesh.vertices, params),
    )
