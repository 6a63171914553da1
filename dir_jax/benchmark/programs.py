"""Our network's inference and training step: every variant that people ask the cost of, compiled.

Weights, images and labels are random, but the hands are in view. Each variant is checked against
the form that it stands for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util

from dir_jax.compare.samples import pseudo_images, pseudo_tensor, random_targets
from dir_jax.losses.terms import loss_terms
from dir_jax.models.config import ModelConfig, model_config
from dir_jax.models.network import DIR, create_model, initial_variables, normalise_images
from dir_jax.models.types import IMAGE_SIZE, Targets
from dir_jax.training.step import adamw, create_train_state, make_loss, make_train_step
from mano_jax import HandPair, matrix_from_axis_angle
from mano_jax.constants import SIDES

MODES = ("forward", "train_step")
LEARNING_RATE = 3e-4
FOCAL_PX = 500.0
DISTANCE = 0.7
"""Pixels and metres: a hand fills about half of the crop."""


class Variant(NamedTuple):
    """One way to run the network.

    Attributes:
      purpose: what it is for, one line.
      fields: of `ModelConfig`, over the model's own.
      against: fields of the model that it must equal (its own values, if any, aside).
      modes: where it makes sense.
      donate: whether a training step gives the old state's memory back.
      labels: whether a training step also poses, draws and normalises, as train.py's does.
      tolerance: largest difference of the outputs relative to their largest value; None where the
        arithmetic itself is another.
    """

    purpose: str
    fields: Mapping[str, Any] = {}
    against: Mapping[str, Any] = {}
    modes: tuple[str, ...] = MODES
    donate: bool = True
    labels: bool = False
    tolerance: float | None = 1e-4


_JOINT = {"planes": "joint"}
_TRAINING = ("train_step",)

VARIANTS = {
    "default": Variant("what train.py, evaluate.py and predict.py run"),
    "onehot": Variant(
        "bone planes built in full before the convolution: the oracle of the factored form",
        {"projection": "onehot"},
    ),
    "joint_factored": Variant(
        "the paper's joint planes, never built", {"projection": "factored"}, _JOINT
    ),
    "joint_onehot": Variant("joint planes by one-hot products", {"projection": "onehot"}, _JOINT),
    "joint_scatter": Variant("joint planes by scatter-add", {"projection": "scatter"}, _JOINT),
    "onehot_matmul": Variant(
        "features read at the joints by two matrix products, no indexed memory access",
        {"sampling": "onehot_matmul"},
    ),
    "map_coordinates": Variant(
        "features read by jax.scipy.ndimage", {"sampling": "map_coordinates"}
    ),
    "bfloat16": Variant(
        "half the memory traffic and tensor cores on GPUs; parameters and statistics in float32",
        {"precision": "bfloat16"},
        tolerance=None,
    ),
    "remat": Variant(
        "activations of the refinements computed twice instead of kept: larger batches",
        {"remat": True},
        modes=_TRAINING,
    ),
    "no_donation": Variant(
        "the old training state stays alive during the step", modes=_TRAINING, donate=False
    ),
    "labels": Variant(
        "the whole step of train.py: labels posed and drawn on the device as well",
        modes=_TRAINING,
        labels=True,
        tolerance=None,
    ),
}


def choose(names: list[str], mode: str) -> dict[str, Variant]:
    """The named variants that make sense in a mode, the default first.

    Raises:
      ValueError: a name that is not in `VARIANTS`.
    """
    names = list(VARIANTS) if names == ["all"] else ["default", *names]
    for name in names:
        if name not in VARIANTS:
            raise ValueError(f"variant {name!r} is unknown; wanted all, {', '.join(VARIANTS)}")
    return {name: VARIANTS[name] for name in names if mode in VARIANTS[name].modes}


def variant_model(
    config: ModelConfig | Mapping[str, Any], hands: HandPair, variant: Variant
) -> DIR:
    """The network of a configuration with a variant's switches."""
    changes = {**variant.against, **variant.fields}
    return create_model(dataclasses.replace(model_config(config), **changes), hands)


class Program(NamedTuple):
    """Something compiled.

    Attributes:
      run: runs it once; returns when it is done.
      compiled: the executable.
      result: of the first run: name to array.
    """

    run: Callable[[], Any]
    compiled: Any
    result: dict[str, np.ndarray]


