"""Enlarging, and 1x1 convolutions that run before it."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from flax.core.meta import unbox

from dir_jax.models.layers import Conv, Pointwise, Residual, convolve_patches, enlarge


def _maps(size, channels, seed=0):
    return np.random.default_rng(seed).normal(size=(2, size, size, channels)).astype(np.float32)


def test_enlarging_equals_jax_image():
    x = _maps(6, 5)
    wanted = jax.image.resize(x, (2, 12, 12, 5), "bilinear", antialias=False)
    np.testing.assert_allclose(enlarge(x), wanted, atol=1e-6)


def test_a_1x1_convolution_is_a_product_of_every_pixel():
    x = _maps(4, 3)
    layer = Conv(7, stride=2)
    variables = unbox(layer.init(jax.random.key(0), x))
    dense = variables["params"]["dense"]
    wanted = np.einsum("byxc,cd->byxd", x[:, ::2, ::2], dense["kernel"]) + dense["bias"]
    np.testing.assert_allclose(layer.apply(variables, x), wanted, atol=1e-5)


@pytest.mark.parametrize("use_bias", [True, False])
def test_multiplying_before_enlarging_is_the_same(use_bias):
    coarse, fine = _maps(4, 6), _maps(8, 5, 1)
    both = np.concatenate([enlarge(coarse), fine], -1)
    layer = Pointwise(7, use_bias)
    variables = unbox(layer.init(jax.random.key(0), both))
    same = jax.tree.map(lambda a, b: bool((a == b).all()), variables,
                        unbox(layer.init(jax.random.key(0), fine, coarse)))  # fmt: skip
    assert all(jax.tree.leaves(same))
    np.testing.assert_allclose(
        layer.apply(variables, fine, coarse), layer.apply(variables, both), atol=1e-5
    )


def test_a_bottleneck_takes_what_its_input_was_enlarged_from():
    coarse, fine = _maps(4, 6), _maps(8, 5, 1)
    both = np.concatenate([enlarge(coarse), fine], -1)
    layer: nn.Module = Residual(8)
    variables = unbox(jax.jit(layer.init, static_argnums=2)(jax.random.key(0), both, False))

    def loss(coarse, fine, known):
        both = jax.numpy.concatenate([enlarge(coarse), fine], -1)
        result = layer.apply(variables, both, False, coarse if known else None)
        return (result**2).sum(), result

    gradient = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True), static_argnums=2)
    (_, wanted), wanted_slopes = gradient(coarse, fine, False)
    (_, found), slopes = gradient(coarse, fine, True)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    for slope, expected in zip(slopes, wanted_slopes, strict=True):
        np.testing.assert_allclose(slope, expected, atol=1e-4)


@pytest.mark.parametrize(("size", "stride"), [(8, 1), (9, 1), (8, 2), (9, 2)])
def test_patches_equal_the_convolution_and_its_gradients(size, stride):
    x, kernel = _maps(size, 6), _maps(3, 6 * 5).reshape(-1)[: 9 * 6 * 5].reshape(3, 3, 6, 5)
    padding = [(1, 1), (1, 1)]

    def plain(x, kernel):
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), padding, dimension_numbers=layout
        )

    def patches(x, kernel):
        return convolve_patches(x, kernel, (stride, stride), padding)

    np.testing.assert_allclose(patches(x, kernel), plain(x, kernel), atol=1e-5)
    weight = np.asarray(plain(x, kernel)) ** 2
    slopes = [jax.grad(lambda *a, f=f: (f(*a) * weight).sum(), (0, 1)) for f in (plain, patches)]
    for expected, found in zip(*(slope(x, kernel) for slope in slopes), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_a_layer_with_more_filters_than_pixels_uses_patches():
    layer = Conv(20, 3)
    for size, convolutions in ((4, 0), (8, 1)):
        x = _maps(size, 3)
        variables = unbox(layer.init(jax.random.key(0), x))
        assert variables["params"]["conv"]["kernel"].shape == (3, 3, 3, 20)
        traced = str(jax.make_jaxpr(layer.apply)(variables, x))
        assert traced.count("conv_general_dilated[") == convolutions
