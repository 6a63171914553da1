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
from tests.dir_jax.training_fixtures import random_batch, toy_hands


def test_smooth_l1_meets_at_the_threshold():
    z = jnp.asarray([0.0, 0.005, -0.009999, 0.01, -0.5])
    wanted = [0, 0.5 * 0.005**2, 0.5 * 0.009999**2, 0.01 * 0.005, 0.01 * 0.495]
    np.testing.assert_allclose(losses.smooth_l1(z), wanted, rtol=1e-5)


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


def test_cross_entropy_is_weighted():
    logits = jax.random.normal(jax.random.key(0), (1, 2, 2, 3))
    labels = jnp.asarray([[[0, 1], [2, 0]]])
    weights = np.array([0.1, 0.45, 0.45])[np.asarray(labels)]
    log_p = np.log(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))
    picked = np.take_along_axis(log_p, np.asarray(labels)[..., None], -1)[..., 0]
    wanted = -(weights * picked).sum() / weights.sum()
    assert float(losses.cross_entropy(logits, labels)) == pytest.approx(wanted, rel=1e-5)


def test_every_recipe_weighs_every_term():
    for recipe in losses.RECIPES.values():
        assert recipe.keys() == {"distance", *losses.TERMS}
    with pytest.raises(TypeError, match="weight"):
        losses.Term(of="hand", value=len)


def test_a_term_is_one_row_with_its_weight(monkeypatch):
    """What docs/variants.md promises: the row is all that a term of one's own needs."""
    hands, output = toy_hands(), random_output()
    targets = targets_from_batch(random_batch(4), hands)
    row = losses.Term(2.0, "hand", lambda e: jnp.abs(e.joints[0]).max((2, 3)))
    monkeypatch.setitem(losses.TERMS, "reach", row)
    monkeypatch.setitem(losses.LOSS_FIELDS, "reach", Field(row.weight, ""))
    monkeypatch.setitem(losses.RELEASED, "reach", row.weight)
    monkeypatch.setitem(losses.RECIPES, "released", losses.RELEASED)
    plain = losses.loss_terms(output, targets, hands, {"reach": 0.0})
    terms = losses.loss_terms(output, targets, hands)
    assert terms.keys() - plain.keys() == {f"reach_{s}_{i}" for s in SIDES for i in (0, 1)}
    wanted = 2 * np.abs(output.stages[1].joints_xyz[:, 0]).max((1, 2)).mean() / LENGTH_SCALE
    assert float(terms["reach_left_1"]) == pytest.approx(float(wanted), rel=1e-5)
    doubled = losses.loss_terms(output, targets, hands, {"edge": 2.0, "reach": 0.0})
    assert float(doubled["edge_left_0"]) == pytest.approx(2 * float(plain["edge_left_0"]))


def test_a_collapsed_mesh_has_finite_gradients():
    faces = jnp.asarray(np.random.default_rng(0).integers(0, 778, (2, 50, 3)))
    wanted = jax.random.normal(jax.random.key(0), (1, 2, 778, 3))

    def loss(vertices):
        edge = losses.edge_length(vertices, wanted, faces)
        return (edge + losses.normal_consistency(vertices, wanted, faces)).sum()

    assert np.isfinite(jax.jit(jax.grad(loss))(jnp.zeros((1, 2, 778, 3)))).all()
