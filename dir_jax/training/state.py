"""What training carries from step to step, and the optimiser that changes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import serialization, struct, traverse_util

from dir_jax.training.adam import scale_by_adam
from dir_jax.weights.checkpoints import Checkpoint, CheckpointError


@struct.dataclass
class TrainState:
    """One run at one moment. Nothing in it is random: data and noise follow from seed and step.

    Attributes:
      step: () int32, batches seen.
      skipped: () int32, those of them whose update was left out because it was not finite.
      params: trained parameters.
      batch_stats: running means and variances of the batch normalisations.
      opt_state: AdamW's state.
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


def cosine_schedule(learning_rate: float, steps: int, warmup_steps: int = 0) -> optax.Schedule:
    """Learning rate by step: an optional linear rise from 0, then a cosine to 0 at `steps`.

    The paper (section 4) and the released code end at 0; neither warms up.
    """
    if warmup_steps == 0:
        return optax.cosine_decay_schedule(learning_rate, steps)
    return optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup_steps, steps)


def make_optimizer(
    schedule: optax.Schedule,
    *,
    weight_decay: float = 0.01,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    """AdamW with torch's defaults (optax's own weight decay is a hundred times smaller).

    As in torch every parameter decays, biases and normalisation scales included, by
    learning rate x weight_decay. The state is `optax.adamw`'s. `update` takes `finite` (bool);
    when it is False the state stays as it is and the update is to be thrown away.
    """
    adamw = optax.chain(
        scale_by_adam(b1, b2, eps),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(schedule),
    )

    def update(gradients, state, params=None, *, finite: jax.typing.ArrayLike = True):
        updates, (adam, *counters) = adamw.update(gradients, state, params, finite=finite)
        counters = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old), counters, list(state[1:])
        )
        return updates, (adam, *counters)

    return optax.GradientTransformationExtraArgs(adamw.init, update)


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


def restore_train_state(template: TrainState, checkpoint: Checkpoint) -> TrainState:
    """The state as it was when saved.

    Args:
      template: a state of the same model and optimiser, values ignored.
      checkpoint: from `Checkpoints.restore_latest`.

    Raises:
      CheckpointError: the checkpoint has no optimiser, or belongs to another model; names the
        first arrays that differ.
    """
    if checkpoint.optimizer is None:
        raise CheckpointError(
            f"the checkpoint of step {checkpoint.step} holds a model without its optimiser; "
            "train in a fresh --workdir and give the model as train.initial_checkpoint"
        )
    saved = checkpoint.optimizer
    return TrainState(
        step=jnp.asarray(saved["step"]),
        skipped=jnp.asarray(saved["skipped"]),
        params=fill(template.params, checkpoint.variables["params"], "params"),
        batch_stats=fill(
            template.batch_stats, checkpoint.variables.get("batch_stats", {}), "batch_stats"
        ),
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
