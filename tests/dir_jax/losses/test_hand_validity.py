"""Hands without labels: they teach nothing, and keep their side under the mirror."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dir_jax
from dir_jax.losses import terms as losses
from dir_jax.losses.targets import targets_from_batch
from dir_jax.models.layers import AXIS
from dir_jax.models.types import SEGMENTATION_CLASSES, Output, Stage
from tests.dir_jax.training_fixtures import random_batch
from tests.hands import toy_hands

BATCH = 4
VALID = np.array([[True, True], [True, False], [False, True], [True, True]])


@pytest.fixture(scope="module")
def hands():
    return toy_hands()


@pytest.fixture(scope="module")
def make_targets(hands):
    return jax.jit(functools.partial(targets_from_batch, hands=hands))


def batch_with(valid):
    """A batch whose invalid hands hold what `prepare` stores for them: zeros."""
    batch = random_batch(BATCH, 3)
    del batch["image"]
    batch["hand_valid"] = np.asarray(valid)
    for name in ("hand_pose", "betas", "transl"):
        batch[name][~batch["hand_valid"]] = 0
    batch["global_orient"][~batch["hand_valid"]] = np.eye(3)
    # Annotated joints only where there are parameters: the other hand is not in the photograph.
    batch["joint_valid"] = np.repeat(batch["hand_valid"][..., None], 21, -1)
    return batch


def random_output(seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)

    def stage():
        shapes = {
            "params": (64,), "joints_xyz": (21, 3), "vertices_xyz": (778, 3),
            "joints_uv": (21, 2), "vertices_uv": (778, 2),
        }  # fmt: skip
        values = {n: 0.1 * rng.normal(size=(BATCH, 2, *s)) for n, s in shapes.items()}
        values["offset"] = rng.normal(size=(BATCH, 3))
        return Stage(**{n: jnp.asarray(v, dtype) for n, v in values.items()})

    maps = jnp.asarray(rng.normal(size=(2, BATCH, 32, 32, 3)), dtype)
    return Output(stages=(stage(), stage()), segmentation=maps[0], dense=maps[1])


@functools.partial(jax.jit, static_argnums=(2, 3))
def loss_terms(output, targets, hands, recipe="released"):
    return dir_jax.loss_terms(output, targets, hands, recipe)


def total(output, targets, hands, recipe="released"):
    return sum(loss_terms(output, targets, hands, recipe).values())


value_and_gradient = jax.jit(jax.value_and_grad(total), static_argnums=(2, 3))


@pytest.mark.parametrize("recipe", ["released", "paper"])
def test_no_gradient_comes_from_an_invalid_hand(hands, make_targets, recipe):
    targets = make_targets(batch_with(VALID))
    valid = np.asarray(targets.hand_valid)
    _, gradient = value_and_gradient(random_output(), targets, hands, recipe)
    for stage in gradient.stages:
        for name in ("joints_xyz", "vertices_xyz", "joints_uv", "vertices_uv"):
            size = np.abs(np.asarray(getattr(stage, name))).max((2, 3))
            assert np.isfinite(size).all()
            np.testing.assert_array_equal(size > 0, valid)
        np.testing.assert_array_equal(np.abs(stage.offset).max(-1) > 0, valid.all(-1))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_terms_are_means_over_the_valid_hands(hands, make_targets):
    """Leaving examples out of the batch gives the same terms as marking them invalid."""
    output, targets = random_output(), make_targets(batch_with(VALID))
    terms = loss_terms(output, targets, hands)
    for h, side in enumerate(("left", "right")):
        rows = np.flatnonzero(np.asarray(targets.hand_valid)[:, h])
        few = jax.tree.map(lambda leaf, rows=rows: leaf[rows], (output, targets))
        few = (few[0], dataclasses.replace(few[1], hand_valid=None))
        wanted = loss_terms(*few, hands)
        for name in ("joints_xyz", "vertices_uv", "edge", "normal"):
            key = f"{name}_{side}_1"
            np.testing.assert_allclose(terms[key], wanted[key], rtol=1e-5)


def test_all_valid_is_the_same_as_not_said(hands, make_targets):
    output, targets = random_output(), make_targets(batch_with(np.ones((BATCH, 2), bool)))
    assert np.asarray(targets.hand_valid).all() and np.asarray(targets.pixel_valid).all()
    plain = dataclasses.replace(targets, hand_valid=None, pixel_valid=None)
    for recipe in ("released", "paper"):
        said, unsaid = (loss_terms(output, labels, hands, recipe) for labels in (targets, plain))
        for name, value in unsaid.items():
            np.testing.assert_allclose(said[name], value, rtol=1e-6, err_msg=name)


def test_a_batch_without_any_valid_hand_teaches_nothing(hands, make_targets):
    batch = batch_with(np.zeros((BATCH, 2), bool))
    batch["joint_valid"][:] = True
    terms, gradient = value_and_gradient(random_output(), make_targets(batch), hands)
    assert float(terms) == 0
    assert all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves(gradient))


def test_validity_is_swapped_by_the_mirror(make_targets):
    batch = batch_with(VALID)
    flip = batch["flip"]
    assert flip.any() and not flip.all()
    targets = make_targets(batch)
    np.testing.assert_array_equal(
        targets.hand_valid, np.where(flip[:, None], VALID[:, ::-1], VALID)
    )
    # Exchanging the two hands' labels and mirroring names the same hands again.
    turned = {**batch, "flip": ~flip, "hand_valid": VALID[:, ::-1]}
    np.testing.assert_array_equal(make_targets(turned).hand_valid, targets.hand_valid)
    # The classes that can be seen are the valid hands.
    for i, side in ((0, "left"), (1, "right")):
        seen = (np.asarray(targets.segmentation) == SEGMENTATION_CLASSES.index(side)).any((1, 2))
        np.testing.assert_array_equal(seen, np.asarray(targets.hand_valid)[:, i])


def test_a_hand_seen_but_not_known_leaves_its_pixels_open(make_targets):
    batch = batch_with(VALID)
    batch["joint_valid"][1] = True  # two hands are in the photograph, one has no parameters
    targets = make_targets(batch)
    known, hand = np.asarray(targets.pixel_valid), np.asarray(targets.segmentation) > 0
    assert known[[0, 2, 3]].all()
    np.testing.assert_array_equal(known[1], hand[1])
    assert 0 < hand[1].mean() < 1


def test_maps_ignore_unknown_pixels():
    rng = np.random.default_rng(0)
    scores = jnp.asarray(rng.normal(size=(2, 6, 6, 3)))
    labels = jnp.asarray(rng.integers(0, 3, (2, 6, 6)))
    known = rng.random((2, 6, 6)) < 0.6
    flat = scores[known][None, None], labels[known][None, None]
    for loss in (losses.cross_entropy, losses.lovasz_softmax):
        found = loss(scores, labels, known=jnp.asarray(known))
        np.testing.assert_allclose(found, loss(*flat), rtol=1e-5)
    found = losses.map_distance(scores, scores[::-1], known=jnp.asarray(known))
    wanted = losses.map_distance(scores[known], scores[::-1][known])
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_terms_over_devices_average_to_those_of_the_batch(hands, make_targets):
    output, targets = random_output(), make_targets(batch_with(VALID))
    wanted = loss_terms(output, targets, hands)

    def split(leaf):
        return leaf.reshape(2, BATCH // 2, *leaf.shape[1:])

    spread = jax.vmap(lambda o, t: dir_jax.loss_terms(o, t, hands), axis_name=AXIS)
    terms = jax.jit(spread)(*jax.tree.map(split, (output, targets)))
    for name, value in wanted.items():
        np.testing.assert_allclose(np.mean(terms[name]), value, rtol=1e-5, err_msg=name)
