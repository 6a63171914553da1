"""One device, several, pmap or jit: the same numbers from the same global batch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dir_jax.models.network import initial_variables
from dir_jax.training.devices import Parallel
from dir_jax.training.step import create_train_state, make_loss, make_train_step
from tests.dir_jax.training_fixtures import random_batch, tiny_model, toy_hands

BATCH = 8


@pytest.fixture(scope="module")
def hands():
    return toy_hands()


def one_step(hands, backend, devices, dtype):
    """Metrics, gradients (by plain gradient descent at rate 1) and new running statistics."""
    parallel = Parallel(backend, tuple(jax.devices()[:devices]))
    model = tiny_model(hands)
    optimizer = optax.sgd(1.0)
    variables = jax.tree.map(lambda x: jnp.asarray(x, dtype), initial_variables(model, seed=3))
    state = create_train_state(variables, optimizer)
    step = make_train_step(make_loss(model, hands, "released"), optimizer, lambda count: 1.0)
    batch = parallel.shard(random_batch(BATCH, dtype=dtype))
    state, metrics = parallel.step(step)(parallel.replicate(state), batch)
    gradients = jax.tree.map(lambda old, new: np.asarray(old) - new, variables, state.variables)
    return jax.device_get((metrics, gradients["params"], state.batch_stats))


def largest_difference(tree, other):
    """Over all leaves, relative to each leaf's own size.

    Gradients are read as differences of parameters near 1, so they carry a rounding of 2e-16 of
    their own: leaves whose true gradient is zero (a bias before BatchNorm) are measured against
    1e-8 instead of themselves.
    """
    sizes = jax.tree.map(lambda a: np.abs(a).max() + 1e-8, other)
    differences = jax.tree.map(lambda a, b, s: float(np.abs(a - b).max() / s), tree, other, sizes)
    return max(jax.tree.leaves(differences))


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "devices"), [("pmap", 8), ("pmap", 4), ("jit", 8)])
def test_every_spread_gives_one_devices_numbers_in_float64(hands, backend, devices):
    with jax.enable_x64(True):
        metrics, gradients, statistics = one_step(hands, "jit", 1, np.float64)
        spread = one_step(hands, backend, devices, np.float64)
    assert set(spread[0]) == set(metrics)
    for name, value in metrics.items():
        np.testing.assert_allclose(spread[0][name], value, rtol=1e-9, err_msg=name)
    assert largest_difference(spread[1], gradients) < 1e-7
    assert largest_difference(spread[2], statistics) < 1e-10


@pytest.mark.slow
def test_eight_devices_agree_with_one_in_float32(hands):
    metrics, gradients, _ = one_step(hands, "pmap", 1, np.float32)
    for backend in ("pmap", "jit"):
        spread = one_step(hands, backend, 8, np.float32)
        np.testing.assert_allclose(spread[0]["loss"], metrics["loss"], rtol=1e-4)
        np.testing.assert_allclose(spread[0]["gradient_norm"], metrics["gradient_norm"], rtol=1e-2)
        # The bone mask is a step function: single entries may jump, the whole may not.
        for new, old in zip(jax.tree.leaves(spread[1]), jax.tree.leaves(gradients), strict=True):
            assert np.linalg.norm(new - old) <= 0.05 * np.linalg.norm(old) + 1e-5
