"""One device, several, pmap or jit: the same numbers from the same global batch."""

import jax
import numpy as np
import optax
import pytest

from dir_jax.models.network import initial_variables
from dir_jax.training.devices import Parallel
from dir_jax.training.step import create_train_state, make_loss, make_train_step
from tests.dir_jax.training_fixtures import random_batch, tiny_model
from tests.hands import toy_hands

BATCH = 8


@pytest.fixture(scope="module")
def hands():
    return toy_hands()


@pytest.fixture(scope="module")
def alone(hands):
    return one_step(hands, "jit", 1)


def one_step(hands, backend, devices):
    """Metrics, gradients (by plain gradient descent at rate 1) and running statistics, float64."""
    with jax.enable_x64(True):
        return _one_step(hands, backend, devices, np.float64)


def _one_step(hands, backend, devices, dtype):
    parallel = Parallel(backend, tuple(jax.devices()[:devices]))
    model = tiny_model(hands, image_stride=2)  # in double precision large images take long
    optimizer = optax.sgd(1.0)
    variables = jax.tree.map(lambda x: np.asarray(x, dtype), initial_variables(model, seed=3))
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
@pytest.mark.parametrize("backend", ["pmap", "jit"])
def test_eight_devices_give_ones_numbers(hands, backend, alone):
    metrics, gradients, statistics = alone
    spread = one_step(hands, backend, 8)
    assert set(spread[0]) == set(metrics)
    for name, value in metrics.items():
        np.testing.assert_allclose(spread[0][name], value, rtol=1e-9, err_msg=name)
    assert largest_difference(spread[1], gradients) < 1e-7
    assert largest_difference(spread[2], statistics) < 1e-10
