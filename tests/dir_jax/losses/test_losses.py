"""Losses against formulas written out again in numpy (the reference's values: golden tests)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dir_jax.losses import terms as losses
from dir_jax.losses.targets import targets_from_batch
from dir_jax.models.config import Field
from dir_jax.models.types import LENGTH_SCALE
from mano_jax.constants import SIDES
from tests.dir_jax.losses.test_hand_validity import random_output
from tests.dir_jax.training_fixtures import random_batch
from tests.hands import toy_hands


def test_lovasz_of_present_classes_only():
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(2, 4, 4, 3))
    labels = generator.integers(0, 2, (2, 4, 4))  # class 2 is absent
    wanted = []
    for c in (0, 1):
        truth = (labels == c).ravel().astype(float)
        errors = np.abs(truth - scores[..., c].ravel())
        order = np.argsort(-errors)
        truth = truth[order]
        jaccard = 1 - (truth.sum() - truth.cumsum()) / (truth.sum() + (1 - truth).cumsum())
        wanted.append(errors[order] @ np.diff(jaccard, prepend=0))
    found = losses.lovasz_softmax(jnp.asarray(scores), jnp.asarray(labels))
    assert float(found) == pytest.approx(np.mean(wanted), rel=1e-5)


def test_every_recipe_weighs_every_term():
    for recipe in losses.RECIPES.values():
        assert recipe.keys() == {"distance", *losses.TERMS}
    with pytest.raises(TypeError, match="weight"):
        losses.Term(of="hand", value=len)


def test_a_term_is_one_row_with_its_weight(monkeypatch):
    """What docs/variants.md promises: the row is all that a term of one's own needs."""
    hands, output = toy_hands(), random_output()
    targets = jax.jit(targets_from_batch, static_argnums=1)(random_batch(4), hands)
    row = losses.Term(2.0, "hand", lambda e: jnp.abs(e.joints[0]).max((2, 3)))
    monkeypatch.setitem(losses.TERMS, "reach", row)
    monkeypatch.setitem(losses.LOSS_FIELDS, "reach", Field(row.weight, ""))
    monkeypatch.setitem(losses.RELEASED, "reach", row.weight)
    monkeypatch.setitem(losses.RECIPES, "released", losses.RELEASED)

    def terms_of(**weights):
        return jax.jit(lambda o, t: losses.loss_terms(o, t, hands, weights))(output, targets)

    plain, terms = terms_of(reach=0.0), terms_of()
    assert terms.keys() - plain.keys() == {f"reach_{s}_{i}" for s in SIDES for i in (0, 1)}
    wanted = 2 * np.abs(output.stages[1].joints_xyz[:, 0]).max((1, 2)).mean() / LENGTH_SCALE
    assert float(terms["reach_left_1"]) == pytest.approx(float(wanted), rel=1e-5)
    doubled = terms_of(edge=2.0, reach=0.0)
    assert float(doubled["edge_left_0"]) == pytest.approx(2 * float(plain["edge_left_0"]))


def test_a_collapsed_mesh_has_finite_gradients():
    faces = jnp.asarray(np.random.default_rng(0).integers(0, 778, (2, 50, 3)))
    wanted = jax.random.normal(jax.random.key(0), (1, 2, 778, 3))

    def loss(vertices):
        edge = losses.edge_length(vertices, wanted, faces)
        return (edge + losses.normal_consistency(vertices, wanted, faces)).sum()

    assert np.isfinite(jax.jit(jax.grad(loss))(jnp.zeros((1, 2, 778, 3)))).all()
