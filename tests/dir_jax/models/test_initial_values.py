"""Initial weights: drawn by numpy as Flax's program would draw them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from dir_jax.models.initial_values import Initial, draw
from dir_jax.training.state import initial_variables, variable_shapes
from tests.dir_jax.training_fixtures import tiny_model, toy_hands

WIDTH = 400


@pytest.fixture(scope="module")
def hands():
    return toy_hands()


class Layers(nn.Module):
    """One parameter of each kind, and one whose initial values are Flax's own."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(WIDTH, kernel_init=Initial("normal", 0.3), bias_init=Initial("uniform", 0.2))(
            x
        )
        scale = self.param("scale", Initial("constant", 1.5), (WIDTH,))
        self.variable("batch_stats", "mean", Initial("constant", 0.25), None, (WIDTH,))
        return x * scale + self.param("other", nn.initializers.normal(2.0), (WIDTH,))


def initialise(key):
    return Layers().init(key, jnp.zeros((1, WIDTH)))


def test_every_parameter_follows_its_distribution():
    variables = draw(initialise, seed=4)
    params = variables["params"]
    kernel, bias = params["Dense_0"]["kernel"], params["Dense_0"]["bias"]
    # 160,000 normal values: the standard deviation is known to 0.002 of itself.
    assert kernel.std() == pytest.approx(0.3, rel=0.01)
    assert abs(kernel.mean()) < 0.005
    assert np.abs(bias).max() <= 0.2
    assert bias.std() == pytest.approx(0.2 / np.sqrt(3), rel=0.1)
    np.testing.assert_array_equal(params["scale"], np.full(WIDTH, 1.5))
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], np.full(WIDTH, 0.25))
    own = initialise(jax.random.key(4))["params"]["other"]
    np.testing.assert_allclose(params["other"], own, rtol=1e-6)


def test_shapes_and_spread_of_the_network_are_those_of_its_own_initialisation(hands):
    model = tiny_model(hands)
    ours = initial_variables(model, seed=1)
    shapes = variable_shapes(model)
    assert jax.tree.structure(ours) == jax.tree.structure(shapes)
    quick = {"xla_backend_optimization_level": 0}
    theirs = jax.jit(
        lambda key: model.init(key, jnp.zeros((1, 256, 256, 3))), compiler_options=quick
    )(jax.random.key(1))
    for (path, a), shape in zip(
        jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(shapes), strict=True
    ):
        assert (a.shape, a.dtype) == (shape.shape, shape.dtype), path
        b = theirs
        for key in path:
            b = b[key.key]
        if a.size > 1000:  # a tenth is then more than three standard errors
            assert float(a.std()) == pytest.approx(float(b.std()), rel=0.1), path
            assert not np.array_equal(a, b) or float(a.std()) == 0, path


def test_seed_and_name_decide_on_the_values(hands):
    model = tiny_model(hands)
    first, again, other = (initial_variables(model, seed) for seed in (1, 1, 2))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    flat = [np.asarray(leaf) for leaf in jax.tree.leaves(first["params"]) if leaf.std() > 0]
    changed = [np.asarray(leaf) for leaf in jax.tree.leaves(other["params"]) if leaf.std() > 0]
    assert len(flat) > 50
    assert not any(np.array_equal(a, b) for a, b in zip(flat, changed, strict=True))
    assert len({leaf.ravel()[0].item() for leaf in flat}) == len(flat)
