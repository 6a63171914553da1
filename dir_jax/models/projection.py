"""Between image and joints: reading the maps at the joints, and drawing joints' features on them.

Reading (docs/method.md, "Joint features") is bilinear, with half-pixel centres and zeros outside
the map. Each function takes maps (B, S, S, C) and points uv (B, N, 2) in [-1, 1], where -1 and 1
are the map's outer edges, and gives (B, N, C), the same values. The points come without gradient.

Drawing is the multi-plane feature projection (MFP; docs/method.md, "Projection to the image";
paper, section 3.3). Every item (a joint or a bone of
either hand) gets a plane of its own, so that nothing mixes, and a 3x3 convolution reads all planes
at once. A plane is an outer product: a map of weights (which pixels, how much) times a feature
vector. So

    convolution(planes)[p] = sum over offsets o, items i of  weights[p + o, i] * (K[o, i]^T f[i])

and the vectors can be multiplied by the kernel first ("factored"): the planes never exist and the
arithmetic shrinks about thirty times. The direct forms build the planes and convolve.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from dir_jax.models.config import ModelConfig
from dir_jax.models.layers import BatchNorm, Conv, convolution_normal, torch_uniform
from mano_jax.constants import BONES

# --- Reading ------------------------------------------------------------------------------------


def _positions(uv: jax.Array, size: int) -> jax.Array:
    """uv in [-1, 1] to pixel indices; the centre of pixel i is at i."""
    return (uv + 1) / 2 * size - 0.5


def sample_gather(features: jax.Array, uv: jax.Array) -> jax.Array:
    """Gathers each point's four neighbours: the fewest operations, and what GPUs do well."""
    batch, size, _, channels = features.shape
    position = _positions(uv, size)
    corner = jnp.floor(position)
    fraction = position - corner
    flat = features.reshape(batch, size * size, channels)
    total = jnp.zeros((*uv.shape[:-1], channels), features.dtype)
    for dy in (0, 1):
        for dx in (0, 1):
            x, y = corner[..., 0] + dx, corner[..., 1] + dy
            inside = (x >= 0) & (x < size) & (y >= 0) & (y < size)
            index = jnp.clip(y, 0, size - 1) * size + jnp.clip(x, 0, size - 1)
            values = jnp.take_along_axis(flat, index.astype(jnp.int32)[..., None], axis=1)
            weight_x = fraction[..., 0] if dx else 1 - fraction[..., 0]
            weight_y = fraction[..., 1] if dy else 1 - fraction[..., 1]
            weight = jnp.where(inside, weight_x * weight_y, 0).astype(features.dtype)
            total = total + values * weight[..., None]
    return total


def sample_onehot_matmul(features: jax.Array, uv: jax.Array) -> jax.Array:
    """Two matrix products with hat-shaped rows: no indexed memory access at all."""
    size = features.shape[1]
    distance = _positions(uv, size)[..., None] - jnp.arange(size, dtype=uv.dtype)
    hats = jnp.maximum(0, 1 - jnp.abs(distance)).astype(features.dtype)  # (B, N, 2, S)
    rows = jnp.einsum("bny,byxc->bnxc", hats[:, :, 1], features)
    return jnp.einsum("bnx,bnxc->bnc", hats[:, :, 0], rows)


def sample_map_coordinates(features: jax.Array, uv: jax.Array) -> jax.Array:
    """`jax.scipy.ndimage.map_coordinates` over every channel: the library's own form."""
    position = _positions(uv, features.shape[1]).astype(features.dtype)

    def one_channel(image, points):  # (S, S), (N, 2)
        coordinates = [points[:, 1], points[:, 0]]
        return jax.scipy.ndimage.map_coordinates(image, coordinates, order=1, mode="constant")

    over_channels = jax.vmap(one_channel, in_axes=(2, None), out_axes=1)
    return jax.vmap(over_channels)(features, position)


# --- Drawing ------------------------------------------------------------------------------------

KERNEL = 3
PAIRWISE_EPSILON = 1e-6
"""PyTorch's pairwise_distance adds this to every coordinate difference."""


def pixel_centres(size: int, dtype=jnp.float32) -> jax.Array:
    """(S, S, 2) xy positions of the pixel centres, in pixels."""
    line = jnp.arange(size, dtype=dtype) + 0.5
    x, y = jnp.meshgrid(line, line)
    return jnp.stack([x, y], -1)


def joint_weights(joints_uv: jax.Array, size: int) -> jax.Array:
    """One-hot maps: 1 in the pixel a joint falls into, all zero for a joint outside the map.

    Args:
      joints_uv: (B, J, 2) in [-1, 1].
      size: side of the map, pixels.

    Returns:
      (B, S, S, J), without gradient.
    """
    position = (jax.lax.stop_gradient(joints_uv) + 1) / 2 * size
    cells = jnp.arange(size, dtype=position.dtype)
    hits = (jnp.floor(position)[..., None] == cells).astype(joints_uv.dtype)  # (B, J, 2, S)
    return jnp.einsum("bjx,bjy->byxj", hits[:, :, 0], hits[:, :, 1])


