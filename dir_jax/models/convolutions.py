"""Convolutions of (B, H, W, C) maps with PyTorch's padding, and the bottleneck made of them."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from dir_jax.models.layers import BatchNorm, Dtype, convolution_normal, torch_uniform


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
      dtype: arithmetic type, None to follow the input.
    """

    features: int
    use_bias: bool = True
    dtype: Dtype = None

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
        kernel = self.param("kernel", kernel_init, (channels, self.features))
        bias = None
        if self.use_bias:
            bias = self.param("bias", torch_uniform(channels), (self.features,))
        x, coarse, kernel, bias = nn.dtypes.promote_dtype(x, coarse, kernel, bias, dtype=self.dtype)
        y = multiply_rows(x, kernel[skipped:])
        if coarse is not None:
            y = y + enlarge(multiply_rows(coarse, kernel[:skipped]))
        return y if bias is None else y + bias


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
    size = kernel.shape[0]
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    height, width = ((padded.shape[i + 1] - size) // strides[i] + 1 for i in (0, 1))

    def shifted(dy, dx):
        rows = slice(dy, dy + strides[0] * (height - 1) + 1, strides[0])
        columns = slice(dx, dx + strides[1] * (width - 1) + 1, strides[1])
        return padded[:, rows, columns]

    patches = [shifted(dy, dx) for dy in range(size) for dx in range(size)]
    return multiply_rows(jnp.concatenate(patches, -1), kernel.reshape(-1, kernel.shape[-1]))


class Conv(nn.Module):
    """Convolution of (B, H, W, C) maps with PyTorch's symmetric padding.

    A 1x1 convolution is a matrix product here (`Pointwise`). Larger kernels are
    (k, k, C, features).
    """

    features: int
    kernel_size: int = 1
    stride: int = 1
    use_bias: bool = True
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, H, W, C) to (B, H / stride, W / stride, features)."""
        k, channels = self.kernel_size, x.shape[-1]
        if k == 1:
            x = x[:, :: self.stride, :: self.stride]
            return Pointwise(self.features, self.use_bias, self.dtype, name="dense")(x)
        pixels = math.prod(-(-side // self.stride) for side in x.shape[1:3])
        return nn.Conv(
            self.features,
            (k, k),
            strides=self.stride,
            padding=[(k // 2, k // 2)] * 2,
            use_bias=self.use_bias,
            dtype=self.dtype,
            kernel_init=convolution_normal(k, self.features),
            bias_init=torch_uniform(k * k * channels),
            conv_general_dilated=convolve_patches if self.features > pixels else None,
            name="conv",
        )(x)


class _Skip(nn.Module):
    """The 1x1 convolution beside a bottleneck."""

    features: int
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array, coarse: jax.Array | None) -> jax.Array:
        if coarse is not None:
            x = x[..., coarse.shape[-1] :]
        return Pointwise(self.features, dtype=self.dtype, name="dense")(x, coarse)


class Residual(nn.Module):
    """Pre-activation bottleneck with half width inside (SPEC 3).

    BN-ReLU-1x1, BN-ReLU-3x3, BN-ReLU-1x1, added to the input or, where widths differ, to a 1x1
    convolution of it.
    """

    features: int
    axis_name: str | None = None
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, coarse: jax.Array | None = None) -> jax.Array:
        """(B, H, W, C) to (B, H, W, features).

        `coarse` (B, H / 2, W / 2, c), if known, is what x's first c channels were enlarged from;
        it only saves work.
        """
        skip = x
        if x.shape[-1] != self.features:
            skip = _Skip(self.features, self.dtype, name="skip")(x, coarse)
        widths = [(self.features // 2, 1), (self.features // 2, 3), (self.features, 1)]
        for index, (width, kernel_size) in enumerate(widths, 1):
            x = nn.relu(BatchNorm(None, self.axis_name, name=f"norm{index}")(x, train))
            x = Conv(width, kernel_size, dtype=self.dtype, name=f"conv{index}")(x)
        return x + skip
