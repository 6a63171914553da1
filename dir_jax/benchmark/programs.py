"""Our network's inference and training step, compiled, for every variant."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from dir_jax.benchmark import examples, stagewise
from dir_jax.benchmark.variants import Variant
from dir_jax.losses.terms import loss_terms
from dir_jax.models.network import DIR, create_model
from dir_jax.training.state import TrainState, create_train_state, make_optimizer
from dir_jax.training.step import make_loss, make_train_step

LEARNING_RATE = 3e-4


@dataclasses.dataclass(frozen=True)
class Program:
    """Something compiled.

    Attributes:
      run: runs it once; returns when it is done.
      compiled: its executables, for XLA's analysis.
      result: of the first run: name to array.
    """

    run: Callable[[], Any]
    compiled: tuple[Any, ...]
    result: dict[str, np.ndarray]


def with_fields(model: DIR, variant: Variant) -> DIR:
    """The model with a variant's switches."""
    return create_model(dataclasses.replace(model.config, **variant.fields), model.hands)


def build(model: DIR, variables: Any, variant: Variant, mode: str, batch: int) -> Program:
    """Compiles and runs once.

    Args:
      model: with the variant's switches (`with_fields`).
      variables: its weights, on the device.
      variant: how to run it.
      mode: "forward" or "train_step".
      batch: examples.
    """
    if mode == "train_step":
        return _training(model, variables, variant, batch)
    images, _ = examples.images_and_targets(model, batch)
    if variant.execution == "stages":
        run, compiled = stagewise.compile_stages(model, variables, images)
    else:
        program = jax.jit(model.apply).lower(variables, images).compile()
        run, compiled = (lambda: program(variables, images)), (program,)
    output = jax.block_until_ready(run())
    last = output.stages[-1]
    result = {name: getattr(last, name) for name in ("vertices_xyz", "vertices_uv", "offset")}
    result |= {"segmentation": output.segmentation, "dense": output.dense}
    return Program(lambda: jax.block_until_ready(run()), compiled, _numpy(result))


def _training(model: DIR, variables: Any, variant: Variant, count: int) -> Program:
    optimizer = make_optimizer(lambda step: LEARNING_RATE)
    if variant.execution == "labels":
        loss, batch = make_loss(model, model.hands, "released"), examples.raw_batch(count)
    else:
        loss, batch = _loss(model), examples.images_and_targets(model, count)
    step = make_train_step(loss, optimizer, lambda step: LEARNING_RATE)
    donated = () if variant.execution == "kept" else (0,)
    # Copied: donation takes the arrays away, and other variants need them.
    state = create_train_state(jax.tree.map(lambda leaf: leaf.copy(), variables), optimizer)
    compiled = jax.jit(step, donate_argnums=donated).lower(state, batch).compile()
    runner = _Training(compiled, state, batch)
    return Program(runner.run, (compiled,), _numpy(runner.run()))


class _Training:
    """Steps on and on from a state."""

    def __init__(self, compiled: Callable, state: TrainState, batch: Any):
        self._compiled, self._state, self._batch = compiled, state, batch

    def run(self) -> dict[str, jax.Array]:
        """One step; its loss terms."""
        self._state, metrics = self._compiled(self._state, self._batch)
        return jax.block_until_ready(metrics)


def _loss(model: DIR):
    """As `make_loss`, from images and labels that are ready: what the PyTorch code is given."""

    def loss(params, batch_stats, batch):
        images, targets = batch
        output, updates = model.apply(
            {"params": params, "batch_stats": batch_stats},
            images,
            train=True,
            mutable=["batch_stats"],
        )
        terms = loss_terms(output, targets, model.hands)
        return sum(terms.values()), (terms, updates["batch_stats"])

    return loss


def _numpy(tree: dict[str, jax.Array]) -> dict[str, np.ndarray]:
    return {name: np.asarray(value, np.float64) for name, value in tree.items()}


def difference(result: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """Largest difference of any array relative to that array's largest value."""
    return max(
        float(np.abs(result[name] - other[name]).max() / max(np.abs(other[name]).max(), 1e-30))
        for name in other
    )
