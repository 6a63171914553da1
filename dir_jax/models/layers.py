"""Layers with PyTorch's conventions: padding, batch statistics, initial values.

Hands are axis 1 (left, right) wherever a tensor has a hand axis, so a layer whose weights differ
per hand simply has a leading axis of 2 in its parameters. Every layer computes in its input's type:
the network casts the images once, and float32 parameters follow (docs/variants.md).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct

HANDS = 2

# --- The devices that share a batch -------------------------------------------------------------

AXIS = "batch"
"""Name of the mapped axis (`jax.pmap`, `jax.vmap`) over which a batch is spread."""


def device_count() -> int:
    """How many devices share the batch: the mapped axis' size; 1 where none is mapped.

    In a program for the whole batch (one device, or `jit` over sharded arrays) none is.
    """
    try:
        return jax.lax.axis_size(AXIS)
    except NameError:  # JAX's own for an axis that is not mapped here
        return 1


def across_devices(x: Any, reduce: Callable[[Any, str], Any] = jax.lax.pmean) -> Any:
    """The mean (or `reduce`, another collective) over the devices that share the batch.

    Args:
      x: a tree of arrays.
      reduce: `jax.lax.pmax`, ...

    Returns:
      The tree; as it came where no axis is mapped.
    """
    return x if device_count() == 1 else reduce(x, AXIS)


# --- Initial values -----------------------------------------------------------------------------


class Drawn(struct.PyTreeNode, nn.meta.AxisMetadata):
    """An initial value that knows its distribution, as Flax's boxes carry a partitioning.

    Compiling hundreds of small random draws takes half a minute for the full network; numpy needs
    a second. So `dir_jax.models.network.initial_variables` runs the network for its shapes only,
    finds these boxes, and draws what they say.

    Attributes:
      value: the array (or its shape).
      kind: "normal", "uniform" (in -size to size) or "constant".
      size: the standard deviation, the bound or the value.
    """

    value: Any
    kind: str = struct.field(pytree_node=False)
    size: float = struct.field(pytree_node=False)

    def draw(self, generator: np.random.Generator) -> np.ndarray:
        """The value by numpy."""
        if self.kind == "normal":
            values = generator.standard_normal(self.value.shape, np.float32) * np.float32(self.size)
        elif self.kind == "uniform":
            values = 2 * generator.random(self.value.shape, np.float32) - 1
            values *= np.float32(self.size)
        else:
            values = np.full(self.value.shape, self.size)
        return np.asarray(values, self.value.dtype)

    def unbox(self) -> Any:
        """The array alone."""
        return self.value

    def replace_boxed(self, value: Any) -> Drawn:
        """Another array in this box."""
        return self.replace(value=value)

    def add_axis(self, index: int, params: Any) -> Drawn:
        """As Flax's transformations ask; the distribution has no axes."""
        return self

    remove_axis = add_axis


def _initialiser(kind: str, size: float):
    """A Flax initialiser, `(key, shape, dtype)`, whose values are boxed as `Drawn`."""

    def initialise(key: jax.Array | None, shape: Any, dtype: Any = jnp.float_) -> Drawn:
        dtype = jax.dtypes.canonicalize_dtype(dtype)  # float64 only where that is switched on
        if kind == "normal":
            values = size * jax.random.normal(key, shape, dtype)
        elif kind == "uniform":
            values = jax.random.uniform(key, shape, dtype, -size, size)
        else:
            values = jnp.full(shape, size, dtype)
        return Drawn(values, kind, size)

    return initialise


normal = functools.partial(_initialiser, "normal")
uniform = functools.partial(_initialiser, "uniform")
zeros, ones = _initialiser("constant", 0.0), _initialiser("constant", 1.0)

linear_normal = normal(0.001)
"""The released code's linear layers."""


def torch_uniform(fan_in: int):
    """PyTorch's default initial values, uniform in +-1/sqrt(fan_in)."""
    return uniform(1 / math.sqrt(fan_in))


def convolution_normal(kernel_size: int, features: int):
    """The released code's convolutions: normal with variance 2 / (k * k * outputs)."""
    return normal(math.sqrt(2 / (kernel_size**2 * features)))


# --- Normalisation ------------------------------------------------------------------------------