def build(model: DIR, variables: Any, variant: Variant, mode: str, batch: int) -> Program:
    """Compiles and runs once.

    Args:
      model: with the variant's switches (`variant_model`).
      variables: its weights, on the device.
      variant: how to run it.
      mode: "forward" or "train_step".
      batch: examples.
    """
    compiled, arguments = compile_program(model, variables, variant, mode, batch)

    def step():
        nonlocal arguments
        state, batch = arguments
        state, metrics = compiled(state, batch)
        arguments = state, batch  # trains on and on
        return jax.block_until_ready(metrics)

    def inference():
        return jax.block_until_ready(compiled(*arguments))

    run = step if mode == "train_step" else inference
    result = run()
    if mode == "forward":
        maps = {"segmentation": result.segmentation, "dense": result.dense}
        names = ("vertices_xyz", "vertices_uv", "offset")
        result = maps | {name: getattr(result.stages[-1], name) for name in names}
    return Program(run, compiled, {n: np.asarray(v, np.float64) for n, v in result.items()})


def compile_program(
    model: DIR,
    variables: Any,
    variant: Variant,
    mode: str,
    count: int,
    options: Mapping[str, Any] | None = None,
) -> tuple[Any, tuple[Any, ...]]:
    """The executable of `build`, not run, and its arguments; options are XLA's."""
    if mode == "forward":
        arguments = (variables, images_and_targets(model, count)[0])
        return jax.jit(model.apply).lower(*arguments).compile(options), arguments
    optimizer = adamw(lambda step: LEARNING_RATE)
    if variant.labels:
        loss, batch = make_loss(model, model.hands, "released"), raw_batch(count)
    else:
        loss, batch = _loss(model), images_and_targets(model, count)
    step = make_train_step(loss, optimizer, lambda step: LEARNING_RATE)
    # Copied: donation takes the arrays away, and other variants need them.
    state = create_train_state(jax.tree.map(lambda leaf: leaf.copy(), variables), optimizer)
    donated = (0,) if variant.donate else ()
    lowered = jax.jit(step, donate_argnums=donated).lower(state, batch)
    return lowered.compile(options), (state, batch)


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


def difference(result: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """Largest difference of any array relative to that array's largest value."""
    return max(
        float(np.abs(result[name] - other[name]).max() / max(np.abs(other[name]).max(), 1e-30))
        for name in other
    )


def pseudo_variables(model: DIR) -> dict[str, Any]:
    """Fresh weights of any architecture, with biases that keep the hands in view, on the device."""
    flat = traverse_util.flatten_dict(jax.device_get(initial_variables(model, seed=0)))
    for path, value in flat.items():
        if path[-2:] == ("params", "bias"):
            sides = [f"{'.'.join(path)}.mano_{side}.bias" for side in SIDES]
            biases = [pseudo_tensor(name, value.shape[1:], in_norm=False) for name in sides]
            flat[path] = np.stack(biases)
    return jax.device_put(traverse_util.unflatten_dict(flat))


def images_and_targets(model: DIR, count: int) -> tuple[jax.Array, Targets]:
    """Normalised images (count, 256, 256, 3) and labels, float32, on the device."""
    images = jax.jit(normalise_images)(pseudo_images(count))
    targets, _, _ = random_targets(model.hands, 0, count)
    single = jax.tree.map(lambda a: a.astype(np.float32) if a.dtype.kind == "f" else a, targets)
    return images, jax.device_put(single)


def raw_batch(count: int) -> dict[str, jax.Array]:
    """A batch as `input_pipeline.batches` gives it, every other photograph mirrored."""
    generator = np.random.default_rng(0)
    centre = np.array([[-0.06, 0.0, DISTANCE], [0.06, 0.0, DISTANCE]])
    flip = np.arange(count) % 2 == 1
    motion = np.tile(np.eye(3), (count, 1, 1))
    motion[flip] = np.diag([-1, 1, 1])
    half = IMAGE_SIZE / 2
    numbers = {
        "global_orient": np.asarray(matrix_from_axis_angle(generator.normal(size=(count, 2, 3)))),
        "hand_pose": 0.4 * generator.normal(size=(count, 2, 15, 3)),
        "betas": generator.normal(size=(count, 2, 10)),
        "transl": centre + 0.02 * generator.normal(size=(count, 2, 3)),
        "motion": motion,
        "camera": np.tile([[FOCAL_PX, 0, half], [0, FOCAL_PX, half], [0, 0, 1]], (count, 1, 1)),
    }
    batch = {name: value.astype(np.float32) for name, value in numbers.items()}
    batch |= {"image": pseudo_images(count), "flip": flip}
    return jax.device_put(batch | {"hand_valid": np.ones((count, 2), bool)})
