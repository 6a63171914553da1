"""Planes and the convolution behind them: every form against the direct one, and by hand.

Reading the maps: every method against a loop over pixels.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from flax.core.meta import unbox

from dir_jax.models import projection
from dir_jax.models.config import PARTS, ModelConfig, find_part
from mano_jax.constants import BONES

BATCH, SIZE, CHANNELS, FEATURES = 2, 8, 5, 6


@pytest.fixture
def joints_uv() -> jnp.ndarray:
    generator = np.random.default_rng(3)
    uv = generator.uniform(-1.3, 1.3, (BATCH, 2, 21, 2))  # some joints lie outside the map
    return jnp.asarray(uv)


def _apply(planes, method, joints_uv, vectors, train=True):
    config = ModelConfig(planes=planes, projection=method, feature_width=FEATURES)
    module = find_part("projection", method)(config, reach=1.0)
    initialise = jax.jit(module.init, static_argnums=(3, 4))
    variables = unbox(initialise(jax.random.key(0), joints_uv, vectors, SIZE, train))

    def total(uv, vectors, params):
        y, _ = module.apply(
            {**variables, "params": params}, uv, vectors, SIZE, train, mutable=["batch_stats"]
        )
        return jnp.sum(jnp.sin(3 * y)), y

    gradients, y = jax.jit(jax.grad(total, argnums=(0, 1, 2), has_aux=True))(
        joints_uv, vectors, variables["params"]
    )
    return y, gradients


@pytest.mark.parametrize(
    ("planes", "method"),
    [
        ("bone", "factored"),
        ("joint", "factored"),
        ("joint", "scatter"),
        ("sum", "factored"),
        ("sum", "scatter"),
        ("heatmap", "factored"),
    ],
)
def test_every_form_equals_the_direct_one(planes, method, joints_uv):
    with jax.enable_x64(True):
        uv = joints_uv.astype(jnp.float64)
        vectors = jax.random.normal(jax.random.key(1), (BATCH, 2, 21, CHANNELS), jnp.float64)
        wanted, wanted_gradients = _apply(planes, "onehot", uv, vectors)
        found, gradients = _apply(planes, method, uv, vectors)
        assert np.abs(wanted).max() > 0.1
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-11)
        for ours, theirs in zip(
            jax.tree.leaves(gradients), jax.tree.leaves(wanted_gradients), strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-10)


def test_a_joint_writes_its_own_pixel_only_and_none_outside():
    uv = jnp.asarray([[[-1.0, -1.0], [0.99, -0.26], [1.0, 0.0], [0.0, -1.01], [0.1, 0.4]]])
    weights = np.asarray(projection.joint_weights(uv, SIZE))[0]
    wanted = np.zeros((SIZE, SIZE, 5))
    wanted[0, 0, 0] = wanted[2, 7, 1] = wanted[5, 4, 4] = 1  # rows are y
    np.testing.assert_array_equal(weights, wanted)


def test_bone_weights_against_a_loop(joints_uv):
    reach = 1.0
    weights = np.asarray(projection.bone_weights(joints_uv, SIZE, reach))
    assert weights.shape == (BATCH, SIZE, SIZE, 40, 2)
    pixels = (np.asarray(joints_uv) + 1) / 2 * SIZE
    generator = np.random.default_rng(0)
    for _ in range(400):
        batch, y, x = (int(generator.integers(n)) for n in (BATCH, SIZE, SIZE))
        bone = int(generator.integers(40))
        a, b = (pixels[batch, bone // 20, joint] for joint in BONES[bone % 20])
        p = np.array([x + 0.5, y + 0.5])
        share = np.clip(np.dot(p - a, b - a) / np.dot(b - a, b - a), 0, 1)
        near = np.linalg.norm(p - (a + share * (b - a))) < reach
        to_a, to_b = np.linalg.norm(p - a), np.linalg.norm(p - b)
        wanted = np.array([1 - to_a / (to_a + to_b), 1 - to_b / (to_a + to_b)]) * near
        np.testing.assert_allclose(weights[batch, y, x, bone], wanted, atol=1e-5)


def test_a_bone_of_no_length_gives_finite_values_and_gradients():
    uv = jnp.zeros((1, 2, 21, 2))
    gradient = jax.jit(jax.grad(lambda u: projection.bone_weights(u, SIZE, 2.0).sum()))(uv)
    assert np.isfinite(gradient).all()


def test_heatmaps_peak_at_the_joint():
    uv = jnp.asarray([[[0.125, -0.375]]])  # the centre of pixel (x 4, y 2)
    heat = np.asarray(projection.heatmap_weights(uv, SIZE, 1.0))[0, :, :, 0]
    assert np.unravel_index(heat.argmax(), heat.shape) == (2, 4)
    assert heat[2, 4] == pytest.approx(1)
    assert heat[2, 5] == pytest.approx(np.exp(-0.5))


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


class Sampling(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True, with_device=True)
    @parameterized.parameters(*PARTS["sampling"])
    def test_every_method_reads_the_same(self, method):
        generator = np.random.default_rng(0)
        features = generator.normal(size=(2, 6, 6, 3)).astype(np.float32)
        uv = generator.uniform(-1.4, 1.4, (2, 30, 2)).astype(np.float32)
        uv[0, 0] = [-1, -1]  # a corner of the map: a quarter of its pixel
        found = self.variant(find_part("sampling", method))(features, uv)
        np.testing.assert_allclose(found, _by_loop(features, uv), atol=2e-6)
        np.testing.assert_allclose(found[0, 0], features[0, 0, 0] / 4, rtol=1e-5)
