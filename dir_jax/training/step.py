"""The training state and one optimisation step, a pure function of state and batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import serialization, struct, traverse_util

from dir_jax.losses.targets import targets_from_batch
from dir_jax.losses.terms import loss_terms
from dir_jax.models.forward import normalise_images
from dir_jax.models.layers import across_devices
from dir_jax.training.optimiser import update_if
from dir_jax.weights.checkpoints import Checkpoint, CheckpointError

STOP = "stop"
"""An extra entry of a batch, (B,): whether its process was asked to stop. The metric of the same
name tells all processes alike, at the same step."""


@struct.dataclass
class TrainState:
    """One run at one moment. Nothing in it is random: data and noise follow from seed and step.

    Attributes:
      step: () int32, batches seen.
      skipped: () int32, those of them whose update was left out because it was not finite.
      params: trained parameters.
      batch_stats: running means and variances of the batch normalisations.
      opt_state: the optimiser's state.
    """

    step: jax.Array
    skipped: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState

    @property
    def variables(self) -> dict[str, Any]:
        """What `model.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


Metrics = dict[str, jax.Array]
Loss = Callable[..., tuple[jax.Array, tuple[Metrics, Any]]]
StepFunction = Callable[[TrainState, Mapping[str, jax.Array]], tuple[TrainState, Metrics]]


def make_loss(
    model: nn.Module,
    hands: Any,
    recipe: Any,
    root_joint: int = 0,
) -> Loss:
    """`loss(params, batch_stats, batch)` -> (total, (terms, new batch_stats)).

    Args:
      model: from `create_model`.
      hands: the `HandPair` that labels are posed with.
      recipe: which losses, see `dir_jax.loss_terms`.
      root_joint: the joint on which the model centres its meshes.
    """

    def loss(params, batch_stats, batch):
        targets = targets_from_batch(batch, hands)
        images = normalise_images(batch["image"])  # the network computes in its input's type
        output, updates = model.apply(
            {"params": params, "batch_stats": batch_stats},
            images.astype(jnp.result_type(images, *jax.tree.leaves(params))),
            train=True,
            mutable=["batch_stats"],
        )
        terms = loss_terms(output, targets, hands, recipe, root_joint=root_joint)
        return sum(terms.values()), (terms, updates["batch_stats"])

    return loss


def make_train_step(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
) -> StepFunction:
    """The step: gradients averaged over the devices, the optimiser, running statistics.

    Under `pmap` each device differentiates the sum over devices of what it computed, because
    collectives transpose to collectives; the mean over devices of those gradients is therefore
    the gradient of the mean of the devices' losses, also when a loss or a normalisation gathers
    the whole batch.

    An update that is not finite in loss or gradient is not applied: parameters, statistics and
    the optimiser's state stay as they were, `step` and `skipped` count on. What to do about it is
    the training loop's choice (`train.nonfinite_limit`).

    Args:
      loss: from `make_loss` (anything of its signature).
      optimizer: any of optax's kind.
      schedule: the optimiser's own, for the record.

    Returns:
      step(state, batch) -> (new state, metrics): `loss`, every term under its own name,
      `gradient_norm`, `learning_rate`, and `finite` (bool), all scalars; and `stop` if the batch
      has it (see `STOP`).
    """
    gradient = jax.value_and_grad(loss, has_aux=True)

    def step(state: TrainState, batch: Mapping[str, jax.Array]) -> tuple[TrainState, Metrics]:
        (total, (terms, batch_stats)), gradients = gradient(state.params, state.batch_stats, batch)
        total, terms, batch_stats, gradients = across_devices(
            (total, terms, batch_stats, gradients)
        )
        norm = optax.global_norm(gradients)
        finite = jnp.isfinite(total) & jnp.isfinite(norm)
        params, opt_state = update_if(finite, optimizer, gradients, state.params, state.opt_state)
        metrics = {
            "loss": total,
            **terms,
            "gradient_norm": norm,
            "learning_rate": schedule(state.step - state.skipped),
            "finite": finite,
        }
        if STOP in batch:
            metrics[STOP] = across_devices(batch[STOP].max(), jax.lax.pmax)
        state = TrainState(
            step=state.step + 1,
            skipped=state.skipped + jnp.where(finite, 0, 1).astype(state.skipped.dtype),
            params=params,
            batch_stats=jax.tree.map(
                lambda new, old: jnp.where(finite, new, old), batch_stats, state.batch_stats
            ),
            opt_state=opt_state,
        )
        return state, metrics

    return step


def create_train_state(
    variables: Mapping[str, Any], optimizer: optax.GradientTransformation
) -> TrainState:
    """The state before the first step."""
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        skipped=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables["batch_stats"],
        opt_state=optimizer.init(params),
    )


def optimizer_state_dict(state: TrainState) -> dict[str, Any]:
    """What a checkpoint keeps beside the variables: counters and moments as nested dicts."""
    return {
        "step": np.asarray(state.step),
        "skipped": np.asarray(state.skipped),
        "opt_state": serialization.to_state_dict(state.opt_state),
    }


def restore_train_state(
    shapes: Mapping[str, Any], optimizer: optax.GradientTransformation, checkpoint: Checkpoint
) -> TrainState:
    """The state as it was when saved.

    Args:
      shapes: variables of the same model, or their shapes (`variable_shapes`); values ignored.
      optimizer: the same kind of optimiser.
      checkpoint: from `Checkpoints.restore_latest`.

    Raises:
      CheckpointError: the checkpoint has no optimiser, or belongs to another model; names the
        first arrays that differ.
    """
    saved = checkpoint.optimizer
    if saved is None:
        raise CheckpointError(
            f"the checkpoint of step {checkpoint.step} holds a model without its optimiser; "
            "train in a fresh --workdir and give the model as train.initial_checkpoint"
        )
    template = jax.eval_shape(lambda variables: create_train_state(variables, optimizer), shapes)
    variables = checkpoint.variables
    return TrainState(
        step=jnp.asarray(saved["step"]),
        skipped=jnp.asarray(saved["skipped"]),
        params=fill(template.params, variables["params"], "params"),
        batch_stats=fill(template.batch_stats, variables.get("batch_stats", {}), "batch_stats"),
        opt_state=fill(template.opt_state, saved["opt_state"], "opt_state"),
    )


def fill(template: Any, values: Mapping[str, Any], name: str) -> Any:
    """`values` in the structure of `template`; every leaf must be there with the same shape.

    Raises:
      CheckpointError: names up to five arrays that are missing, left over or of another shape.
    """
    nested = serialization.to_state_dict(template)
    wanted = traverse_util.flatten_dict(nested, keep_empty_nodes=True)
    given = traverse_util.flatten_dict(dict(values))
    leaves = {k: v for k, v in wanted.items() if v is not traverse_util.empty_node}
    wrong = [f"{'/'.join(k)} is missing" for k in leaves if k not in given]
    wrong += [f"{'/'.join(k)} is left over" for k in given if k not in leaves]
    wrong += [
        f"{'/'.join(k)} has shape {np.shape(given[k])}, wanted {np.shape(v)}"
        for k, v in leaves.items()
        if k in given and np.shape(given[k]) != np.shape(v)
    ]
    if wrong:
        raise CheckpointError(
            f"the checkpoint's {name} do not fit this model: {'; '.join(wrong[:5])}"
            + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        )
    filled = {k: given.get(k, v) for k, v in wanted.items()}
    return serialization.from_state_dict(template, traverse_util.unflatten_dict(filled))
