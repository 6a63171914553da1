"""Initial weights: drawn by numpy as Flax's program would draw them."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dir_jax.models.layers import normal, ones, uniform
from dir_jax.models.network import initial_variables, variable_shapes
from tests.dir_jax.training_fixtures import tiny_model
from tests.hands import toy_hands


@pytest.fixture(scope="module")
def model():
    return tiny_model(toy_hands())


@pytest.mark.parametrize(
    ("initialiser", "spread"), [(normal(0.3), 0.3), (uniform(0.2), 0.2 / 3**0.5), (ones, 0)]
)
def test_both_ways_to_draw_follow_the_distribution(initialiser, spread):
    box = initialiser(jax.random.key(4), (400, 400))
    ours = box.draw(np.random.default_rng(4))
    # 160,000 values: the standard deviation is known to 0.002 of itself.
    for values in (ours, np.asarray(box.unbox())):
        assert values.std() == pytest.approx(spread, rel=0.01)
        assert values.mean() == pytest.approx(1 if initialiser is ones else 0, abs=0.005)
    assert (ours.shape, ours.dtype) == ((400, 400), np.float32)
    if initialiser is not ones:
        assert np.abs(ours).max() <= (0.2 if spread < 0.2 else np.inf)


def test_shapes_and_spread_of_the_network_are_those_of_its_own_initialisation(model):
    ours = initial_variables(model, seed=1)
    shapes = variable_shapes(model)
    assert jax.tree.structure(ours) == jax.tree.structure(shapes)
    quick = {"xla_backend_optimization_level": 0}
    theirs = jax.jit(
        lambda key: model.init(key, jnp.zeros((1, 256, 256, 3))), compiler_options=quick
    )(jax.random.key(1, impl="unsafe_rbg"))  # threefry takes seconds to compile
    assert jax.tree.structure(theirs) == jax.tree.structure(shapes)
    for (path, a), shape, b in zip(
        jax.tree_util.tree_leaves_with_path(ours),
        jax.tree.leaves(shapes),
        jax.tree.leaves(theirs),
        strict=True,
    ):
        assert (a.shape, a.dtype) == (shape.shape, shape.dtype), path
        if a.size > 1000:  # a tenth is then more than three standard errors
            assert float(a.std()) == pytest.approx(float(b.std()), rel=0.1), path
            assert not np.array_equal(a, b) or float(a.std()) == 0, path


def test_seed_and_name_decide_on_the_values(model):
    first, again, other = (initial_variables(model, seed) for seed in (1, 1, 2))
    chex.assert_trees_all_equal(first, again)
    flat = [np.asarray(leaf) for leaf in jax.tree.leaves(first["params"]) if leaf.std() > 0]
    changed = [np.asarray(leaf) for leaf in jax.tree.leaves(other["params"]) if leaf.std() > 0]
    assert len(flat) > 50
    assert not any(np.array_equal(a, b) for a, b in zip(flat, changed, strict=True))
    assert len({leaf.ravel()[0].item() for leaf in flat}) == len(flat)
    more = initial_variables(tiny_model(model.hands, stages=2), 1)  # another network, same names
    chex.assert_trees_all_equal(more["params"]["stage1"], first["params"]["stage1"])
