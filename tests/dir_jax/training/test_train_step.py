"""The step with small losses of its own: what is applied, what is not, what is averaged."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dir_jax.models.layers import across_devices
from dir_jax.training.devices import AXIS, Parallel
from dir_jax.training.step import adamw, create_train_state, make_train_step


def schedule(count):
    return 0.1 / (1.0 + count)


def linear_loss(params, batch_stats, batch):
    """Two terms of a linear map, and a running mean."""
    y = batch["x"] @ params["w"]
    terms = {"square": jnp.mean(y**2), "size": 0.1 * jnp.mean(jnp.abs(y))}
    return sum(terms.values()), (terms, {"mean": 0.9 * batch_stats["mean"] + 0.1 * y.mean()})


def make_state(optimizer):
    w = jnp.asarray(np.random.default_rng(0).normal(size=(5,)), jnp.float32)
    return create_train_state(
        {"params": {"w": w}, "batch_stats": {"mean": jnp.zeros(())}}, optimizer
    )


def batch_of(seed, size=8):
    return {"x": np.random.default_rng(seed).normal(size=(size, 5)).astype(np.float32)}


def test_metrics_and_counters():
    optimizer = adamw(schedule)
    step = jax.jit(make_train_step(linear_loss, optimizer, schedule))
    state = make_state(optimizer)
    before = state.params["w"]
    state, metrics = step(state, batch_of(1))
    names = {"loss", "square", "size", "gradient_norm", "learning_rate", "finite"}
    assert set(metrics) == names
    asked = {"stop": np.array([0, 0, 1, 0, 0, 0, 0, 0], np.float32)}
    told = jax.eval_shape(step, state, batch_of(1) | asked)[1]
    assert set(told) == {*names, "stop"}
    y = batch_of(1)["x"] @ np.asarray(before)
    np.testing.assert_allclose(metrics["square"], np.mean(y**2), rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], metrics["square"] + metrics["size"], rtol=1e-6)
    assert (int(state.step), int(state.skipped)) == (1, 0)
    assert float(metrics["learning_rate"]) == pytest.approx(0.1)
    assert not np.array_equal(before, state.params["w"])


def a_users_own():
    """Nothing in it knows of updates that are not finite."""
    rate = optax.scale_by_learning_rate(lambda count: schedule(count))
    return optax.chain(optax.clip_by_global_norm(1.0), optax.trace(0.9, nesterov=True), rate)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("optimizer", [adamw(schedule), a_users_own()], ids=["adamw", "own"])
@pytest.mark.parametrize("on_a_gpu", [False, True])
def test_an_update_that_is_not_finite_changes_nothing_but_the_counters(
    value, optimizer, on_a_gpu, monkeypatch
):
    if on_a_gpu:  # what is selected there, run here
        monkeypatch.setattr(
            jax.lax, "platform_dependent", lambda *a, default, **others: default(*a)
        )
    step = jax.jit(make_train_step(linear_loss, optimizer, schedule))
    state, _ = step(make_state(optimizer), batch_of(1))
    bad = batch_of(2)
    bad["x"][3, 1] = value
    after, metrics = step(state, bad)
    assert not metrics["finite"]
    assert (int(after.step), int(after.skipped)) == (2, 1)
    kept = (state.params, state.batch_stats, state.opt_state)
    for new, old in zip(
        jax.tree.leaves((after.params, after.batch_stats, after.opt_state)),
        jax.tree.leaves(kept),
        strict=True,
    ):
        np.testing.assert_array_equal(new, old)
    again, metrics = step(after, batch_of(3))
    assert metrics["finite"]
    assert float(metrics["learning_rate"]) == pytest.approx(0.1 / 2)  # its first-but-one update
    for leaf in jax.tree.leaves((again.params, again.opt_state)):
        assert np.isfinite(leaf).all()


def whole_batch_loss(params, batch_stats, batch):
    """A loss that sorts over the whole batch and one normalised by the whole batch's weights."""
    y = jnp.tanh(batch["x"] @ params["w"])
    weight = jnp.square(batch["x"][:, 0])
    total = across_devices(weight.sum())
    gathered = across_devices(y, jax.lax.all_gather).reshape(-1)
    ranked = jnp.sort(gathered) * jnp.arange(gathered.size)
    terms = {"ranked": ranked.mean() ** 2, "weighted": (weight * y).sum() / total}
    return sum(terms.values()), (terms, batch_stats)


@pytest.mark.parametrize(
    ("backend", "devices"), [("pmap", 2), ("pmap", 4), ("pmap", 8), ("jit", 4), ("jit", 8)]
)
def test_whole_batch_terms_do_not_depend_on_the_spread(backend, devices):
    def gradients(backend, devices):
        parallel = Parallel(backend, tuple(jax.devices()[:devices]))
        optimizer = optax.sgd(1.0)
        step = parallel.step(make_train_step(whole_batch_loss, optimizer, schedule))
        state = make_state(optimizer)
        new, metrics = step(parallel.replicate(state), parallel.shard(batch_of(5, 16)))
        return np.asarray(state.params["w"]) - np.asarray(new.params["w"]), metrics

    alone, metrics = gradients("jit", 1)
    spread, spread_metrics = gradients(backend, devices)
    np.testing.assert_allclose(spread, alone, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(spread_metrics["loss"], metrics["loss"], rtol=1e-5)


def test_uneven_batches_and_unknown_backends_are_refused():
    assert AXIS
    with pytest.raises(ValueError, match="multiple of 8"):
        Parallel("pmap").check_batch_size(12)
    with pytest.raises(ValueError, match="wanted one of pmap, jit"):
        Parallel("threads")