class BatchNorm(nn.Module):
    """Batch normalisation as in PyTorch.

    Normalises with the biased variance of the batch, over all devices that share it, and keeps the
    unbiased one in the running statistics. Statistics are computed and kept in float32 at least.

    Attributes:
      hands: None: an ordinary layer. "separate": axis 1 holds the hands, each with its own scale,
        bias and statistics. "shared": one scale and bias; in training each hand is normalised by
        its own batch statistics and the running ones see the left hand first, then the right.
      momentum: weight of the old running statistic.
      epsilon: added to the variance.
    """

    hands: str | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Normalises x (B, ..., C), or (B, 2, ..., C) when `hands` is set."""
        shape = (HANDS, x.shape[-1]) if self.hands == "separate" else (x.shape[-1],)
        scale = self.param("scale", ones, shape)
        bias = self.param("bias", zeros, shape)
        mean = self.variable("batch_stats", "mean", zeros, None, shape)
        var = self.variable("batch_stats", "var", ones, None, shape)
        if train:
            batch_mean, batch_var, count = self._batch_statistics(x)
            if not self.is_initializing():
                unbiased = batch_var * (count / max(count - 1, 1))
                mean.value = self._updated(mean.value, batch_mean)
                var.value = self._updated(var.value, unbiased)
        else:
            batch_mean, batch_var = mean.value, var.value
        factor = scale * jax.lax.rsqrt(batch_var + self.epsilon)
        bias = jnp.broadcast_to(bias, factor.shape)
        return (_normalise_again if train else _normalise)(x, batch_mean, factor, bias)

    def _batch_statistics(self, x):
        kept = (1, x.ndim - 1) if self.hands else (x.ndim - 1,)
        axes = tuple(a for a in range(x.ndim) if a not in kept)
        count = math.prod(x.shape[a] for a in axes) * device_count()
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        mean = across_devices(x.mean(axes))
        return mean, across_devices(_variance(x, mean, axes)), count

    def _updated(self, running, batch):
        batches = batch if self.hands == "shared" else [batch]
        for value in batches:
            running = self.momentum * running + (1 - self.momentum) * value
        return running


def _normalise(x, mean, factor, bias):
    """x (B, ..., C) by values (C,), or x (B, 2, ..., C) by values (2, C)."""
    expand = (slice(None),) + (None,) * (x.ndim - 3)
    mean, factor, bias = (v[expand] if v.ndim == 2 else v for v in (mean, factor, bias))
    if x.dtype == jnp.bfloat16:
        return (x * factor + (bias - mean * factor)).astype(x.dtype)
    # Subtracting first loses no digits where the mean is large.
    return (x - mean) * factor + bias


# Differentiated as they stand, these two would keep x - mean beside x until the backward pass: a
# third of all activations, cheaper to subtract again.
_normalise_again = jax.checkpoint(_normalise)


@functools.partial(jax.checkpoint, static_argnums=2)
def _variance(x, mean, axes):
    return jnp.square(x - jnp.expand_dims(mean, axes)).mean(axes)


# --- Linear layers ------------------------------------------------------------------------------


def dense(x: jax.Array, features: int, name: str, kernel_init: Any = linear_normal) -> jax.Array:
    """A linear layer (..., C) to (..., features), in x's type, within a compact module."""
    bias_init = torch_uniform(x.shape[-1])
    return nn.Dense(
        features, dtype=x.dtype, kernel_init=kernel_init, bias_init=bias_init, name=name
    )(x)


