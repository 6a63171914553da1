"""Parts by name: registered ones, one's own, and names that say what is wrong with them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

import dir_jax
from dir_jax.models.config import PARTS, TINY, ModelConfig, find_part
from dir_jax.models.network import initial_variables, variable_shapes
from tests.dir_jax.training_fixtures import Pyramid
from tests.hands import toy_hands

IMAGES = jnp.zeros((2, 256, 256, 3))


class Mixed(nn.Module):
    """Graph network or transformer: one linear layer over all joints' numbers."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x, train):
        width = self.config.plane_width if x.ndim == 3 else self.config.joint_width
        return nn.BatchNorm(use_running_average=not train)(nn.Dense(width)(x))


class Flat(nn.Module):
    """A projection that writes the joints' mean everywhere."""

    config: ModelConfig
    reach: float

    @nn.compact
    def __call__(self, joints_uv, vectors, size, train):
        mean = nn.Dense(self.config.feature_width)(vectors.mean((1, 2)))
        return jnp.broadcast_to(mean[:, None, None], (len(mean), size, size, mean.shape[-1]))


def centre(features, uv):
    """A sampler that reads the middle of the map, wherever the joints are."""
    middle = features[:, features.shape[1] // 2, features.shape[2] // 2]
    return jnp.broadcast_to(middle[:, None], (*uv.shape[:2], features.shape[-1]))


OWN = {
    "encoder": Pyramid,
    "graph": Mixed,
    "transformer": Mixed,
    "projection": Flat,
    "sampling": centre,
}


def model(**fields):
    return dir_jax.create_model({**TINY, "stages": 2, **fields}, toy_hands())


@pytest.mark.parametrize(
    ("kinds", "precision"),
    [*(((kind,), "float32") for kind in OWN), (tuple(OWN), "bfloat16")],
    ids=[*OWN, "all"],
)
def test_a_part_of_ones_own_takes_the_registered_ones_place(kinds, precision):
    names = {kind: f"{OWN[kind].__module__}:{OWN[kind].__name__}" for kind in kinds}
    own = model(**names, precision=precision)
    for kind in kinds:
        assert find_part(kind, getattr(own.config, kind)) is OWN[kind]
    variables = variable_shapes(own)
    output, updates = jax.eval_shape(
        lambda v, x: own.apply(v, x, train=True, mutable=["batch_stats"]), variables, IMAGES
    )
    assert output.stages[1].vertices_xyz.shape == (2, 2, 778, 3)
    assert {leaf.dtype for leaf in jax.tree.leaves(output)} == {jnp.dtype("float32")}
    structure = jax.tree.structure(variables["batch_stats"])
    assert jax.tree.structure(updates["batch_stats"]) == structure
    with pytest.raises(
        ValueError, match=f"model.{kinds[0]} is .*the released PyTorch code only has"
    ):
        dir_jax.torch_from_variables(variables, own)


def test_every_registered_part_can_be_found():
    for kind, names in PARTS.items():
        for name in names:
            part = find_part(kind, name)
            assert callable(part) or name == "none", (kind, name)


def test_a_part_with_flaxs_own_initialisers_is_drawn_by_flax():
    variables = initial_variables(model(graph=f"{__name__}:Mixed"), seed=3)
    kernel = variables["params"]["stage1"]["joints"]["graph"]["Dense_0"]["kernel"]
    assert float(kernel.std()) == pytest.approx((1 / TINY["joint_width"]) ** 0.5, rel=0.2)
