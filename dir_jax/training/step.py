"""The optimiser, the training state and one step, a pure function of state and batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import serialization, struct
from ml_collections import ConfigDict

from dir_jax.losses.targets import targets_from_batch
from dir_jax.losses.terms import loss_terms
from dir_jax.models.layers import across_devices
from dir_jax.models.network import normalise_images
from dir_jax.weights import fill
from dir_jax.weights.checkpoints import Checkpoint, CheckpointError

# --- Optimiser ----------------------------------------------------------------------------------


def cosine_schedule(learning_rate: float, steps: int, warmup_steps: int = 0) -> optax.Schedule:
    """Learning rate by step: an optional linear rise from 0, then a cosine to 0 at `steps`.

    The paper (section 4) and the released code end at 0; neither warms up.
    """
    if warmup_steps == 0:
        return optax.cosine_decay_schedule(learning_rate, steps)
    return optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup_steps, steps)


def inverse_root_schedule(
    learning_rate: float, constant_steps: int, warmup_steps: int = 0
) -> optax.Schedule:
    """A linear rise, a plateau to `constant_steps`, then falling with 1 / sqrt(step).

    For runs whose end is not known beforehand.
    """

    def schedule(step):
        rise = jnp.minimum(1.0, (step + 1) / max(warmup_steps, 1))
        return learning_rate * rise * jnp.sqrt(constant_steps / jnp.maximum(step, constant_steps))

    return schedule


def make_schedule(config: ConfigDict, steps: int) -> optax.Schedule:
    """The learning rate that a recipe's group `optimizer` asks for, in a run of `steps`."""
    if config.schedule == "inverse_root":
        return inverse_root_schedule(
            config.learning_rate, config.constant_steps, config.warmup_steps
        )
    return cosine_schedule(config.learning_rate, steps, config.warmup_steps)


def adamw(
    schedule: optax.Schedule,
    *,
    encoder_factor: float = 1.0,
    weight_decay: float = 0.01,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
) -> optax.GradientTransformation:
    """`optax.adamw` with torch's defaults (optax's own weight decay is a hundred times smaller).

    As in torch every parameter decays, biases and normalisation scales included, by
    learning rate x weight_decay. The encoder's learning rate is `encoder_factor` times the others';
    of the landmark encoder that concerns MediaPipe's own weights only.
    """
    optimizer = optax.adamw(schedule, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay)
    if encoder_factor != 1:
        optimizer = optax.chain(
            optimizer, optax.masked(optax.scale(encoder_factor), pretrained_weights)
        )

    def init(params):
        """Zeros everywhere, by numpy: `jnp.zeros` compiles a program for every shape there is."""
        shapes = jax.eval_shape(optimizer.init, params)
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        return jax.device_put(zeros, may_alias=False)

    return optax.GradientTransformation(init, optimizer.update)


def pretrained_weights(params: Mapping[str, Any]) -> Any:
    """True for what may come with weights of its own, in the shape of `params`."""

    def is_pretrained(path, _):
        names = [part.key for part in path]
        own = "mediapipe" not in params["encoder"]
        return names[0] == "encoder" and (own or names[1] == "mediapipe")

    return jax.tree_util.tree_map_with_path(is_pretrained, params)


def update_if(
    finite: jax.Array,
    optimizer: optax.GradientTransformation,
    gradients: Any,
    params: Any,
    opt_state: optax.OptState,
) -> tuple[Any, optax.OptState]:
    """One update of any optimiser, or none at all.

    A CPU takes a branch: only then does XLA change Adam's moments where they lie in memory. With a
    selection it computes them once more for the parameters and copies both in every step (17
    million parameters: 224 ms and 70 MB instead of 126 ms and none). A GPU selects, because it
    would wait for the host to take a branch.

    Args:
      finite: () bool, whether to update.
      optimizer: any of optax's kind.
      gradients: like `params`.
      params: trained parameters.
      opt_state: the optimiser's state.

    Returns:
      params and opt_state after the update, or as they were.
    """

    def update(gradients, params, opt_state):
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    def keep(gradients, params, opt_state):
        del gradients
        return params, opt_state

    def branch(*arguments):
        return jax.lax.cond(finite, update, keep, *arguments)

    def select(*arguments):
        return jax.tree.map(
            lambda new, old: jnp.where(finite, new, old), update(*arguments), keep(*arguments)
        )

    return jax.lax.platform_dependent(gradients, params, opt_state, cpu=branch, default=select)


# --- State and step -----------------------------------------------------------------------------

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
    frozen: bool = False,
) -> Loss:
    """`loss(params, batch_stats, batch)` -> (total, (terms, new batch_stats)).

    Args:
      model: from `create_model`.
      hands: the `HandPair` that labels are posed with.
      recipe: which losses, see `dir_jax.loss_terms`.
      root_joint: the joint on which the model centres its meshes.
      frozen: whether the encoder's `pretrained_weights` stay as they are, and cost no gradient.
    """

    def loss(params, batch_stats, batch):
        if frozen:
            params = jax.tree.map(
                lambda value, stays: jax.lax.stop_gradient(value) if stays else value,
                params,
                pretrained_weights(params),
            )
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
      WeightsError: the checkpoint has no optimiser, or belongs to another model; names the first
        arrays that differ.
    """
    saved = checkpoint.optimizer
    where = f"the checkpoint of step {checkpoint.step}"
    if saved is None:
        raise CheckpointError(
            f"{where} holds a model without its optimiser; "
            "train in a fresh --workdir and give the model as train.initial_checkpoint"
        )
    template = jax.eval_shape(lambda variables: create_train_state(variables, optimizer), shapes)
    variables = fill(template.variables, checkpoint.variables, where)
    return template.replace(
        step=jnp.asarray(saved["step"]),
        skipped=jnp.asarray(saved["skipped"]),
        opt_state=fill(template.opt_state, saved["opt_state"], f"{where}, optimiser"),
        **variables,
    )
