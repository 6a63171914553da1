"""Assembly: shapes, presets, switches, and what must not leak between parts."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dir_jax
from dir_jax.benchmark.summary import operations, weights
from dir_jax.models.config import PRESETS, TINY, ModelConfig, model_config
from dir_jax.models.network import initial_variables
from tests.dir_jax import reference
from tests.hands import toy_hands

SWITCHES = [
    {},
    {"attention": "light"},
    {"attention": "none"},
    {"stages": 0},
    {"stages": 2},
    {"stages": 3},
    {"graph": "shared"},
    {"graph": "none"},
    {"transformer_blocks": 0},
    {"graph": "none", "transformer_blocks": 0, "planes": "none"},
    {"planes": "joint"},
    {"planes": "sum"},
    {"planes": "heatmap"},
    {"preset": "paper"},
    {"image_stride": 2},
    {"image_stride": 2, "stages": 3},
]


def _tiny(**fields):
    return dir_jax.create_model({**TINY, **fields}, toy_hands())


def _images(count=2):
    return jax.random.normal(jax.random.key(5), (count, 256, 256, 3))


@pytest.mark.parametrize("fields", SWITCHES, ids=lambda f: "-".join(map(str, f.values())) or "all")
def test_every_switch_keeps_the_output_form(fields):
    model = _tiny(**fields)
    output, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), _images())
    assert len(output.stages) == 1 + model.config.stages
    for stage in output.stages:
        assert stage.params.shape == (2, 2, 64)
        assert stage.offset.shape == (2, 3)
        assert stage.joints_xyz.shape == (2, 2, 21, 3)
        assert stage.vertices_xyz.shape == (2, 2, 778, 3)
        assert stage.joints_uv.shape == (2, 2, 21, 2)
        assert stage.vertices_uv.shape == (2, 2, 778, 2)
    assert output.segmentation.shape == output.dense.shape == (2, 32, 32, 3)


def test_a_halved_photograph_is_all_that_the_network_sees():
    model = _tiny(image_stride=2, stages=1)
    whole = _images(1)
    variables = initial_variables(model, 0)
    rows = whole.reshape(1, 128, 2, 256, 3)[:, :, ::-1].reshape(whole.shape)  # pairs exchanged
    apply = jax.jit(model.apply)
    seen, exchanged = apply(variables, whole), apply(variables, rows)
    moved = apply(variables, jnp.roll(whole, 1, axis=1))
    np.testing.assert_allclose(exchanged.dense, seen.dense, atol=1e-4)
    assert jnp.abs(moved.dense - seen.dense).max() > 1e-2


@pytest.mark.slow
def test_training_gives_finite_gradients_everywhere():
    model = _tiny(preset="paper", stages=2)  # of the released one: the golden numbers
    variables = initial_variables(model, 0)
    targets = reference.targets(np.float32)

    @jax.jit
    def gradients(params, images):
        def loss(params):
            output, _ = model.apply(
                {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
            )
            return sum(dir_jax.loss_terms(output, targets, model.hands).values())

        return jax.grad(loss)(params)

    found = jax.tree_util.tree_leaves_with_path(gradients(variables["params"], _images()))
    for path, gradient in found:
        assert np.isfinite(gradient).all(), jax.tree_util.keystr(path)
        if "self_edges" not in jax.tree_util.keystr(path):
            assert np.abs(gradient).max() > 0, jax.tree_util.keystr(path)


@pytest.fixture(scope="module")
def tiny():
    """Variables of the tiny network, its compiled program, and what it says of the images."""
    variables, apply = initial_variables(_tiny(), 0), jax.jit(_tiny().apply)
    return variables, apply, apply(variables, _images())


def test_examples_of_a_batch_do_not_mix_in_inference(tiny):
    variables, apply, both = tiny
    swapped = apply(variables, _images()[::-1])
    back = jax.tree.map(lambda leaf: leaf[::-1], swapped)
    chex.assert_trees_all_close(both, back, rtol=0, atol=2e-4)


def test_no_gradient_flows_back_through_the_previous_estimate():
    """A stage's loss trains the encoder, but not the regressor of the stage before."""
    model = _tiny()
    variables = initial_variables(model, 0)

    @jax.jit
    def gradient(params, images):
        def loss(params):
            return jnp.sum(model.apply({**variables, "params": params}, images).stages[1].params)

        return jax.grad(loss)(params)

    found = gradient(variables["params"], _images())
    assert max(np.abs(g).max() for g in jax.tree.leaves(found["initial"])) == 0
    assert np.abs(found["encoder"]["stem"]["conv"]["kernel"]).max() > 0


def test_remat_changes_nothing_but_memory(tiny):
    variables, _, plain = tiny
    again = jax.jit(_tiny(remat=True).apply)(variables, _images())
    chex.assert_trees_all_close(plain, again, rtol=0, atol=1e-5)


def test_bfloat16_keeps_float32_parameters_and_meshes(tiny):
    model, exact = _tiny(precision="bfloat16"), tiny[2]
    variables = initial_variables(model, 0)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    output = jax.jit(model.apply)(variables, _images())
    assert {leaf.dtype for leaf in jax.tree.leaves(output)} == {jnp.dtype("float32")}
    moved = np.abs(output.stages[0].vertices_xyz - exact.stages[0].vertices_xyz).max()
    assert moved < 0.02  # metres; bfloat16 has three digits


def test_weights_and_arithmetic_of_the_full_models():
    released = dir_jax.create_model("released", toy_hands())
    assert sum(weights(released).values()) == 90_411_059  # 92.7 M less classes and idle blocks
    assert sum(operations(released).values()) < 22e9
    direct = dir_jax.create_model({"projection": "onehot"}, toy_hands())
    assert sum(operations(direct).values()) == pytest.approx(36.8e9, rel=0.01)
    paper = dir_jax.create_model("paper", toy_hands())
    assert sum(weights(paper).values()) == pytest.approx(55.1e6, rel=0.04)


def test_a_preset_is_the_default_of_every_field():
    assert model_config("released") == ModelConfig() == PRESETS["released"]
    assert model_config({"preset": "paper", "stages": 3}).attention == "light"
