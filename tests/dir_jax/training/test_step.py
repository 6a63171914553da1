"""The optimiser, states and steps."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import base
from dir_jax.models.layers import across_devices
from dir_jax.training.devices import AXIS, Parallel
from dir_jax.training.step import (
    adamw,
    cosine_schedule,
    create_train_state,
    make_schedule,
    make_train_step,
    optimizer_state_dict,
    restore_train_state,
    update_if,
)
from dir_jax.weights import WeightsError, fill
from dir_jax.weights.checkpoints import Checkpoint, CheckpointError

# --- The optimiser against its formula, and states through checkpoints --------------------------


def test_schedule_is_half_a_cosine_to_zero():
    schedule = cosine_schedule(3e-4, 1000)
    steps = np.array([0, 250, 500, 750, 1000])
    wanted = 3e-4 * 0.5 * (1 + np.cos(np.pi * steps / 1000))
    np.testing.assert_allclose([float(schedule(s)) for s in steps], wanted, rtol=1e-5, atol=1e-10)


def test_warm_up_rises_linearly_and_ends_at_zero():
    schedule = cosine_schedule(1e-3, 100, warmup_steps=10)
    assert float(schedule(5)) == pytest.approx(5e-4)
    assert float(schedule(10)) == pytest.approx(1e-3)
    assert float(schedule(100)) == pytest.approx(0, abs=1e-9)


def test_inverse_root_rises_stays_and_falls():
    config = base.get_config().optimizer
    config.update(schedule="inverse_root", learning_rate=1e-3, constant_steps=100, warmup_steps=10)
    schedule = jax.jit(make_schedule(config, 9999))
    wanted = {4: 5e-4, 9: 1e-3, 100: 1e-3, 400: 5e-4}
    found = {step: float(schedule(step)) for step in wanted}
    assert found == pytest.approx(wanted)


def test_adamw_follows_torchs_published_algorithm():
    """torch.optim.AdamW's documentation, written out: decay first, by rate times weight decay."""
    rng = np.random.default_rng(0)
    rate, decay, b1, b2, eps = 1e-2, 0.01, 0.9, 0.999, 1e-8
    with jax.enable_x64(True):
        param = rng.normal(size=7)
        optimizer = adamw(lambda count: rate)
        ours, state = jnp.asarray(param), None
        state = optimizer.init(ours)
        first, second = np.zeros(7), np.zeros(7)
        for t in range(1, 6):
            gradient = rng.normal(size=7)
            updates, state = optimizer.update(jnp.asarray(gradient), state, ours)
            ours = optax.apply_updates(ours, updates)
            param = param - rate * decay * param
            first = b1 * first + (1 - b1) * gradient
            second = b2 * second + (1 - b2) * gradient**2
            unbiased = (first / (1 - b1**t)) / (np.sqrt(second / (1 - b2**t)) + eps)
            param = param - rate * unbiased
        np.testing.assert_allclose(ours, param, rtol=1e-12)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="how a CPU's program lies in memory")
def test_an_update_copies_no_training_state():
    params = jnp.ones((256, 256))
    optimizer = adamw(cosine_schedule(1e-3, 10))

    def update(params, state, gradients):
        finite = jnp.isfinite(optax.global_norm(gradients))
        return update_if(finite, optimizer, gradients, params, state)

    arguments = params, optimizer.init(params), params
    compiled = jax.jit(update, donate_argnums=(0, 1)).lower(*arguments).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < params.nbytes / 4


def test_adamw_begins_as_optaxs():
    params = {"a": np.ones((3, 2), np.float32), "b": np.float32(1)}
    ours, theirs = adamw(lambda _: 0.1).init(params), optax.adamw(lambda _: 0.1).init(params)
    chex.assert_trees_all_equal(ours, theirs, strict=True)


@pytest.fixture
def optimizer():
    return adamw(cosine_schedule(1e-3, 10))


@pytest.fixture
def state(optimizer):
    rng = np.random.default_rng(1)
    params = {"a": {"kernel": jnp.asarray(rng.normal(size=(3, 2)), jnp.float32)}}
    state = create_train_state({"params": params, "batch_stats": {}}, optimizer)
    updates, opt_state = optimizer.update(params, state.opt_state, params)
    return state.replace(
        step=state.step + 4,
        skipped=state.skipped + 1,
        params=optax.apply_updates(params, updates),
        opt_state=opt_state,
    )


def as_checkpoint(state):
    state = jax.device_get(state)
    return Checkpoint(int(state.step), state.variables, optimizer_state_dict(state), {})


def test_a_state_comes_back_bit_for_bit(state, optimizer):
    shapes = jax.eval_shape(lambda: state.variables)
    found = restore_train_state(shapes, optimizer, as_checkpoint(state))
    chex.assert_trees_all_equal(found, state, strict=True)


def test_another_model_is_refused_by_name(state, optimizer):
    checkpoint = as_checkpoint(state)
    kernel = checkpoint.variables["params"]["a"].pop("kernel")
    checkpoint.variables["params"]["a"]["bias"] = kernel
    with pytest.raises(WeightsError, match=r"a/kernel is missing; params/a/bias is left over"):
        restore_train_state(state.variables, optimizer, checkpoint)


def test_another_width_is_refused_by_shape(state):
    with pytest.raises(WeightsError, match=r"kernel has shape \(2, 2\), wanted \(3, 2\)"):
        fill(state.params, {"a": {"kernel": np.zeros((2, 2))}}, "params")


def test_a_converted_model_cannot_be_resumed(state, optimizer):
    checkpoint = as_checkpoint(state)._replace(optimizer=None)
    with pytest.raises(CheckpointError, match=r"train\.initial_checkpoint"):
        restore_train_state(state.variables, optimizer, checkpoint)


# --- The step with small losses of its own: what is applied, what is not, what is averaged ------


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
    chex.clear_trace_counter()
    step = jax.jit(chex.assert_max_traces(make_train_step(linear_loss, optimizer, schedule), n=1))
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


@pytest.mark.parametrize(("backend", "devices"), [("pmap", 2), ("pmap", 8), ("jit", 8)])
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
