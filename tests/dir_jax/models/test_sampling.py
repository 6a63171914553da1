"""Bilinear sampling: every method against a loop over pixels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dir_jax.models.sampling import SAMPLERS, sample


def _by_loop(features, uv):
    batch, size, _, channels = features.shape
    result = np.zeros((batch, uv.shape[1], channels))
    for b in range(batch):
        for n in range(uv.shape[1]):
            x, y = (uv[b, n] + 1) / 2 * size - 0.5
            for j in range(size):
                for i in range(size):
                    weight = max(0, 1 - abs(x - i)) * max(0, 1 - abs(y - j))
                    result[b, n] += weight * features[b, j, i]
    return result


@pytest.mark.parametrize("method", list(SAMPLERS))
def test_every_method_reads_the_same(method):
    generator = np.random.default_rng(0)
    features = generator.normal(size=(2, 6, 6, 3)).astype(np.float32)
    uv = generator.uniform(-1.4, 1.4, (2, 30, 2)).astype(np.float32)
    uv[0, 0] = [-1, -1]  # a corner of the map: a quarter of its pixel
    found = jax.jit(sample, static_argnums=2)(features, uv, method)
    np.testing.assert_allclose(found, _by_loop(features, uv), atol=2e-6)
    np.testing.assert_allclose(found[0, 0], features[0, 0, 0] / 4, rtol=1e-5)


@pytest.mark.parametrize("method", list(SAMPLERS))
def test_gradients_reach_the_features_not_the_points(method):
    features = jax.random.normal(jax.random.key(0), (1, 4, 4, 2))
    uv = jnp.asarray([[[0.1, -0.2], [0.9, 0.95]]])
    to_features, to_points = jax.grad(
        lambda f, p: jnp.square(sample(f, p, method)).sum(), argnums=(0, 1)
    )(features, uv)
    assert np.abs(to_features).sum() > 0
    assert np.abs(to_points).sum() == 0