def heatmap_weights(joints_uv: jax.Array, size: int, sigma: float) -> jax.Array:
    """Gaussian heat-maps (MHP), 1 at the joint: (B, J, 2) to (B, S, S, J)."""
    position = (joints_uv + 1) / 2 * size
    line = jnp.arange(size, dtype=position.dtype) + 0.5
    bell = jnp.exp(-jnp.square((line - position[..., None]) / sigma) / 2)
    return jnp.einsum("bjx,bjy->byxj", bell[:, :, 0], bell[:, :, 1])


def _segment_distance(points, start, end):
    """Distance of points to segments; all (..., 2), broadcast. Without gradient."""
    along = end - start
    length = jnp.hypot(along[..., 0], along[..., 1])[..., None]
    along = along / jnp.where(length > 0, length, 1)
    before = jnp.sum((start - points) * along, -1)
    behind = jnp.sum((points - end) * along, -1)
    outside = jnp.maximum(jnp.maximum(before, behind), 0)
    offset = points - start
    beside = offset[..., 0] * along[..., 1] - offset[..., 1] * along[..., 0]
    return jnp.hypot(outside, beside)


def bone_weights(joints_uv: jax.Array, size: int, reach: float) -> jax.Array:
    """How much each bone's two ends contribute to each pixel (released code).

    A pixel nearer than `reach` to the bone's segment takes 1 - |p-a| / (|p-a| + |p-b|) of the
    feature at end a and likewise of b. Gradients flow through these weights, not through the
    choice of pixels.

    Args:
      joints_uv: (B, 2, 21, 2) in [-1, 1].
      size: side of the map, pixels.
      reach: pixels.

    Returns:
      (B, S, S, 40, 2): 20 bones of the left hand, then of the right; ends parent, child.
    """
    batch = joints_uv.shape[0]
    position = (joints_uv + 1) / 2 * size
    ends = position[:, :, jnp.asarray(BONES)].reshape(batch, 1, 1, -1, 2, 2)
    points = pixel_centres(size, position.dtype)[None, :, :, None]
    fixed = jax.lax.stop_gradient(ends)
    near = _segment_distance(points, fixed[..., 0, :], fixed[..., 1, :]) < reach
    difference = points[..., None, :] - ends + PAIRWISE_EPSILON
    distance = jnp.sqrt(jnp.sum(jnp.square(difference), -1))
    share = 1 - distance / distance.sum(-1, keepdims=True)
    return jnp.where(near[..., None], share, 0)


def _patches(weights: jax.Array) -> jax.Array:
    """(B, S, S, K) to (B, S, S, 9, K): each pixel's 3x3 neighbourhood, zeros outside."""
    size = weights.shape[1]
    padded = jnp.pad(weights, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifts = [
        padded[:, dy : dy + size, dx : dx + size] for dy in range(KERNEL) for dx in range(KERNEL)
    ]
    return jnp.stack(shifts, 3)


def convolve_factored(weights: jax.Array, features: jax.Array, kernel: jax.Array) -> jax.Array:
    """The convolution over planes weights * features, planes never built.

    Args:
      weights: (B, S, S, N, E) weight maps of N planes, each the sum of E products.
      features: (B, N, E, C).
      kernel: (3, 3, N * C, D).

    Returns:
      (B, S, S, D), without bias.
    """
    batch, size = weights.shape[:2]
    planes, ends, channels = features.shape[1:]
    by_plane = kernel.reshape(KERNEL**2, planes, channels, -1)
    # (9, N, B E, D): what each vector adds to the pixels around it. A product for each offset and
    # plane, because the kernel (24 MB) lies in that order and would else be rearranged every time.
    vectors = features.swapaxes(0, 1).reshape(planes, batch * ends, channels)
    spread = jnp.broadcast_to(vectors, (KERNEL**2, *vectors.shape)) @ by_plane
    spread = spread.reshape(KERNEL**2, planes, batch, ends, -1).transpose(2, 0, 1, 3, 4)
    patches = _patches(weights.reshape(batch, size, size, planes * ends))
    rows = KERNEL**2 * planes * ends
    return jnp.einsum(
        "bpk,bkd->bpd",
        patches.reshape(batch, size * size, rows),
        spread.reshape(batch, rows, -1),
    ).reshape(batch, size, size, -1)


def planes_onehot(weights: jax.Array, features: jax.Array) -> jax.Array:
    """The planes themselves, (B, S, S, N * C), by products with the weight maps."""
    planes = jnp.einsum("byxne,bnec->byxnc", weights, features)
    return planes.reshape(*planes.shape[:3], -1)


def planes_scatter(joints_uv: jax.Array, features: jax.Array, size: int) -> jax.Array:
    """The planes of joints, (B, S, S, J * C), by scatter-add; joints outside are dropped."""
    batch, joints, channels = features.shape
    position = (jax.lax.stop_gradient(joints_uv) + 1) / 2 * size
    inside = jnp.all((position >= 0) & (position < size), -1)
    cell = jnp.where(inside[..., None], jnp.floor(position), size).astype(jnp.int32)
    rows, items = jnp.arange(batch)[:, None], jnp.arange(joints)[None]
    planes = jnp.zeros((batch, size, size, joints, channels), features.dtype)
    planes = planes.at[rows, cell[..., 1], cell[..., 0], items].add(features, mode="drop")
    return planes.reshape(batch, size, size, -1)


def convolve_planes(planes: jax.Array, kernel: jax.Array) -> jax.Array:
    """The plain 3x3 convolution (B, S, S, D) of planes (B, S, S, N * C), without bias."""
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        planes, kernel, (1, 1), [(1, 1), (1, 1)], dimension_numbers=layout
    )


