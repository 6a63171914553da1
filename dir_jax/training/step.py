"""One optimisation step as a pure function of state and batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from dir_jax.losses.targets import targets_from_batch
from dir_jax.losses.terms import loss_terms
from dir_jax.models.forward import normalise_images
from dir_jax.models.layers import across_devices
from dir_jax.training.state import TrainState

Metrics = dict[str, jax.Array]
StepFunction = Callable[[TrainState, Mapping[str, jax.Array]], tuple[TrainState, Metrics]]


def make_loss(
    model: nn.Module,
    hands: Any,
    recipe: Any,
    root_joint: int = 0,
) -> Callable[..., tuple[jax.Array, tuple[Metrics, Any]]]:
    """`loss(params, batch_stats, batch)` -> (total, (terms, new batch_stats)).

    Args:
      model: from `create_model`.
      hands: the `HandPair` that labels are posed with.
      recipe: which losses, see `dir_jax.loss_terms`.
      root_joint: the joint on which the model centres its meshes.
    """

    def loss(params, batch_stats, batch):
        targets = targets_from_batch(batch, hands)
        output, updates = model.apply(
            {"params": params, "batch_stats": batch_stats},
            normalise_images(batch["image"]),
            train=True,
            mutable=["batch_stats"],
        )
        terms = loss_terms(output, targets, hands, recipe, root_joint=root_joint)
        return sum(terms.values()), (terms, updates["batch_stats"])

    return loss


def make_train_step(
    loss: Callable[..., tuple[jax.Array, tuple[Metrics, Any]]],
    optimizer: optax.GradientTransformationExtraArgs,
    schedule: optax.Schedule,
) -> StepFunction:
    """The step: gradients averaged over the devices, AdamW, running statistics.

    Under `pmap` each device differentiates the sum over devices of what it computed, because
    collectives transpose to collectives; the mean over devices of those gradients is therefore
    the gradient of the mean of the devices' losses, also when a loss or a normalisation gathers
    the whole batch.

    An update that is not finite in loss or gradient is not applied: parameters, statistics and
    optimiser stay as they were, `step` and `skipped` count on. What to do about it is the
    training loop's choice (`train.nonfinite_limit`).

    Args:
      loss: from `make_loss` (anything of its signature).
      optimizer: from `make_optimizer`; another one must itself keep its state when `update` is
        given `finite=False`.
      schedule: the optimiser's own, for the record.

    Returns:
      step(state, batch) -> (new state, metrics): `loss`, every term under its own name,
      `gradient_norm`, `learning_rate`, and `finite` (bool), all scalars.
    """
    gradient = jax.value_and_grad(loss, has_aux=True)

    def step(state: TrainState, batch: Mapping[str, jax.Array]) -> tuple[TrainState, Metrics]:
        (total, (terms, batch_stats)), gradients = gradient(state.params, state.batch_stats, batch)
        total, terms, batch_stats, gradients = across_devices(
            (total, terms, batch_stats, gradients)
        )
        norm = optax.global_norm(gradients)
        finite = jnp.isfinite(total) & jnp.isfinite(norm)
        updates, opt_state = optimizer.update(
            gradients, state.opt_state, state.params, finite=finite
        )
        params, batch_stats = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old),
            (optax.apply_updates(state.params, updates), batch_stats),
            (state.params, state.batch_stats),
        )
        metrics = {
            "loss": total,
            **terms,
            "gradient_norm": norm,
            "learning_rate": schedule(state.step - state.skipped),
            "finite": finite,
        }
        state = TrainState(
            step=state.step + 1,
            skipped=state.skipped + jnp.where(finite, 0, 1).astype(state.skipped.dtype),
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        return state, metrics

    return step