class HandDense(nn.Module):
    """Linear layer with its own weights per hand: (B, 2, ..., C) to (B, 2, ..., features)."""

    features: int
    kernel_init: Any = linear_normal

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies kernel (2, C, features) and bias (2, features)."""
        channels = x.shape[-1]
        kernel = self.param("kernel", self.kernel_init, (HANDS, channels, self.features))
        bias = self.param("bias", torch_uniform(channels), (HANDS, self.features))
        kernel, bias = kernel.astype(x.dtype), bias.astype(x.dtype)
        y = jnp.einsum("bh...c,hcd->bh...d", x, kernel)
        return y + bias[(slice(None),) + (None,) * (x.ndim - 3)]


class PointMap(nn.Module):
    """Two-layer map of joints' vectors: linear, BatchNorm, ReLU, linear.

    Attributes:
      features: width of both layers.
      hands: "separate" weights per hand, or "shared" by the hands.
    """

    features: int
    hands: str

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """(B, 2, J, C) to (B, 2, J, features)."""
        x = self._linear(x, "linear1")
        x = nn.relu(BatchNorm(self.hands, name="norm")(x, train))
        return self._linear(x, "linear2")

    def _linear(self, x, name):
        init = torch_uniform(x.shape[-1])
        if self.hands == "separate":
            return HandDense(self.features, init, name=name)(x)
        return dense(x, self.features, name, init)


# --- Convolutions of (B, H, W, C) maps ----------------------------------------------------------


def enlarge(x: jax.Array) -> jax.Array:
    """Doubles (B, H, W, C) maps bilinearly, half-pixel centres, edges repeated.

    `jax.image.resize` says the same with matrix products; sums of neighbours are fewer operations.
    """
    for axis in (1, 2):
        size = x.shape[axis]
        first, last = (jax.lax.slice_in_dim(x, i, i + 1, axis=axis) for i in (0, size - 1))
        inner = jax.lax.slice_in_dim(x, 0, size - 1, axis=axis)
        before = jnp.concatenate([first, inner], axis)
        inner = jax.lax.slice_in_dim(x, 1, size, axis=axis)
        after = jnp.concatenate([inner, last], axis)
        pairs = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
        x = pairs.reshape(*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])
    return x


def multiply_rows(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """(..., C) times (C, features).

    As a product of two matrices: the kernel's gradient is then one too. Written with more axes,
    XLA transposes the maps for it in memory, which on a CPU takes longer than the product.
    """
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], -1)


class Pointwise(nn.Module):
    """A 1x1 convolution as a matrix product: faster on CPUs and the same on GPUs.

    Attributes:
      features: channels of the result.
      use_bias: whether a bias (features,) is added.
    """

    features: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, coarse: jax.Array | None = None) -> jax.Array:
        """Multiplies every pixel by the kernel (C, features).

        Args:
          x: (B, H, W, C).
          coarse: (B, H / 2, W / 2, c), maps that come before x's, once enlarged: the kernel has
            c + C rows. Enlarging after the product is the same sum at a quarter of the work.

        Returns:
          (B, H, W, features).
        """
        skipped = 0 if coarse is None else coarse.shape[-1]
        channels = skipped + x.shape[-1]
        kernel_init = convolution_normal(1, self.features)
        kernel = self.param("kernel", kernel_init, (channels, self.features)).astype(x.dtype)
        y = multiply_rows(x, kernel[skipped:])
        if coarse is not None:
            y = y + enlarge(multiply_rows(coarse, kernel[:skipped]))
        if not self.use_bias:
            return y
        bias = self.param("bias", torch_uniform(channels), (self.features,))
        return y + bias.astype(x.dtype)


def _neighbours(x, size, strides, padding):
    """The pixels of (B, H, W, C) under each weight of a (size, size) kernel, row by row."""
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    height, width = ((padded.shape[i + 1] - size) // strides[i] + 1 for i in (0, 1))

    def shifted(dy, dx):
        rows = slice(dy, dy + strides[0] * (height - 1) + 1, strides[0])
        columns = slice(dx, dx + strides[1] * (width - 1) + 1, strides[1])
        return padded[:, rows, columns]

    return [shifted(dy, dx) for dy in range(size) for dx in range(size)]


def convolve_patches(x, kernel, strides, padding, **unused) -> jax.Array:
    """A convolution as one matrix product of the pixels' neighbourhoods.

    Where filters outnumber pixels, the kernel is most of the data: the CPU's convolution first
    rearranges it (151 MB for the attention maps), the product reads it once as it lies.

    Args:
      x: (B, H, W, C).
      kernel: (k, k, C, features).
      strides: two.
      padding: ((before, after), (before, after)).
      **unused: what else `jax.lax.conv_general_dilated` takes, all as for a plain convolution.
    """
    patches = jnp.concatenate(_neighbours(x, kernel.shape[0], strides, padding), -1)
    return multiply_rows(patches, kernel.reshape(-1, kernel.shape[-1]))


LARGE_MAPS = 1024, 3 * 2**18
"""Pixels of one image's map and values of all of them from which `convolve` takes the gradient of
a 3x3 kernel image by image."""


def convolve(x, kernel, strides, padding, **unused) -> jax.Array:
    """The plain convolution, whose kernel's gradient a CPU takes image by image if maps are large.

    XLA writes that gradient as a convolution with a kernel as large as the map. Once the maps
    outgrow a CPU's cache, sums of matrix products image by image take less than half the time: a
    third of a small network's step, and less memory (docs/performance.md).

    Args:
      x: (B, H, W, C).
      kernel: (k, k, C, features).
      strides: two.
      padding: ((before, after), (before, after)).
      **unused: what else `jax.lax.conv_general_dilated` takes, all as for a plain convolution.
    """
    return _convolve(x, kernel, tuple(strides), tuple(padding))


def _plain(x, kernel, strides, padding):
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=layout)


_convolve = jax.custom_vjp(_plain, nondiff_argnums=(2, 3))


def _convolve_backward(strides, padding, saved, gradient):
    def by_convolution(x, kernel, gradient):
        return jax.vjp(lambda kernel: _plain(x, kernel, strides, padding), kernel)[1](gradient)[0]

    def by_image(x, kernel, gradient):
        def add(total, image):
            x, rows = image[0][None], image[1].reshape(-1, kernel.shape[-1])
            products = [
                pixels.reshape(-1, pixels.shape[-1]).T @ rows
                for pixels in _neighbours(x, kernel.shape[0], strides, padding)
            ]
            return total + jnp.stack(products).reshape(kernel.shape), None

        return jax.lax.scan(add, jnp.zeros_like(kernel), (x, gradient))[0]

    x, kernel = saved
    pixels, values = math.prod(gradient.shape[1:3]), x.size
    large = kernel.shape[0] == 3 and pixels >= LARGE_MAPS[0] and values >= LARGE_MAPS[1]
    (of_x,) = jax.vjp(lambda x: _plain(x, kernel, strides, padding), x)[1](gradient)
    of_kernel = jax.lax.platform_dependent(
        *(x, kernel, gradient), cpu=by_image if large else by_convolution, default=by_convolution
    )
    return of_x, of_kernel


_convolve.defvjp(lambda x, kernel, *how: (_plain(x, kernel, *how), (x, kernel)), _convolve_backward)


class Conv(nn.Module):
    """Convolution of (B, H, W, C) maps with PyTorch's symmetric padding.

    A 1x1 convolution is a matrix product here (`Pointwise`). Larger kernels are
    (k, k, C, features).
    """

    features: int
    kernel_size: int = 1
    stride: int = 1
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, H, W, C) to (B, H / stride, W / stride, features)."""
        k, channels = self.kernel_size, x.shape[-1]
        if k == 1:
            x = x[:, :: self.stride, :: self.stride]
            return Pointwise(self.features, self.use_bias, name="dense")(x)
        pixels = math.prod(-(-side // self.stride) for side in x.shape[1:3])
        return nn.Conv(
            self.features,
            (k, k),
            strides=self.stride,
            padding=[(k // 2, k // 2)] * 2,
            use_bias=self.use_bias,
            dtype=x.dtype,
            kernel_init=convolution_normal(k, self.features),
            bias_init=torch_uniform(k * k * channels),
            conv_general_dilated=convolve_patches if self.features > pixels else convolve,
            name="conv",
        )(x)


class ConvNorm(nn.Module):
    """3x3 convolution, BatchNorm, ReLU, 1x1 convolution: what makes maps of maps.

    Attributes:
      inner: channels between the two convolutions.
      features: channels of the result.
      use_bias: of the first convolution.
    """

    inner: int
    features: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """(B, S, S, C) to (B, S, S, features)."""
        x = Conv(self.inner, 3, use_bias=self.use_bias, name="conv1")(x)
        x = nn.relu(BatchNorm(name="norm")(x, train))
        return Conv(self.features, name="conv2")(x)


class Residual(nn.Module):
    """Pre-activation bottleneck with half width inside (docs/method.md, "Joint features").

    BN-ReLU-1x1, BN-ReLU-3x3, BN-ReLU-1x1, added to the input or, where widths differ, to a 1x1
    convolution of it.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, coarse: jax.Array | None = None) -> jax.Array:
        """(B, H, W, C) to (B, H, W, features).

        `coarse` (B, H / 2, W / 2, c), if known, is what x's first c channels were enlarged from;
        it only saves work.
        """
        skip = x
        if x.shape[-1] != self.features:
            fine = x if coarse is None else x[..., coarse.shape[-1] :]
            skip = Pointwise(self.features, name="skip")(fine, coarse)
        widths = [(self.features // 2, 1), (self.features // 2, 3), (self.features, 1)]
        for index, (width, kernel_size) in enumerate(widths, 1):
            x = nn.relu(BatchNorm(name=f"norm{index}")(x, train))
            x = Conv(width, kernel_size, name=f"conv{index}")(x)
        return x + skip