class _Kernel(nn.Module):
    """The 3x3 convolution's parameters, applied by whichever form is chosen."""

    features: int

    @nn.compact
    def __call__(self, channels: int, dtype) -> tuple[jax.Array, jax.Array]:
        shape = (KERNEL, KERNEL, channels, self.features)
        kernel = self.param("kernel", convolution_normal(KERNEL, self.features), shape)
        bias = self.param("bias", torch_uniform(KERNEL**2 * channels), (self.features,))
        return kernel.astype(dtype), bias.astype(dtype)


class FactoredProjection(nn.Module):
    """Planes, 3x3 convolution, BatchNorm, ReLU, 1x1 convolution; the planes are never built.

    Attributes:
      config: its `planes` (all but "none") and `feature_width`.
      reach: pixels, this stage's `bone_distance`.
    """

    config: ModelConfig
    reach: float

    @nn.compact
    def __call__(self, joints_uv: jax.Array, vectors: jax.Array, size: int, train: bool):
        """Joints' features on the image plane.

        Args:
          joints_uv: (B, 2, 21, 2) in [-1, 1].
          vectors: (B, 2, 21, C).
          size: side S of the map.
          train: whether BatchNorm uses batch statistics.

        Returns:
          (B, S, S, feature_width).
        """
        features, dtype = self.config.feature_width, vectors.dtype
        weights, items = self._weights_and_vectors(joints_uv, vectors, size)
        weights, items = weights.astype(dtype), items.astype(dtype)
        channels = items.shape[1] * items.shape[3]
        kernel, bias = _Kernel(features, name="conv1")(channels, dtype)
        x = self.convolve(weights, items, kernel, joints_uv) + bias
        x = nn.relu(BatchNorm(name="norm")(x, train))
        return Conv(features, name="conv2")(x)

    def _weights_and_vectors(self, joints_uv, vectors, size):
        """Weight maps (B, S, S, N, E) and vectors (B, N, E, C)."""
        batch, planes = joints_uv.shape[0], self.config.planes
        if planes == "bone":
            weights = bone_weights(joints_uv, size, self.reach)
            ends = vectors[:, :, jnp.asarray(BONES)]  # (B, 2, 20, 2, C)
            return weights, ends.reshape(batch, -1, *ends.shape[3:])
        joints_uv = joints_uv.reshape(batch, -1, 2)
        vectors = vectors.reshape(batch, joints_uv.shape[1], 1, -1)
        if planes == "heatmap":
            weights = heatmap_weights(joints_uv, size, self.reach)
            return weights[..., None], jnp.ones_like(vectors[..., :1])
        weights = joint_weights(joints_uv, size)
        if planes == "sum":  # one plane, the sum of all joints' products
            return weights[:, :, :, None], vectors.swapaxes(1, 2)
        return weights[..., None], vectors

    def convolve(self, weights, vectors, kernel, joints_uv):
        """The 3x3 convolution of the planes, (B, S, S, feature_width), without bias."""
        return convolve_factored(weights, vectors, kernel)


class OnehotProjection(FactoredProjection):
    """The same; the planes are built by products with the weight maps."""

    def convolve(self, weights, vectors, kernel, joints_uv):
        """As `FactoredProjection.convolve`."""
        return convolve_planes(planes_onehot(weights, vectors), kernel)


class ScatterProjection(FactoredProjection):
    """The same for planes of single pixels ("joint", "sum"), which are built by scatter-add."""

    def convolve(self, weights, vectors, kernel, joints_uv):
        """As `FactoredProjection.convolve`."""
        batch, channels = vectors.shape[0], vectors.shape[3]
        joints_uv = joints_uv.reshape(batch, -1, 2)
        items = vectors.reshape(batch, -1, channels)
        planes = planes_scatter(joints_uv, items, weights.shape[1])
        if self.config.planes == "sum":
            planes = planes.reshape(*planes.shape[:3], -1, channels).sum(3)
        return convolve_planes(planes, kernel)
