"""Bilinear sampling: every method against a loop over pixels."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from dir_jax.models.parts import PARTS, find


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


@pytest.mark.parametrize("method", PARTS["sampling"])
def test_every_method_reads_the_same(method):
    generator = np.random.default_rng(0)
    features = generator.normal(size=(2, 6, 6, 3)).astype(np.float32)
    uv = generator.uniform(-1.4, 1.4, (2, 30, 2)).astype(np.float32)
    uv[0, 0] = [-1, -1]  # a corner of the map: a quarter of its pixel
    found = jax.jit(find("sampling", method))(features, uv)
    np.testing.assert_allclose(found, _by_loop(features, uv), atol=2e-6)
    np.testing.assert_allclose(found[0, 0], features[0, 0, 0] / 4, rtol=1e-5)
