"""Layers against independent formulas, and batch statistics as PyTorch keeps them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.core.meta import unbox

from dir_jax.models import layers
from dir_jax.models.joints import GraphConvolution, neighbours
from dir_jax.models.layers import (
    AXIS,
    BatchNorm,
    Conv,
    HandDense,
    Pointwise,
    Residual,
    convolve,
    convolve_patches,
    enlarge,
)
from mano_jax.constants import BONES


def _normalised(x, axes):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)


@pytest.mark.parametrize("hands", [None, "separate", "shared"])
def test_batch_norm_statistics(hands):
    x = np.random.default_rng(0).normal(2.0, 3.0, (5, 2, 7, 4)).astype(np.float32)
    layer = BatchNorm(hands)
    variables = unbox(layer.init(jax.random.key(0), x, False))
    y, updates = layer.apply(variables, x, True, mutable=["batch_stats"])
    axes = (0, 1, 2) if hands is None else (0, 2)
    np.testing.assert_allclose(y, _normalised(x, axes), atol=1e-5)
    means = x.mean(axes)
    variances = x.var(axes, ddof=1)  # torch keeps the unbiased one
    if hands == "shared":  # the left hand first, then the right
        mean = 0.9 * (0.1 * means[0]) + 0.1 * means[1]
        var = 0.9 * (0.9 + 0.1 * variances[0]) + 0.1 * variances[1]
    else:
        mean, var = 0.1 * means, 0.9 + 0.1 * variances
    np.testing.assert_allclose(updates["batch_stats"]["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(updates["batch_stats"]["var"], var, rtol=1e-5)


def test_batch_norm_over_devices_equals_the_whole_batch():
    x = np.random.default_rng(1).normal(1.0, 2.0, (8, 3, 3, 4)).astype(np.float32)
    layer = BatchNorm()
    variables = unbox(layer.init(jax.random.key(0), x, False))
    wanted, wanted_updates = layer.apply(variables, x, True, mutable=["batch_stats"])
    found, updates = jax.vmap(
        lambda part: layer.apply(variables, part, True, mutable=["batch_stats"]),
        axis_name=AXIS,
    )(x.reshape(4, 2, 3, 3, 4))
    np.testing.assert_allclose(found.reshape(x.shape), wanted, atol=1e-5)
    for name in ("mean", "var"):
        ours = updates["batch_stats"][name]
        np.testing.assert_allclose(ours[0], ours[3])
        np.testing.assert_allclose(ours[0], wanted_updates["batch_stats"][name], rtol=1e-5)


@pytest.mark.parametrize(("kernel_size", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
def test_convolution_pads_as_torch_does(kernel_size, stride):
    x = np.random.default_rng(2).normal(size=(1, 8, 8, 2)).astype(np.float32)
    layer = Conv(3, kernel_size, stride)
    variables = unbox(layer.init(jax.random.key(0), x))
    found = np.asarray(layer.apply(variables, x))
    inner = variables["params"]["dense" if kernel_size == 1 else "conv"]
    kernel = np.asarray(inner["kernel"]).reshape(kernel_size, kernel_size, 2, 3)
    pad = kernel_size // 2
    padded = np.pad(x[0], ((pad, pad), (pad, pad), (0, 0)))
    rows = range(0, padded.shape[0] - kernel_size + 1, stride)
    wanted = [
        [
            np.einsum("yxc,yxcd->d", padded[i : i + kernel_size, j : j + kernel_size], kernel)
            for j in rows
        ]
        for i in rows
    ]
    np.testing.assert_allclose(found[0], np.array(wanted) + inner["bias"], atol=1e-5)


def test_hand_dense_gives_each_hand_its_own_weights():
    x = np.random.default_rng(3).normal(size=(4, 2, 5, 3)).astype(np.float32)
    layer = HandDense(6)
    variables = unbox(layer.init(jax.random.key(0), x))
    kernel, bias = variables["params"]["kernel"], variables["params"]["bias"]
    found = layer.apply(variables, x)
    for hand in range(2):
        wanted = x[:, hand] @ kernel[hand] + bias[hand]
        np.testing.assert_allclose(found[:, hand], wanted, atol=1e-6)


def test_neighbours_are_the_bones_both_ways():
    rows, columns = neighbours()
    pairs = set(zip(rows.tolist(), columns.tolist(), strict=True))
    assert pairs == {(a, b) for a, b in BONES} | {(b, a) for a, b in BONES}
    assert list(rows) == sorted(rows)


@pytest.mark.parametrize("shared", [False, True])
def test_graph_convolution_by_hand(shared):
    generator = np.random.default_rng(4)
    x = generator.normal(size=(3, 2, 21, 4)).astype(np.float32)
    layer = GraphConvolution(5, shared)
    variables = unbox(layer.init(jax.random.key(0), x, False))
    params = jax.tree.map(lambda a: jnp.asarray(generator.normal(size=a.shape)), dict(variables))
    params["batch_stats"] = variables["batch_stats"]
    params["params"]["norm"] = variables["params"]["norm"]
    found = np.asarray(layer.apply(params, x, False))
    p = jax.tree.map(np.asarray, params["params"])
    for hand, joint in ((0, 0), (0, 4), (1, 9), (1, 20)):
        kernel = p["kernel"][hand][:, 0] if shared else None
        near = [(a, k) for k, (a, _) in enumerate(zip(*neighbours(), strict=True)) if a == joint]
        logits = np.array([p["edges"][hand][k] for _, k in near])
        attention = np.exp(logits) / np.exp(logits).sum()
        own = kernel[0] if shared else p["kernel"][hand][0, joint]
        wanted = x[:, hand, joint] @ own + p["bias"][hand]
        for (_, k), weight in zip(near, attention, strict=True):
            other = neighbours()[1][k]
            passed = kernel[1] if shared else p["kernel"][hand][1, other]
            wanted = wanted + weight * (x[:, hand, other] @ passed)
        wanted = np.maximum(wanted / np.sqrt(1 + 1e-5), 0)
        np.testing.assert_allclose(found[:, hand, joint], wanted, rtol=1e-4, atol=1e-4)


# --- Enlarging, and 1x1 convolutions that run before it -----------------------------------------


def _maps(size, channels, seed=0):
    return np.random.default_rng(seed).normal(size=(2, size, size, channels)).astype(np.float32)


def test_enlarging_equals_jax_image():
    x = _maps(6, 5)
    wanted = jax.image.resize(x, (2, 12, 12, 5), "bilinear", antialias=False)
    np.testing.assert_allclose(enlarge(x), wanted, atol=1e-6)


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


def _plain(stride):
    layout = ("NHWC", "HWIO", "NHWC")
    return lambda x, kernel: jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), [(1, 1)] * 2, dimension_numbers=layout
    )


def _assert_same_slopes(x, kernel, stride, function, tolerance):
    plain = _plain(stride)
    np.testing.assert_allclose(function(x, kernel), plain(x, kernel), atol=1e-5)
    weight = np.asarray(plain(x, kernel)) ** 2
    slopes = [
        jax.jit(jax.grad(lambda *a, f=f: (f(*a) * weight).sum(), (0, 1))) for f in (plain, function)
    ]
    for expected, found in zip(*(slope(x, kernel) for slope in slopes), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=tolerance)


@pytest.mark.parametrize(("size", "stride"), [(8, 1), (9, 1), (8, 2), (9, 2)])
def test_patches_equal_the_convolution_and_its_gradients(size, stride):
    x, kernel = _maps(size, 6), _maps(3, 6 * 5).reshape(-1)[: 9 * 6 * 5].reshape(3, 3, 6, 5)

    def patches(x, kernel):
        return convolve_patches(x, kernel, (stride, stride), [(1, 1)] * 2)

    _assert_same_slopes(x, kernel, stride, patches, 1e-3)


@pytest.mark.parametrize(("size", "stride", "loops"), [(16, 1, 0), (32, 1, 1), (64, 2, 1)])
def test_gradients_of_large_maps_image_by_image(monkeypatch, size, stride, loops):
    x, kernel = _maps(size, 6), _maps(3, 6 * 5).reshape(-1)[: 9 * 6 * 5].reshape(3, 3, 6, 5)
    monkeypatch.setattr(layers, "LARGE_MAPS", (1024, x.size if loops else 0))

    def convolution(x, kernel):
        return convolve(x, kernel, (stride, stride), [(1, 1)] * 2)

    _assert_same_slopes(x, kernel, stride, convolution, 1e-2)  # sums of thousands of pixels
    slope = jax.jit(jax.grad(lambda *a: convolution(*a).sum(), 1))
    assert ("while" in slope.lower(x, kernel).as_text()) == bool(loops)


def test_a_layer_with_more_filters_than_pixels_uses_patches():
    layer = Conv(20, 3)
    for size, convolutions in ((4, 0), (8, 1)):
        x = _maps(size, 3)
        variables = unbox(layer.init(jax.random.key(0), x))
        assert variables["params"]["conv"]["kernel"].shape == (3, 3, 3, 20)
        traced = str(jax.make_jaxpr(layer.apply)(variables, x))
        assert traced.count("conv_general_dilated[") == convolutions
